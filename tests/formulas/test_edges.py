"""Splines become formulas and formulas splines again."""

import copy

import pytest
import torch

import fastkan
from fastkan.formulas import auto_symbolic, fix_symbolic, suggest_symbolic, unfix_symbolic

X = torch.rand(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


@pytest.fixture
def net():
    """exp of sin(3 a) + b^2, as splines."""
    made = fastkan.KAN([2, 1, 1], grid_size=40, dtype=torch.float64, grid_range=(-2.0, 3.0), seed=0)
    made[0].set_symbolic({(0, 0): ("sin", (3.0, 0, 1, 0)), (1, 0): ("x**2", (1.0, 0, 1, 0))})
    made[1].set_symbolic({(0, 0): ("exp", (0.5, 0, 2, 0))})
    for layer, i in ((0, 0), (0, 1), (1, 0)):
        assert unfix_symbolic(made, layer, i, 0) < 1e-4
    return made


def test_unfixed_edges_are_splines_of_nearly_the_same_function(net):
    assert all(layer.symbolic is None and layer.mask is None for layer in net.layers)
    want = 2 * torch.exp(0.5 * (torch.sin(3 * X[:, 0]) + X[:, 1] ** 2))
    torch.testing.assert_close(net(X)[:, 0], want, atol=1e-4, rtol=0)


def test_the_right_function_is_suggested_first(net):
    for (layer, i), name in {(0, 0): "sin", (0, 1): "x**2", (1, 0): "exp"}.items():
        for samples in (X, None):
            found = suggest_symbolic(net, layer, i, 0, samples)
            assert found[0].name in (name, "cos") and found[0].r2 > 1 - 1e-5
    assert "complexity" in repr(found) and len(repr(found).splitlines()) == len(found) + 1


def test_suggestions_can_be_of_some_functions(net):
    found = suggest_symbolic(net, 0, 1, 0, X, names=["x", "abs"])
    assert [one.name for one in found] == ["x", "abs"]  # it explains nothing, but is simple
    assert suggest_symbolic(net, 0, 1, 0, X, names=["x", "abs"], simple=0.1)[0].name == "abs"


def test_a_large_offset_counts_against_a_function(net):
    """A sine of a slight slope and an offset of hundreds imitates a square."""
    found = suggest_symbolic(net, 0, 1, 0, X)
    sine = next(one for one in found if one.name == "sin")
    assert sine.r2 > 0.999 and sine.cancels > 10 and found.index(sine) > 0


def test_an_edge_is_fixed(net):
    before = net(X)
    found = fix_symbolic(net, 0, 1, 0, "x**2", x=X)
    assert found.r2 > 1 - 1e-6 and net[0].symbolic.edges == [(1, 0, "x**2")] and not net[0].mask[1, 0]
    torch.testing.assert_close(net(X), before, atol=1e-3, rtol=0)
    fix_symbolic(net, 0, 0, 0, "sin", (3, 0, 1, 0), X)
    assert {edge[:2] for edge in net[0].symbolic.edges} == {(0, 0), (1, 0)}
    unfix_symbolic(net, 0, 1, 0)
    assert net[0].symbolic.edges == [(0, 0, "sin")]


def test_derivatives_of_any_order_of_a_layer_with_both(net):
    fix_symbolic(net, 0, 1, 0, "x**2", (1, 0, 1, 0), X)
    x = X[:5].clone().requires_grad_()
    assert torch.autograd.gradcheck(net, x) and torch.autograd.gradgradcheck(net, x)
    net.zero_grad()
    net(X).square().sum().backward()
    assert net[0].symbolic.affine.grad.abs().sum() > 0 and net[0].weight.grad[0].abs().sum() > 0


def test_a_pole_among_the_samples_is_refused_with_the_reason(net):
    state = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"1/x to be real and without poles for x from -0\.99.* received arguments from -0\.9"):
        fix_symbolic(net, 0, 0, 0, "1/x", (1, 0, 1, 0), X)
    with pytest.raises(ValueError, match="sqrt to be real"):
        fix_symbolic(net, 0, 0, 0, "sqrt", (1, 0.5, 1, 0), X)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state.items())
    fix_symbolic(net, 0, 0, 0, "sqrt", (1, 1.0, 1, 0), X)


def test_all_edges_at_once_and_a_fit_of_their_numbers(net):
    made = auto_symbolic(net, X)
    assert [(layer, i, found.name) for layer, i, _, found in made] == [(0, 0, "sin"), (0, 1, "x**2"), (1, 0, "exp")]
    y = 2 * torch.exp(0.5 * (torch.sin(3 * X[:, :1]) + X[:, 1:] ** 2))
    assert fastkan.fit(net, X, y).train < 1e-9
    assert auto_symbolic(net, X) == []
    fresh = fastkan.KAN([2, 1, 1], grid_size=40, dtype=torch.float64, grid_range=(-2.0, 3.0))
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(X), net(X))


def test_edges_that_nothing_fits_stay_splines():
    net = fastkan.KAN([1, 1], grid_size=20, dtype=torch.float64, seed=3)
    with torch.no_grad():
        net[0].weight.normal_(generator=torch.Generator().manual_seed(0))
    assert auto_symbolic(net, least=0.99) == [] and net[0].symbolic is None


def test_what_is_frozen_stays_frozen(net):
    net[0].set_symbolic({(0, 0): ("sin", (3.0, 0, 1, 0))})
    net[0].symbolic.requires_grad_(False)
    fix_symbolic(net, 0, 1, 0, "x**2", (1, 0, 1, 0))
    assert not net[0].symbolic.affine.requires_grad


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda net: suggest_symbolic(net, 2, 0, 0), "layer: expected 0 to 1, received 2"),
        (lambda net: suggest_symbolic(net, 0, 2, 0), "i, o: expected an input below 2"),
        (lambda net: suggest_symbolic(net, 0, 0, 0, names=[]), "names: expected at least one"),
        (lambda net: suggest_symbolic(net, 0, 0, 0, names=["sine"]), "received 'sine'"),
        (lambda net: suggest_symbolic(net, 0, 0, 0, X * torch.nan), "NaN"),
        (lambda net: fix_symbolic(net, 0, 0, 0, "sin", (1, 2)), "affine: expected a, b, c, d, received 2"),
        (lambda net: unfix_symbolic(net, 0, 0, 0), "expected an edge that is a formula"),
    ],
)
def test_bad_input(net, call, message):
    before = copy.deepcopy(net)
    with pytest.raises(ValueError, match=message):
        call(net)
    assert torch.equal(net(X), before(X))


def test_an_edge_that_is_gone(net):
    net[0].set_mask(torch.tensor([[True], [False]]))
    with pytest.raises(ValueError, match="which is gone"):
        suggest_symbolic(net, 0, 1, 0)
    assert [i for layer, i, *_ in auto_symbolic(net, X) if layer == 0] == [0]
