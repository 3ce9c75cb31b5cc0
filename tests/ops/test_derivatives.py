"""Differentiation: gradients of every order, reverse and forward, for each tensor of each operation, with awkward cotangents."""

import itertools

import pytest
import torch
from contract.cases import Case, make_inputs

import fastkan
from fastkan import ops, reference
from fastkan.ops import OPERATIONS

SMALL = Case(3, 2, 2, grid_size=3, degree=4, knots="spread", activation="silu", row_weight=True)
TIGHT = {"atol": 1e-7, "rtol": 1e-5}


def operation(name, case, orders, backend, source=ops):
    """(function of the op's tensors, those tensors requiring grad, moved off the knots where derivatives jump)."""
    tensors = make_inputs(case)
    tensors["x"] = tensors["x"] + 0.0123
    operands = [tensors[k].clone().requires_grad_() for k in OPERATIONS[name].tensors]
    settings = (tensors["knots"], case.degree, case.activation)
    if source is ops:
        settings += (backend,)
    return (lambda *operands: getattr(source, name)(*operands, *settings, *orders)), operands


def nus(name):
    return [(0,), (1,), (2,)] if len(OPERATIONS[name].orders) == 1 else [(0, 0), (1, 0), (0, 1)]


CALLS = [(name, orders) for name in OPERATIONS for orders in nus(name)]


@pytest.mark.parametrize("name, orders", CALLS)
def test_gradcheck(name, orders, backend):
    function, operands = operation(name, SMALL, orders, backend)
    assert torch.autograd.gradcheck(function, operands, check_forward_ad=True, check_batched_grad=True, **TIGHT)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradgradcheck(name, backend):
    function, operands = operation(name, SMALL, (0,) * len(OPERATIONS[name].orders), backend)
    assert torch.autograd.gradgradcheck(function, operands, gen_non_contig_grad_outputs=True, check_fwd_over_rev=True, **TIGHT)


@pytest.mark.parametrize("activation", ["identity", "zero", "relu", "tanh", "gelu"])
def test_gradgradcheck_of_every_activation(activation, backend):
    case = Case(3, 2, 2, grid_size=3, degree=3, activation=activation)
    function, (x, weight, _) = operation(
        "forward", Case(3, 2, 2, grid_size=3, degree=3, activation=activation, row_weight=True), (0,), backend
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
@pytest.mark.parametrize("name", OPERATIONS)
def test_cotangents_of_any_stride(name, kind, backend):
    """First and second derivatives with a cotangent of odd strides equal those with its contiguous copy (gradcheck misses it)."""
    function, operands = operation(name, SMALL, (0,) * len(OPERATIONS[name].orders), backend)

    def derivatives(copy):
        torch.manual_seed(0)
        y = function(*operands)
        first = torch.autograd.grad(y, operands, copy(COTANGENTS[kind](y.detach())), create_graph=True)
        second = torch.autograd.grad(first, operands, [copy(COTANGENTS[kind](f.detach())) for f in first])
        return first + second

    for odd, contiguous in zip(derivatives(lambda t: t), derivatives(torch.Tensor.contiguous), strict=True):
        torch.testing.assert_close(odd, contiguous, rtol=1e-12, atol=1e-12)


FUSED = "fastkan::kan_linear_fused_gradients"


@pytest.mark.parametrize("needed", list(itertools.product([True, False], repeat=3))[:-1], ids=str)
def test_only_wanted_gradients_are_made(needed, backend):
    """One operation makes all that a backward pass needs: the fused one where it needs several gradients."""
    function, operands = operation("forward", SMALL, (0,), backend)
    operands = [t.detach().requires_grad_(need) for t, need in zip(operands, needed, strict=True)]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function(*operands).sum().backward()
    made = [event.name for event in profile.events() if event.name.startswith("fastkan::")]
    single = "fastkan::kan_linear_grad_weight" if needed[1] else "fastkan::kan_linear_grad_input"
    assert made == ["fastkan::kan_linear", FUSED if sum(needed) > 1 else single]
    assert [t.grad is not None for t in operands] == list(needed)


def test_a_gradient_not_asked_for_is_not_made(backend):
    """torch.autograd.grad(y, x) pays nothing for a weight that requires grad too, in first and second order."""
    function, (x, weight, r) = operation("forward", SMALL, (0,), backend)
    y = function(x, weight, r.detach())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        torch.autograd.grad(slope.sum(), x)
    assert [event.name for event in profile.events() if event.name.startswith("fastkan::")] == [
        "fastkan::kan_linear_grad_input"
    ] * 2


def test_second_derivatives_share_what_first_ones_share(backend):
    """A loss on the slope: its gradients by x and weight come from one call."""
    function, (x, weight, _) = operation("forward", SMALL, (0,), backend)
    (slope,) = torch.autograd.grad(function(x, weight, None).sum(), x, create_graph=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.autograd.grad(slope.square().sum(), (x, weight))
    assert [event.name for event in profile.events() if event.name.startswith("fastkan::")] == [FUSED]


@pytest.mark.parametrize("fixed", ["weight", "g", None])
def test_gradgradcheck_of_slopes(fixed, backend):
    """Where the weight takes no gradient, as in a PINN's derivatives, one node of their graph stands for two operations."""
    function, tensors = operation("grad_input", SMALL, (1,), backend)
    names = ("x", "weight", "g")
    free = [t for t, name in zip(tensors, names, strict=True) if name != fixed]

    def of_free(*given):
        given = list(given)
        return function(*(t.detach() if name == fixed else given.pop(0) for t, name in zip(tensors, names, strict=True)))

    assert torch.autograd.gradgradcheck(of_free, free, gen_non_contig_grad_outputs=True, check_fwd_over_rev=True, **TIGHT)


def test_derivatives_that_do_not_exist_raise(backend):
    """Order 9 of SiLU has no closed form: it raises where it is asked for, and only there."""
    function, (x, weight, _) = operation("forward", SMALL, (8,), backend)
    y = function(x, weight, None)
    torch.autograd.grad(y.sum(), weight, retain_graph=True)
    with pytest.raises(NotImplementedError, match="derivative order 8, received order 9"):
        y.sum().backward()
    knots = fastkan.splines.knots.uniform(2, 5, 3, (-1, 1)).requires_grad_()
    y = ops.forward(torch.zeros(1, 2).double(), torch.ones(2, 9, 1).double(), None, knots, 3, "silu", backend, 0)
    with pytest.raises(RuntimeError, match="knots take no gradient"):
        y.sum().backward()


@pytest.mark.parametrize("activation", ["silu", "gelu", "tanh"])
def test_a_loss_on_the_fourth_derivative_trains(activation, backend):
    """A beam: u'''' = load. Its gradients need order 5 of the activations; plain autograd through the reference has them too."""
    net = fastkan.KAN([1, 3, 1], grid_size=3, degree=5, activation=activation, backend=backend).double()
    x = torch.linspace(-0.9, 0.9, 7, dtype=torch.float64)[:, None].requires_grad_()

    def plain(x):
        for layer in net:
            x = reference.forward(x, layer.weight, None, layer.knots, 5, activation, 0)
        return x

    def gradients(function):
        u = function(x)
        for _ in range(4):
            (u,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return torch.autograd.grad((u - torch.cos(x.detach())).square().mean(), list(net.parameters()))

    for ours, expected in zip(gradients(net), gradients(plain), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


def test_past_the_degree_is_zero_not_wrong(backend):
    """A cubic has no fourth derivative: exactly 0, also through nested autograd."""
    case = Case(5, 2, 3, degree=3, activation="zero", row_weight=True)
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


def test_a_frozen_weight_resized_after_forward_raises(backend):
    """It is saved as it is; autograd does not see `.data`, and a kernel would leave its memory."""
    layer = fastkan.KANLinear(3, 4, backend=backend).requires_grad_(False)
    x = torch.randn(5, 3, requires_grad=True)
    y = layer(x).sum()
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
