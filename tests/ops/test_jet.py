"""A layer's derivatives in one call: what single operations give, gradients of any order, and the calls that are not served."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import fastkan
from fastkan import KANLinear, backends, ops
from fastkan.backends import registry
from fastkan.dtypes import DTYPES

D = torch.float64
NAMES = ("x", "weight", "first", "second", "coefficients")
pytestmark = pytest.mark.skipif("cpu" not in backends.available(), reason="fastkan was built without its native module")


def make(rows, inputs, outputs, d=2, *, degree=3, grid=4, dtype=D, absent=()):
    """The inputs of a jet, two thirds of x inside the grid; first is absent where the directions are the unit vectors."""
    torch.manual_seed(rows + 10 * inputs + 100 * outputs + d)
    end, count = 1 + 2 * degree / grid, grid + 2 * degree + 1
    knots = torch.linspace(-end, end, count, dtype=D).expand(inputs, -1).clone()
    knots[:, degree + 1] += 0.1
    units = "first" in absent
    shapes = {
        "x": (rows, inputs), "weight": (inputs, grid + degree + 1, outputs), "first": (d, rows, inputs),
        "second": (rows, inputs), "coefficients": (inputs if units else d,),
    }  # fmt: skip
    tensors = {name: None if name in absent else torch.randn(shape, dtype=D) for name, shape in shapes.items()}
    tensors["x"] *= 0.9
    return ops.JetInputs(*(None if t is None else t.to(dtype) for t in (*tensors.values(), knots)))


def composed(inputs, degree, activation, backend):
    """The same from single operations."""
    x, weight, first, second, coefficients, knots = inputs
    s = (knots, degree, activation, backend)
    units = torch.eye(x.shape[1], dtype=x.dtype)[:, None].expand(-1, *x.shape)
    first = units if first is None else first
    squares = (first * first if coefficients is None else coefficients[:, None, None] * first * first).sum(0)
    along = torch.stack([ops.forward(x, weight, t, *s, 1) for t in first])
    curved = ops.forward(x, weight, squares, *s, 2)
    if second is not None:
        curved = curved + ops.forward(x, weight, second, *s, 1)
    return ops.forward(x, weight, None, *s, 0), along, curved


def in_one_call(inputs, degree, activation, backend):
    made = ops.jet(inputs, degree, activation, backend or "cpu")
    assert made is not None
    return made


def answers(run, inputs, degree=3, activation="silu", backend=""):
    """Outputs and gradients of a loss of all of them."""
    leaves = ops.JetInputs(*(t if t is None or k == 5 else t.clone().requires_grad_() for k, t in enumerate(inputs)))
    outputs = run(leaves, degree, activation, backend)
    torch.manual_seed(0)
    loss = sum((y * torch.randn(y.shape, dtype=D).to(y)).sum() for y in outputs)
    return [*outputs, *torch.autograd.grad(loss, [t for t in leaves[:5] if t is not None])]


def relative(found, expected):
    size = float(expected.detach().abs().max()) if expected.numel() else 0.0
    return float((found - expected).detach().abs().max()) / size if size else 0.0


SHAPES = [(40, 3, 5, 2), (300, 10, 1, 2), (7, 1, 3, 1), (33, 40, 33, 10), (5, 2, 64, 3), (17, 9, 6, 5)]
ABSENT = [names for n in range(4) for names in itertools.combinations(("first", "second", "coefficients"), n)]


@pytest.mark.parametrize("absent", ABSENT, ids=lambda names: "without " + " ".join(names) if names else "all")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_call_is_its_operations(shape, absent):
    inputs = make(*shape, absent=absent)
    for ours, expected in zip(answers(in_one_call, inputs), answers(composed, inputs, backend="reference"), strict=True):
        assert ours.shape == expected.shape and relative(ours, expected) < 1e-13


@pytest.mark.parametrize("degree", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("activation", ["silu", "gelu", "tanh", "relu", "identity", "zero"])
def test_degrees_and_activations(degree, activation):
    for outputs in (1, 7):
        inputs = make(50, 3, outputs, degree=degree)
        ours, expected = (answers(run, inputs, degree, activation) for run in (in_one_call, composed))
        assert all(relative(a, b) < 1e-12 for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_rounds_as_plain_pytorch_does(shape):
    """At most four times the error of the reference in float32, or of one that is as good as float32 gets."""
    inputs = make(*shape, dtype=torch.float32)
    exact = answers(composed, ops.JetInputs(*(t.double() for t in inputs)), backend="reference")
    found, plain = answers(in_one_call, inputs), answers(composed, inputs, backend="reference")
    for ours, own, expected in zip(found, plain, exact, strict=True):
        assert ours.dtype == torch.float32
        assert relative(ours, expected) < 4 * max(relative(own, expected), 2e-7)


@pytest.mark.parametrize("absent", [(), ("first",), ("second", "coefficients")], ids=str)
@pytest.mark.parametrize("outputs", [1, 5])
def test_gradients_of_any_order(outputs, absent):
    inputs = make(3, 2, outputs, absent=absent)
    present = [k for k in range(5) if inputs[k] is not None]

    def call(*tensors):
        filled = list(inputs)
        for k, t in zip(present, tensors, strict=True):
            filled[k] = t
        return in_one_call(ops.JetInputs(*filled), 3, "silu", "")

    leaves = [inputs[k].clone().requires_grad_() for k in present]
    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves, atol=1e-4)
    assert torch.autograd.gradcheck(call, leaves, check_batched_grad=True, fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("outputs", [1, 5])
def test_a_gradient_alone_is_as_among_all(outputs):
    inputs = make(60, 4, outputs)
    expected = dict(zip(NAMES, answers(in_one_call, inputs)[3:], strict=True))
    for name in NAMES:
        leaves = inputs._replace(**{name: getattr(inputs, name).clone().requires_grad_()})
        torch.manual_seed(0)
        outs = in_one_call(leaves, 3, "silu", "")
        loss = sum((y * torch.randn(y.shape, dtype=D)).sum() for y in outs)
        assert torch.equal(torch.autograd.grad(loss, getattr(leaves, name))[0], expected[name])


def test_strides_of_inputs_and_cotangents():
    inputs = make(20, 3, 4)
    strided = ops.JetInputs(*(t.mT.contiguous().mT if t.ndim > 1 else t.repeat_interleave(2)[::2] for t in inputs))
    assert not strided.x.is_contiguous() and not strided.coefficients.is_contiguous()
    assert all(relative(a, b) < 1e-13 for a, b in zip(answers(in_one_call, strided), answers(in_one_call, inputs), strict=True))
    wide = inputs._replace(first=inputs.first[:, :1].expand(-1, 20, -1))
    assert all(relative(a, b) < 1e-13 for a, b in zip(answers(in_one_call, wide), answers(composed, wide), strict=True))
    leaf = inputs.weight.clone().requires_grad_()
    for loss in (lambda y: y.sum(), lambda y: y.mT.sin().mT.sum(), lambda y: y[..., ::2].square().sum()):
        runs = (run(inputs._replace(weight=leaf), 3, "silu", "") for run in (in_one_call, composed))
        ours, expected = (torch.autograd.grad(sum(map(loss, outputs)), leaf)[0] for outputs in runs)
        assert relative(ours, expected) < 1e-13


@pytest.mark.parametrize("rows, inputs, outputs, d", [(0, 2, 3, 2), (3, 2, 0, 2), (0, 1, 1, 1)])
@pytest.mark.parametrize("absent", [(), ("first", "second", "coefficients")], ids=str)
def test_nothing_to_compute(rows, inputs, outputs, d, absent):
    given = make(rows, inputs, outputs, d, absent=absent)
    for ours, expected in zip(answers(in_one_call, given), answers(composed, given), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("outputs", [1, 5])
def test_nan_and_far_rows(outputs):
    """A NaN stays in its row, and in its input's gradient of the weight; infinity and knots are as in single operations."""
    inputs = make(9, 2, outputs)
    inputs.x[3, 1] = torch.nan
    inputs.x[4, 0], inputs.x[5], inputs.x[6, 1] = 1e6, inputs.knots[0, 4], -50
    for ours, expected in zip(answers(in_one_call, inputs), answers(composed, inputs, backend="reference"), strict=True):
        assert torch.equal(ours.isnan(), expected.isnan())
        assert relative(ours.nan_to_num(), expected.nan_to_num()) < 1e-12


def test_what_changed_in_between_raises():
    for name in NAMES:
        given = make(5, 2, 3)
        inputs = given._replace(x=given.x.clone().requires_grad_() * 1)
        value, *_ = in_one_call(inputs, 3, "silu", "")
        with torch.no_grad():
            getattr(inputs, name).mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.sum().backward()
    layer, x = KANLinear(2, 3, dtype=D, backend="cpu"), torch.rand(5, 2, dtype=D)
    layer.weight.requires_grad_(False)
    loss = fastkan.laplacian(torch.nn.Sequential(torch.nn.Linear(2, 2, dtype=D), layer), x).sum()
    layer.weight.data = torch.zeros(2, 12, 3, dtype=D)
    with pytest.raises(RuntimeError, match="changed between forward and backward"):
        loss.backward()


@pytest.mark.parametrize("shape", [(1100, 5, 1, 3), (1100, 30, 17, 2), (300, 70, 40, 2)], ids=str)
@pytest.mark.parametrize("dtype", [D, torch.float32], ids=str)
def test_any_number_of_threads_gives_the_same(shape, dtype):
    inputs, threads, found = make(*shape, dtype=dtype), torch.get_num_threads(), []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append(answers(in_one_call, inputs))
    torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other[:-1], found[0][:-1], strict=True))  # coefficients: torch's sums


# ---- which calls are served


def test_a_step_is_one_call_a_layer_and_pass():
    model, calls = fastkan.KAN([2, 4, 3, 1], dtype=D, backend="cpu"), []
    x = torch.rand(10, 2, dtype=D)
    own = registry.select("cpu", x.device, D, 3).jet

    def counted(name, run):
        return lambda *arguments: (calls.append(name), run(*arguments))[1]

    with registry.replaced("cpu", jet=backends.Jet(counted("f", own.forward), counted("b", own.gradients))):
        loss = fastkan.laplacian(model, x).sum()
        assert calls == ["f"] * 3
        loss.backward(retain_graph=True)
        assert calls == ["f"] * 3 + ["b"] * 3
        torch.autograd.grad(loss, list(model.parameters()), create_graph=True)  # to be differentiated: single operations
        assert len(calls) == 6


def refused(inputs, degree=3, activation="silu", backend="cpu"):
    return ops.jet(inputs, degree, activation, backend) is None


def test_other_calls_are_left_to_the_operations():
    inputs = make(4, 2, 3)
    assert not refused(inputs)
    assert refused(inputs, backend="reference")
    assert refused(ops.JetInputs(*(t.bfloat16() for t in inputs))) and refused(inputs._replace(weight=inputs.weight.float()))
    assert refused(inputs._replace(knots=inputs.knots.clone().requires_grad_()))
    assert refused(inputs._replace(x=inputs.x[0])) and refused(inputs._replace(x=inputs.x[:, :1]))
    assert refused(inputs._replace(coefficients=torch.ones(3, dtype=D)))
    assert refused(inputs._replace(x=inputs.x.to("meta")))
    with torch.autocast("cpu", torch.bfloat16):
        assert refused(inputs)
    with FlopCounterMode(display=False):
        assert refused(inputs)
    with torch.autograd.forward_ad.dual_level():
        assert refused(inputs)
    inside = []
    torch.func.vmap(lambda x: (inside.append(refused(inputs._replace(x=x))), x)[1])(inputs.x[None])
    assert inside == [True]
    assert {t for t in DTYPES if not refused(ops.JetInputs(*(v.to(t) for v in inputs)))} == {torch.float32, D}


def test_a_backward_pass_that_is_watched_is_made_of_operations():
    inputs = make(6, 2, 3)
    expected = answers(in_one_call, inputs)[3:]
    leaves = [t.clone().requires_grad_() for t in inputs[:5]]
    outputs = in_one_call(ops.JetInputs(*leaves, inputs.knots), 3, "silu", "")
    torch.manual_seed(0)
    loss = sum((y * torch.randn(y.shape, dtype=D)).sum() for y in outputs)
    with FlopCounterMode(display=False) as counter:
        found = torch.autograd.grad(loss, leaves)
    assert counter.get_total_flops()
    assert all(relative(a, b) < 1e-13 for a, b in zip(found, expected, strict=True))


def test_the_native_module_checks_what_it_is_given():
    inputs = make(4, 2, 3)
    addresses = [t.data_ptr() for t in inputs]
    y = torch.empty(4 * 3 * 4, dtype=D).data_ptr()
    sizes = [2, 4, 2, 3, inputs.knots.shape[1], 3, "silu", "float64", 1]

    def run(addresses=addresses, outputs=(y, y, y), **changes):
        own = [changes.get(f"size{k}", size) for k, size in enumerate(sizes)]
        backends.native.module.cpu_jet(*addresses, *outputs, *own)

    for message, changes in (
        ("weight must be the address", {"addresses": [addresses[0], 0, *addresses[2:]]}),
        ("y_first must be the address", {"outputs": (y, 0, y)}),
        (r"directions must be 2\.\.2, got 3", {"addresses": [*addresses[:2], 0, *addresses[3:]], "size0": 3}),
        ("dtype must be float32 or float64, got 'bfloat16'", {"size7": "bfloat16"}),
    ):
        with pytest.raises(ValueError, match=message):
            run(**changes)
