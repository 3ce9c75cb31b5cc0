"""Edges that are gone, edges that are formulas, and the statistics of edges."""

import copy
import pickle

import pytest
import torch

from fastkan import KAN, KANLinear
from fastkan.nn import FUNCTIONS, edges

torch.manual_seed(0)
X = torch.rand(200, 3, dtype=torch.float64) * 2 - 1
MASK = torch.tensor([[True, False], [True, True], [False, True]])
FORMULAS = {(0, 1): ("sin", (3.0, 0.5, 2.0, -1.0)), (2, 0): ("x**2", (1.0, 0.0, 1.0, 0.0))}


def made(**settings):
    return KANLinear(3, 2, dtype=torch.float64, **settings)


def test_gone_edges_stay_gone_in_training():
    layer = made()
    layer.set_mask(MASK)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        layer(X).square().sum().backward()
        optimizer.step()
    values = edges.edge_values(layer, X)
    assert (values[:, ~MASK] == 0).all()
    assert (layer.weight.transpose(1, 2)[~MASK] == 0).all()
    torch.testing.assert_close(values.sum(1) + layer.bias, layer(X))


def test_noise_on_a_gone_edge_is_not_seen():
    layer = made()
    layer.set_mask(MASK)
    before = layer(X)
    with torch.no_grad():
        layer.weight.add_(1.0 * ~MASK[:, None])
    assert torch.equal(layer(X), before)


def test_a_mask_taken_away_again():
    layer = made()
    layer.set_mask(MASK)
    layer.set_mask(None)
    assert layer.mask is None
    assert list(layer.state_dict()) == list(made().state_dict())


def test_formulas():
    layer = made()
    layer.set_symbolic(FORMULAS)
    values = edges.edge_values(layer, X)
    torch.testing.assert_close(values[:, 0, 1], 2 * (3 * X[:, 0] + 0.5).sin() - 1)
    torch.testing.assert_close(values[:, 2, 0], X[:, 2] ** 2)
    torch.testing.assert_close(values.sum(1) + layer.bias, layer(X))
    layer(X).sum().backward()
    assert layer.symbolic.affine.grad.abs().min() > 0
    layer.set_symbolic({})
    assert layer.mask is None and layer.symbolic is None and "symbolic" not in repr(layer)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function(name):
    layer = KANLinear(1, 1, bias=False, dtype=torch.float64)
    layer.set_symbolic({(0, 0): (name, (0.5, 0.6, 1.0, 0.0))})
    x = torch.linspace(-0.8, 0.6, 5, dtype=torch.float64)[:, None].requires_grad_()
    torch.testing.assert_close(layer(x), FUNCTIONS[name].call(0.5 * x + 0.6))
    if name not in ("0", "sign"):
        assert torch.autograd.gradgradcheck(layer, x)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_and_states(copied):
    net = KAN([3, 2, 1], dtype=torch.float64)
    net[0].set_mask(MASK)
    net[0].set_symbolic(FORMULAS)
    assert torch.equal(copied(net)(X), net(X))
    fresh = KAN([3, 2, 1], dtype=torch.float64)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(X), net(X))
    assert fresh[0].symbolic.edges == net[0].symbolic.edges
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), net(X))
    assert torch.autograd.gradgradcheck(net, X[:3].clone().requires_grad_())


def test_a_changed_grid_keeps_masks_and_formulas():
    net = KAN([3, 2, 1], dtype=torch.float64)
    net[0].set_mask(MASK)
    net[0].set_symbolic(FORMULAS)
    before = net(X)
    net.refine(10)
    torch.testing.assert_close(net(X), before)
    net.update_grid(X)
    torch.testing.assert_close(net(X), before, rtol=0.05, atol=0.05)
    assert (net[0].weight.transpose(1, 2)[~edges.present(net[0])] == 0).all()


@pytest.mark.parametrize("nu", [0, 1])
def test_edge_values_and_deviations(nu):
    layer = made()
    x = X.clone().requires_grad_()
    values = edges.edge_values(layer, x, nu)
    torch.testing.assert_close(
        values.sum((1, 2)).sum(), (layer(x) - layer.bias).sum() if not nu else torch.autograd.grad(layer(x).sum(), x)[0].sum()
    )
    if not nu:
        torch.testing.assert_close(edges.edge_deviations(layer, X), values.std(0, correction=0))
        torch.testing.assert_close(edges.edge_means(layer, edges.slot_moments(layer, X)), values.mean(0))


def test_deviations_have_gradients_and_zero_is_no_trap():
    layer = made()
    layer.set_mask(MASK)
    x = X[:20].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: edges.edge_deviations(layer, x)[MASK], x)
    edges.edge_deviations(layer, x).sum().backward()
    assert layer.weight.grad.isfinite().all() and x.grad.isfinite().all()


@pytest.mark.parametrize("mask, error", [(MASK.double(), TypeError), (None, None), (MASK.T, ValueError), ([[True]], TypeError)])
def test_wrong_masks(mask, error):
    layer = made()
    if error is None:
        layer.set_mask(mask)
        return
    with pytest.raises(error, match=r"^mask: expected"):
        layer.set_mask(mask)


@pytest.mark.parametrize(
    "formulas", [{(0, 0): ("sinus", (1, 0, 1, 0))}, {(3, 0): ("sin", (1, 0, 1, 0))}, {(0, 0): ("sin", (1, 0, 1))}]
)
def test_wrong_formulas(formulas):
    layer = made()
    with pytest.raises(ValueError, match=r"^formulas: expected"):
        layer.set_symbolic(formulas)
    assert layer.symbolic is None
