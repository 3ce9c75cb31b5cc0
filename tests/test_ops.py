"""Differentiation: gradients of every order, reverse and forward, for each tensor of each operation, with awkward cotangents."""

import itertools

import pytest
import torch
from cases import ARGUMENTS, ORDERS, Case, make_inputs

import fastkan
from fastkan import backends, ops, reference

SMALL = Case(3, 2, 2, grid_size=3, degree=4, knots="spread", base="silu", row_weight=True)
TIGHT = {"atol": 1e-7, "rtol": 1e-5}


def operation(name, case, orders, backend, source=ops):
    """(function of the op's tensors, those tensors requiring grad, moved off the knots where derivatives jump)."""
    tensors = make_inputs(case)
    tensors["x"] = tensors["x"] + 0.0123
    operands = [tensors[k].clone().requires_grad_() for k in ARGUMENTS[name]]
    settings = (tensors["knots"], case.degree, case.base)
    if source is ops:
        settings += (backend,)
    return (lambda *operands: getattr(source, name)(*operands, *settings, *orders)), operands


def nus(name):
    return [(0,), (1,), (2,)] if ORDERS[name] == 1 else [(0, 0), (1, 0), (0, 1)]


CALLS = [(name, orders) for name in ORDERS for orders in nus(name)]


@pytest.mark.parametrize("name, orders", CALLS)
def test_gradcheck(name, orders, backend):
    function, operands = operation(name, SMALL, orders, backend)
    assert torch.autograd.gradcheck(function, operands, check_forward_ad=True, check_batched_grad=True, **TIGHT)


@pytest.mark.parametrize("name", ORDERS)
def test_gradgradcheck(name, backend):
    function, operands = operation(name, SMALL, (0,) * ORDERS[name], backend)
    assert torch.autograd.gradgradcheck(function, operands, gen_non_contig_grad_outputs=True, check_fwd_over_rev=True, **TIGHT)


@pytest.mark.parametrize("base", ["identity", "zero", "relu", "tanh", "gelu"])
def test_gradgradcheck_of_every_base(base, backend):
    case = Case(3, 2, 2, grid_size=3, degree=3, base=base)
    function, (x, weight, _) = operation(
        "forward", Case(3, 2, 2, grid_size=3, degree=3, base=base, row_weight=True), (0,), backend
    )
    assert case.slots == weight.shape[1]
    assert torch.autograd.gradgradcheck(lambda x, w: function(x, w, None), (x, weight), **TIGHT)


@pytest.mark.parametrize("order", [3, 4])
def test_high_orders_are_those_of_the_reference(order, backend):
    """Nested gradients with create_graph against plain autograd through the reference, for x and for the weight."""
    gradients = []
    for source in (ops, reference):
        function, (x, weight, _) = operation("forward", SMALL, (0,), backend, source)
        value = function(x, weight, None).sin().sum()
        for k in range(order - 1):
            (slope,) = torch.autograd.grad(value, x, create_graph=True)
            value = (slope * torch.cos(x.detach() + k)).sum()
        gradients.append(torch.autograd.grad(value, (x, weight)))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


COTANGENTS = {
    "expanded": lambda y: torch.tensor(1.3, dtype=y.dtype).expand_as(y),
    "row": lambda y: torch.randn(1, *y.shape[1:], dtype=y.dtype).expand_as(y),
    "transposed": lambda y: torch.randn(y.shape[::-1], dtype=y.dtype).permute(*reversed(range(y.ndim))),
    "sliced": lambda y: torch.randn(*y.shape[:-1], 2 * y.shape[-1], dtype=y.dtype)[..., ::2],
    "offset": lambda y: torch.randn(y.numel() + 1, dtype=y.dtype)[1:].view(y.shape),
}


@pytest.mark.parametrize("kind", COTANGENTS)
@pytest.mark.parametrize("name", ORDERS)
def test_cotangents_of_any_stride(name, kind, backend):
    """First and second derivatives with a cotangent of odd strides equal those with its contiguous copy (gradcheck misses it)."""
    function, operands = operation(name, SMALL, (0,) * ORDERS[name], backend)

    def derivatives(copy):
        torch.manual_seed(0)
        y = function(*operands)
        first = torch.autograd.grad(y, operands, copy(COTANGENTS[kind](y.detach())), create_graph=True)
        second = torch.autograd.grad(first, operands, [copy(COTANGENTS[kind](f.detach())) for f in first])
        return first + second

    for odd, contiguous in zip(derivatives(lambda t: t), derivatives(torch.Tensor.contiguous), strict=True):
        torch.testing.assert_close(odd, contiguous, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("needed", list(itertools.product([True, False], repeat=3))[:-1], ids=str)
def test_only_wanted_gradients_are_made(needed, backend):
    raw_grad_weight, raw_grad_input = ops.raw["grad_weight"], ops.raw["grad_input"]
    function, operands = operation("forward", SMALL, (0,), backend)
    operands = [t.detach().requires_grad_(need) for t, need in zip(operands, needed, strict=True)]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function(*operands).sum().backward()
    made = [event.name for event in profile.events() if event.name.startswith("fastkan::") and event.name != "fastkan::forward"]
    provider = backends.select(backend, operands[0].device, operands[0].dtype, 3)
    swept = provider.sweep is not None and needed[2] and (needed[0] or needed[1])
    both = provider.gradients is not None and needed[0] and needed[1] and not swept
    together = ["fastkan::sweep"] * swept + ["fastkan::gradients"] * both
    alone_input = [raw_grad_input.name()] * (0 if swept else needed[0] + needed[2] - both)
    alone_weight = [raw_grad_weight.name()] * (0 if swept or both else needed[1])
    assert sorted(made) == sorted(together + alone_input + alone_weight)
    assert [t.grad is not None for t in operands] == list(needed)


def test_a_gradient_not_asked_for_is_not_made(backend):
    """torch.autograd.grad(y, x) pays nothing for a weight that requires grad too, in first and second order."""
    function, (x, weight, r) = operation("forward", SMALL, (0,), backend)
    y = function(x, weight, r.detach())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        torch.autograd.grad(slope.sum(), x)
    assert [event.name for event in profile.events() if event.name.startswith("fastkan::")] == ["fastkan::grad_input"] * 2


def test_second_derivatives_share_what_first_ones_share(backend):
    """A loss on the slope: its gradients by x and weight come from one pass where the backend makes both so."""
    function, (x, weight, _) = operation("forward", SMALL, (0,), backend)
    (slope,) = torch.autograd.grad(function(x, weight, None).sum(), x, create_graph=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.autograd.grad(slope.square().sum(), (x, weight))
    made = [event.name for event in profile.events() if event.name.startswith("fastkan::")]
    provider = backends.select(backend, x.device, x.dtype, 3)
    assert sorted(made) == (["fastkan::gradients"] if provider.gradients else ["fastkan::grad_input", "fastkan::grad_weight"])


@pytest.mark.parametrize("fixed", ["weight", "g", None])
def test_gradgradcheck_of_slopes(fixed, backend):
    """Where the weight takes no gradient, as in a PINN's derivatives, their graph holds Sweep, one node for two operations."""
    function, tensors = operation("grad_input", SMALL, (1,), backend)
    names = ("x", "weight", "g")
    free = [t for t, name in zip(tensors, names, strict=True) if name != fixed]

    def of_free(*given):
        given = list(given)
        return function(*(t.detach() if name == fixed else given.pop(0) for t, name in zip(tensors, names, strict=True)))

    assert torch.autograd.gradgradcheck(of_free, free, gen_non_contig_grad_outputs=True, check_fwd_over_rev=True, **TIGHT)


def residual(layer, x, kind):
    """A physics-informed loss: u_xx + u, a plain slope, or a third derivative."""
    u = layer(x).sin()
    for _ in range({"slope": 1, "second": 2, "third": 3}[kind]):
        (u,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return u.square().mean()


@pytest.mark.parametrize("kind", ["slope", "second", "third"])
@pytest.mark.parametrize("rows, widths", [(5, [2, 3, 1]), (600, [3, 17, 9, 2]), (40, [70, 4])])
def test_a_sweep_is_its_operations(rows, widths, kind, backend, monkeypatch):
    """Gradients of physics-informed losses with what a backend makes in one pass, and from single operations."""
    if backends.select(backend, torch.device("cpu"), torch.float64, 5).sweep is None:
        pytest.skip(f"{backend} has no sweep")
    torch.manual_seed(0)
    layer = fastkan.KAN(widths, degree=5, backend=backend).double()
    x = torch.randn(rows, widths[0], dtype=torch.float64, requires_grad=True)
    answers, made = [], []
    for single in (False, True):
        if single:
            monkeypatch.setattr(ops._closure, "sweep", None)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            answers.append(torch.autograd.grad(residual(layer, x, kind), (x, *layer.parameters())))
        made.append({event.name for event in profile.events()} & {"fastkan::sweep", "Sweep"})
    for together, alone in zip(*answers, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12 * float(alone.abs().max()))
    assert made == [{"fastkan::sweep"} | ({"Sweep"} if kind != "slope" else set()), set()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows, inputs, outputs", [(1100, 5, 3), (1100, 30, 17), (1100, 12, 515), (300, 70, 40)])
def test_a_sweep_is_the_same_for_any_number_of_threads(rows, inputs, outputs, dtype, backend):
    provider = backends.select(backend, torch.device("cpu"), dtype, 3)
    if provider.sweep is None:
        pytest.skip(f"{backend} has no sweep")
    torch.manual_seed(0)
    layer = fastkan.KANLinear(inputs, outputs, bias=False, dtype=dtype)
    x, r, g = (torch.randn(rows, width, dtype=dtype) for width in (inputs, inputs, outputs))
    threads, answers = torch.get_num_threads(), []
    for count in (1, 2, 3, 5):
        torch.set_num_threads(count)
        answers.append(provider.sweep(x, layer.weight.detach(), g, r, layer.knots, 3, "silu", 1, (True,) * 4))
    torch.set_num_threads(threads)
    for answer in answers[1:]:
        assert all(torch.equal(ours, first) for ours, first in zip(answer, answers[0], strict=True))


def test_derivatives_that_do_not_exist_raise(backend):
    """Order 5 of SiLU has no closed form: it raises where it is asked for, and only there."""
    function, (x, weight, _) = operation("forward", SMALL, (4,), backend)
    y = function(x, weight, None)
    torch.autograd.grad(y.sum(), weight, retain_graph=True)
    with pytest.raises(NotImplementedError, match="derivative order 4, received order 5"):
        y.sum().backward()
    knots = fastkan.grid.uniform(2, 5, 3, (-1, 1)).requires_grad_()
    y = ops.forward(torch.zeros(1, 2).double(), torch.ones(2, 9, 1).double(), None, knots, 3, "silu", backend, 0)
    with pytest.raises(RuntimeError, match="knots take no gradient"):
        y.sum().backward()


def test_past_the_degree_is_zero_not_wrong(backend):
    """A cubic has no fourth derivative: exactly 0, also through nested autograd."""
    case = Case(5, 2, 3, degree=3, base="zero", row_weight=True)
    function, (x, weight, _) = operation("forward", case, (0,), backend)
    value = function(x, weight, None).sum()
    for _ in range(4):
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        value = slope.sum()
    assert not slope.any()


def test_backward_twice_and_saved_tensors(backend):
    function, operands = operation("forward", SMALL, (0,), backend)
    y = function(*operands)
    first = torch.autograd.grad(y.sum(), operands, retain_graph=True)
    again = torch.autograd.grad(y.sum(), operands, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    with torch.no_grad():
        operands[1].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_torch_func(backend):
    """grad, vmap, jacrev, jacfwd over jacrev, per-sample gradients, ensembles; forward over forward is refused, not zero."""
    case = Case(4, 3, 2, grid_size=3, degree=5)
    tensors = make_inputs(case)
    x, weight, knots = tensors["x"] + 0.0123, tensors["weight"], tensors["knots"]

    def scalar(row, weight):
        return ops.forward(row[None], weight, None, knots, 5, "silu", backend, 0).sin().sum()

    expected = torch.stack([torch.autograd.functional.hessian(lambda r: scalar(r, weight), row) for row in x])
    for hessian in (torch.func.hessian(scalar), torch.func.jacrev(torch.func.jacrev(scalar))):
        torch.testing.assert_close(torch.func.vmap(hessian, (0, None))(x, weight), expected)
    per_sample = torch.func.vmap(torch.func.grad(scalar, argnums=1), (0, None))(x, weight)
    looped = torch.stack([torch.func.grad(scalar, argnums=1)(row, weight) for row in x])
    torch.testing.assert_close(per_sample, looped)
    ensemble = torch.func.vmap(scalar, (None, 0))(x[0], torch.stack([weight, 2 * weight]))
    torch.testing.assert_close(ensemble, torch.stack([scalar(x[0], weight), scalar(x[0], 2 * weight)]))
    _, tangent = torch.func.jvp(lambda x: scalar(x, weight), (x[0],), (torch.ones_like(x[0]),))
    torch.testing.assert_close(tangent, torch.func.grad(scalar)(x[0], weight).sum())
    with pytest.raises(NotImplementedError, match="forward mode over forward mode"):
        torch.func.jacfwd(torch.func.jacfwd(scalar))(x[0], weight)


def test_forward_mode_under_no_grad(backend):
    """A dual tensor must not lose its tangent in a raw op."""
    function, (x, weight, r) = operation("forward", SMALL, (0,), backend)
    with torch.no_grad(), torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.detach(), torch.ones_like(x))
        tangent = torch.autograd.forward_ad.unpack_dual(function(dual, weight, r)).tangent
    slope = torch.autograd.functional.jvp(lambda x: function(x, weight, r), x, torch.ones_like(x))[1]
    torch.testing.assert_close(tangent, slope)


def test_checkpoint_and_hooks(backend):
    layer = fastkan.KANLinear(3, 2, backend=backend).double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    direct = torch.autograd.grad(layer(x).square().sum(), x)
    replayed = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    assert torch.equal(direct[0], torch.autograd.grad(replayed.square().sum(), x)[0])


@pytest.mark.parametrize("change", ["refine", "weight"])
def test_a_frozen_weight_resized_after_forward_raises(change, backend):
    """It is saved as it is; autograd does not see `.data`, and a kernel would leave its memory."""
    layer = fastkan.KANLinear(3, 4, backend=backend).requires_grad_(False)
    x = torch.randn(5, 3, requires_grad=True)
    y = layer(x).sum()
    if change == "refine":
        layer.refine(11)
    else:
        layer.weight.data = torch.randn(1, 1, 1)
    with pytest.raises(RuntimeError, match=r"shapes: expected tensors of one layer of degree 3, received .*resized"):
        y.backward()


def test_a_trainable_weight_resized_after_forward_counts_as_it_was(backend):
    layer, x = fastkan.KANLinear(3, 4, backend=backend), torch.randn(5, 3, requires_grad=True)
    (expected,) = torch.autograd.grad(layer(x).sum(), x)
    y = layer(x).sum()
    layer.refine(11)
    assert torch.equal(torch.autograd.grad(y, x)[0], expected)


def test_quadratic_needs_a_square_form(backend):
    x, knots = torch.randn(5, 3), torch.linspace(-2, 2, 12).expand(3, -1)
    with pytest.raises(RuntimeError, match="shapes: expected"):
        ops.quadratic(x, torch.randn(3, 8, 9), knots, 3, "silu", backend, 0, 0)
