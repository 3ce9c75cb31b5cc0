"""Forward as exporters write it, against the numerical contract: the operation that runtimes without fastkan get."""

import pytest
import torch
from contract.cases import ALL_CASES, Case, assert_accurate, make_inputs

from fastkan import ops, reference
from fastkan.ops import exported
from fastkan.splines.activations import ACTIVATIONS

SPECIAL = Case(6, 3, 4)


@pytest.fixture(params=["apart", "together"])
def form(request, monkeypatch):
    monkeypatch.setattr(exported, "APART", 10**9 if request.param == "apart" else 0)


def run(case, tensors, nu):
    operands = [tensors[name] for name in ("x", "weight", "row_weight", "knots")]
    return ops.EXPORTED["forward"](*operands, case.degree, case.activation, "", nu)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("case", [case for case in ALL_CASES if case.B * case.I * case.O < 10_000], ids=str)
def test_accuracy(case, dtype):
    draws = [make_inputs(case, dtype, seed=seed) for seed in case.draws]
    for nu in case.orders:
        answers = [run(case, tensors, nu) for tensors in draws]
        assert all(answer.dtype == dtype for answer in answers)
        assert_accurate("forward", case, list(zip(answers, draws, strict=True)), (nu,))


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("special", [float("nan"), float("inf"), -float("inf"), 1e30, -3e4])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_infinity_and_far_away(activation, special):
    """As in the reference, and in no other row."""
    case = Case(6, 3, 4, activation=activation)
    tensors = make_inputs(case)
    clean = run(case, tensors, 0)
    tensors["x"][2, 1] = special
    y = run(case, tensors, 0)
    expected = reference.forward(tensors["x"], tensors["weight"], None, tensors["knots"], 3, activation, 0)
    torch.testing.assert_close(y[2], expected[2], equal_nan=True)
    assert torch.equal(torch.cat((y[:2], y[3:])), torch.cat((clean[:2], clean[3:])))
