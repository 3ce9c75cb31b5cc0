"""Several gradients of one x in one call: what single operations give, and the node that second derivatives get."""

import itertools

import pytest
import torch
from contract.cases import Case, make_inputs

import fastkan
from fastkan import backends, ops
from fastkan.ops import routes

SMALL = Case(3, 2, 2, grid_size=3, degree=4, knots="spread", activation="silu", row_weight=True)
FUSED = "fastkan::kan_linear_fused_gradients"


@pytest.mark.parametrize("wanted", list(itertools.product([True, False], repeat=4))[:-1], ids=str)
def test_fused_gradients_are_their_operations(wanted, backend):
    """Every combination holds what is wanted and nothing else, whether the backend fuses it or not."""
    tensors = make_inputs(SMALL)
    x, weight, g, r = (tensors[name] for name in ("x", "weight", "grad_output", "row_weight"))
    s = (tensors["knots"], SMALL.degree, SMALL.activation, backend)
    single = (
        ops.grad_input(x, weight, g, *s, 2),
        ops.grad_weight(x, g, r, *s, 1),
        ops.grad_input(x, weight, g, *s, 1),
        ops.forward(x, weight, r, *s, 1),
    )
    made = torch.ops.fastkan.kan_linear_fused_gradients(x, weight, g, r, *s, 1, list(wanted))
    for ours, expected, want in zip(made, single, wanted, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-12, atol=1e-12) if want else not ours.numel()


def residual(layer, x, kind):
    """A physics-informed loss: u_xx + u, a plain slope, or a third derivative."""
    u = layer(x).sin()
    for _ in range({"slope": 1, "second": 2, "third": 3}[kind]):
        (u,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return u.square().mean()


@pytest.mark.parametrize("kind", ["slope", "second", pytest.param("third", marks=pytest.mark.proof)])
@pytest.mark.parametrize("rows, widths", [(5, [2, 3, 1]), (600, [3, 17, 9, 2]), (40, [70, 4])])
def test_fused_gradients_serve_a_residual(rows, widths, kind, backend, monkeypatch):
    """Gradients of physics-informed losses with what a backend makes in one pass, and from single operations."""
    torch.manual_seed(0)
    layer = fastkan.KAN(widths, degree=5, backend=backend).double()
    x = torch.randn(rows, widths[0], dtype=torch.float64, requires_grad=True)
    answers, made = [], []
    for single in (False, True):
        if single:
            monkeypatch.setattr(routes._closure, "fused_gradients", None)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            answers.append(torch.autograd.grad(residual(layer, x, kind), (x, *layer.parameters())))
        made.append({event.name for event in profile.events()} & {FUSED, "InputAndForward"})
    for together, alone in zip(*answers, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12 * float(alone.abs().max()))
    assert made == [{FUSED} | ({"InputAndForward"} if kind != "slope" else set()), set()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows, inputs, outputs", [(1100, 5, 3), (1100, 30, 17), (1100, 12, 515), (300, 70, 40)])
def test_fused_gradients_are_the_same_for_any_number_of_threads(rows, inputs, outputs, dtype, backend):
    fused_gradients = backends.select(backend, torch.device("cpu"), dtype, 3).fused_gradients
    if backend != "cpu":
        pytest.skip("only backend cpu computes with torch's threads and fuses")
    torch.manual_seed(0)
    layer = fastkan.KANLinear(inputs, outputs, bias=False, dtype=dtype)
    x, r, g = (torch.randn(rows, width, dtype=dtype) for width in (inputs, inputs, outputs))
    threads, answers = torch.get_num_threads(), []
    for count in (1, 2, 3, 5):
        torch.set_num_threads(count)
        answers.append(fused_gradients(x, layer.weight.detach(), g, r, layer.knots, 3, "silu", 1, (True,) * 4))
    torch.set_num_threads(threads)
    for answer in answers[1:]:
        assert all(torch.equal(ours, first) for ours, first in zip(answer, answers[0], strict=True))
