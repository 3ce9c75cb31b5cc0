"""Both gradients of a layer in one call: a backend may make them in one launch, which shows in nothing but the time."""

import os

import pytest
import torch
from contract.cases import CASES, Case, assert_accurate, make_inputs

import fastkan
from fastkan.backends.registry import replaced
from fastkan.ops.registration import raw_fused_gradients
from fastkan.ops.table import Wanted

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="runs the kernels in Triton's interpreter")
SMALL = [case for case in CASES if case.O < 70 and case.degree in (1, 3, 5)][:6]
LARGER_THAN_ITS_TILES = [Case(100, 10, 40, row_weight=True), Case(600, 3, 33)]  # more rows than one split takes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", SMALL + LARGER_THAN_ITS_TILES, ids=str)
def test_both_gradients(case, dtype):
    from fastkan.kernels.devices import INTERPRETER, Card, on

    draws = [make_inputs(case, dtype, seed=seed) for seed in case.draws]
    pairs = []
    for d in draws:
        settings = (d["knots"], case.degree, case.activation, "triton", 0)
        with torch.no_grad(), on(Card(INTERPRETER, 100)):  # so that rows are split
            operands = d["x"], d["weight"], d["grad_output"], d["row_weight"]
            pairs.append(raw_fused_gradients(*operands, *settings, Wanted(grad_input=True, grad_weight=True))[:2])
    assert_accurate("grad_input", case, list(zip([a for a, _ in pairs], draws, strict=True)), (1,))
    assert_accurate("grad_weight", case, list(zip([a for _, a in pairs], draws, strict=True)), (0,))


def test_backward_takes_them_together_and_a_graph_of_it_does_not():
    calls = []
    layer = fastkan.KANLinear(3, 2, backend="triton")
    x = torch.randn(5, 3, requires_grad=True)
    with replaced("triton", fused_gradients=lambda *arguments: calls.append(fused(*arguments)) or calls[-1]) as triton:
        fused = triton.fused_gradients
        layer(x).sum().backward()
        assert calls.pop() is not None
        (slope,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
        assert not calls  # the weight's gradient was not asked for
        torch.autograd.grad(layer(x).sum(), [x, layer.weight], create_graph=True)
        assert not calls
        slope.sum().backward()


def test_expanded_and_strided_cotangents():
    x = torch.randn(50, 5, dtype=torch.float64)
    layer = fastkan.KANLinear(5, 7, backend="triton").double()
    for g in (torch.ones(1, 1).double().expand(50, 7), torch.randn(7, 50).double().T, torch.randn(50, 14).double()[:, ::2]):
        answers = []
        for backend in ("triton", "reference"):
            layer.backend = backend
            leaf = x.clone().requires_grad_()
            answers.append(torch.autograd.grad(layer(leaf), [leaf, layer.weight], g))
        for answer, expected in zip(*answers, strict=True):
            torch.testing.assert_close(answer, expected, rtol=1e-12, atol=1e-12)
