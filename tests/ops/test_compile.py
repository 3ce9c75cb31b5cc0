"""torch.compile, torch.export and opcheck: the ops as PyTorch's compilers see them."""

import pytest
import torch
from contract.cases import Case, make_inputs
from torch.library import opcheck

import fastkan
from fastkan import ops
from fastkan.ops import OPERATIONS

LAYOUTS = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.transpose(0, -1).contiguous().transpose(0, -1),
    "sliced": lambda t: t.repeat_interleave(2, -1)[..., ::2],
    "offset": lambda t: torch.cat((t.flatten()[:1], t.flatten()))[1:].view(t.shape),
}
CASES = [Case(4, 3, 2), Case(4, 3, 2, row_weight=True, degree=2, knots="spread"), Case(0, 3, 2), Case(1, 1, 1)]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
def test_opcheck(name, layout, case, dtype):
    """Schema, autograd registration, fake tensors and AOT dispatch, with and without gradients."""
    tensors = make_inputs(case, dtype)
    for requires_grad in (False, True):
        operands = [
            None if tensors[k] is None else LAYOUTS[layout](tensors[k]).detach().requires_grad_(requires_grad)
            for k in OPERATIONS[name].tensors
        ]
        if dtype == torch.bfloat16 and requires_grad:
            continue  # its AOT test compares gradients at a tolerance for float32
        opcheck(
            ops.raw[name], (*operands, tensors["knots"], case.degree, case.activation, "", *(0,) * len(OPERATIONS[name].orders))
        )


@pytest.mark.parametrize("name", OPERATIONS)
def test_fakes_know_the_two_dtypes_of_autocast(name):
    """x float32, weight and cotangents bfloat16: a fake of the other dtype would miscompile in silence."""
    case = Case(4, 3, 2, row_weight=True)
    tensors = make_inputs(case, torch.float32)
    tensors |= {key: tensors[key].bfloat16() for key in ("weight", "grad_output")}
    operands = [tensors[key] for key in OPERATIONS[name].tensors]
    arguments = (*operands, tensors["knots"], case.degree, case.activation, "", *(0,) * len(OPERATIONS[name].orders))
    opcheck(ops.raw[name], arguments, test_utils=("test_schema", "test_faketensor"))
    assert ops.raw[name](*arguments).dtype == (torch.bfloat16 if name in ("forward", "grad_weight") else torch.float32)


@pytest.mark.parametrize("dynamic", [False, True, None])
def test_fullgraph_forward_and_backward(dynamic):
    layer = fastkan.KAN([3, 4, 2]).double()
    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic)
    for rows in (5, 7, 11):
        x = torch.randn(rows, 3, dtype=torch.float64, requires_grad=True)
        gradients = [torch.autograd.grad(f(x).square().sum(), (x, *layer.parameters())) for f in (layer, compiled)]
        for ours, expected in zip(gradients[1], gradients[0], strict=True):
            torch.testing.assert_close(ours, expected)


def test_many_batch_sizes_recompile_at_most_twice():
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    layer = fastkan.KANLinear(3, 2)
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    for rows in range(2, 22):
        x = torch.randn(rows, 3)
        torch.testing.assert_close(compiled(x), layer(x))
    assert counter.frame_count <= 3


@pytest.mark.parametrize("setting", ["autocast", "backend", "inference"])
def test_fullgraph_under_settings(setting):
    layer = fastkan.KANLinear(3, 2)
    x = torch.randn(5, 3)
    contexts = {
        "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
        "backend": lambda: fastkan.use_backend("reference"),
        "inference": torch.inference_mode,
    }
    compiled = torch.compile(layer, fullgraph=True)
    with contexts[setting]():
        answer, expected = compiled(x), layer(x)
    assert answer.dtype == expected.dtype
    torch.testing.assert_close(answer, expected)


def test_pinn_residual_in_one_graph():
    """u'' inside the compiled function, its parameter gradients outside: the recipe of docs/design.md."""
    net = fastkan.KAN([2, 3, 1]).double()

    def residual(x):
        u = net(x).sum()
        (slope,) = torch.autograd.grad(u, x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope[:, 0].sum(), x, create_graph=True)
        return (curvature[:, 0] + slope[:, 1]).square().mean()

    x = torch.rand(6, 2, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(residual(x), list(net.parameters()))
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        loss = torch.compile(residual, fullgraph=True, backend="aot_eager")(x)
    for ours, wanted in zip(torch.autograd.grad(loss, list(net.parameters())), expected, strict=True):
        torch.testing.assert_close(ours, wanted)


def test_export_keeps_one_node_an_operation():
    layer = fastkan.KANLinear(3, 2)
    x = torch.randn(5, 3)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert calls.count(torch.ops.fastkan.kan_linear.default) == 1
    y = torch.randn(9, 3)
    torch.testing.assert_close(program.module()(y), layer(y))


def test_meta_tensors_give_shapes():
    layer = fastkan.KANLinear(3, 2, device="meta")
    assert layer(torch.empty(4, 7, 3, device="meta")).shape == (4, 7, 2)
