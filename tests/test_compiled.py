"""What the calls into the compiled core promise beyond the case table of every backend."""

import pytest
import torch
from cases import ARGUMENTS, DTYPES, ORDERS, Case, assert_accurate, make_inputs

from fastkan import backends, ops

CASES = Case(70, 5, 33, row_weight=True), Case(9, 3, 64, grid_size=50, degree=2), Case(3, 9, 100)


@pytest.mark.skipif(backends.extension is None, reason="the compiled core is not built")
@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_16_bit_answer_is_the_float32_one_rounded_once(name, dtype, case):
    """Bit for bit: the case table's tolerance would let a truncated answer pass."""
    narrow = make_inputs(case, dtype)
    wide = {key: None if tensor is None else tensor.float() for key, tensor in narrow.items()}
    settings = case.degree, case.base, "cpu", *(1,) * ORDERS[name]
    answer, expected = (
        getattr(ops, name)(*[tensors[key] for key in ARGUMENTS[name]], tensors["knots"], *settings) for tensors in (narrow, wide)
    )
    assert answer.dtype == dtype and torch.equal(answer, expected.to(dtype))


@pytest.mark.skipif(backends.extension is None, reason="the compiled core is not built")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "case", [Case(2, 70, 100, grid_size=20, row_weight=True), Case(3, 5, 17, grid_size=40, degree=2)], ids=str
)
def test_few_rows_go_without_sorting(dtype, case):
    """The contract where forward reads weight rows where they lie: two chunks of inputs, blocks with padding, every order."""
    for nu in case.orders:
        samples = []
        for seed in case.draws:
            tensors = make_inputs(case, dtype, seed=seed)
            operands = [tensors[key] for key in ARGUMENTS["forward"]]
            samples.append((ops.forward(*operands, tensors["knots"], case.degree, case.base, "cpu", nu), tensors))
        assert_accurate("forward", case, samples, (nu,))
