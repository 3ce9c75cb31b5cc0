"""Both gradients of a layer in one call: a backend may make them in one launch, and nobody may notice but by the clock."""

import os

import pytest
import torch
from cases import CASES, Case, assert_accurate, make_inputs

import fastkan
from fastkan import ops

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="runs the kernels in Triton's interpreter")
SMALL = [case for case in CASES if case.O < 70 and case.degree in (1, 3, 5)][:6]
LARGER_THAN_ITS_TILES = [Case(100, 10, 40, row_weight=True), Case(600, 3, 33)]  # more rows than one split takes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", SMALL + LARGER_THAN_ITS_TILES, ids=str)
def test_both_gradients(case, dtype, monkeypatch):
    from fastkan.kernels import tiles

    monkeypatch.setattr(tiles, "card", lambda device: tiles.Card(0, 100))  # so that rows are split
    draws = [make_inputs(case, dtype, seed=seed) for seed in case.draws]
    pairs = []
    for d in draws:
        settings = (d["knots"], case.degree, case.base, "triton", 0)
        with torch.no_grad():
            pairs.append(ops.gradients(d["x"], d["weight"], d["grad_output"], d["row_weight"], *settings))
    assert_accurate("grad_input", case, list(zip([a for a, _ in pairs], draws, strict=True)), (1,))
    assert_accurate("grad_weight", case, list(zip([a for _, a in pairs], draws, strict=True)), (0,))


def test_backward_takes_them_together_and_a_graph_of_it_does_not(monkeypatch):
    calls = []
    original = ops.gradients
    monkeypatch.setattr(ops._closure, "gradients", lambda *arguments: calls.append(original(*arguments)) or calls[-1])
    layer = fastkan.KANLinear(3, 2, backend="triton")
    x = torch.randn(5, 3, requires_grad=True)
    layer(x).sum().backward()
    assert calls.pop() is not None
    (slope,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    assert not calls  # the weight's gradient was not asked for
    torch.autograd.grad(layer(x).sum(), [x, layer.weight], create_graph=True)
    assert calls.pop() is None
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
