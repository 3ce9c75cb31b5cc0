"""The row-by-row Jacobian against torch.func, for values and for residuals with derivatives of any order."""

import subprocess
import sys

import pytest
import torch
from torch.func import functional_call, jacrev, vmap

from fastkan import KAN
from fastkan.nn.jacobian import RowJacobian

torch.manual_seed(0)
X = torch.rand(9, 2, dtype=torch.float64) * 2.4 - 1.2


def slopes(y, x):
    return torch.autograd.grad(y.sum(), x, create_graph=True)[0]


def laplacian(net, x):
    x = x.clone().requires_grad_()
    first = slopes(net(x), x)
    return sum(slopes(first[:, i], x)[:, i] for i in range(2)) - net(x)[:, 0] ** 3


RESIDUALS = {
    "values": lambda net: [net(X) - 1],
    "slopes": lambda net: [slope(net)],
    "laplacian and border": lambda net: [laplacian(net, X), net(X[:4])],
    "third order": lambda net: [third(net)],
    "one layer twice": lambda net: [net(X) * net(X.flip(0))],
}


def slope(net):
    x = X.clone().requires_grad_()
    return slopes(net(x), x)


def third(net):
    x = X.clone().requires_grad_()
    y = net(x)
    for _ in range(3):
        y = slopes(y, x)[:, 0]
    return y


NETS = {
    "sums": lambda: KAN([2, 3, 1]),
    "two outputs": lambda: KAN([2, 3, 2]),
    "products": lambda: KAN([2, (2, 2), 1], degree=4),
    "biases": lambda: KAN([2, 3, 1], bias=True, activation="tanh"),
    "gone": lambda: masked(KAN([2, 3, 1])),
    "frozen": lambda: frozen(KAN([2, 3, 1], bias=True)),
    "many inputs": lambda: KAN([2, 9, 2, 1], grid_size=2, degree=5),
    "formulas": lambda: formulas(KAN([2, 3, 1], bias=True)),
    "formulas alone": lambda: formulas_alone(KAN([2, 2, 1])),
    "formulas frozen": lambda: formulas_frozen(KAN([2, 3, 1])),
}


def masked(net):
    net[0].set_mask(torch.tensor([[True, False, True], [False, True, True]]))
    return net


def frozen(net):
    net[0].weight.requires_grad_(False)
    net[1].bias.requires_grad_(False)
    return net


def formulas(net):
    """Beside splines, in both layers, and all numbers away from 0."""
    net[0].set_symbolic({(1, 0): ("sin", (1.3, 0.5, 2.0, -1.0)), (0, 2): ("exp", (0.7, 0.1, 0.4, 0.2))})
    net[1].set_symbolic({(1, 0): ("tanh", (0.9, -0.3, 1.5, 0.1))})
    return net


def formulas_alone(net):
    net[0].set_symbolic({(i, o): ("sin", (1.0 + i, 0.5 * o, 0.8, 0.1)) for i in range(2) for o in range(2)})
    net[1].set_symbolic({(0, 0): ("log", (0.3, 2.5, 1.1, 0.3)), (1, 0): ("x**3", (0.6, 0.2, 1.2, 0.4))})
    return net


def formulas_frozen(net):
    formulas(net)[0].symbolic.requires_grad_(False)
    return net


def dense(net, residuals):
    """The Jacobian by torch.autograd, a residual at a time, its columns as in RowJacobian."""
    jacobian = RowJacobian(net, lambda: residuals(net))
    parameters = [layer.get_parameter(name) for layer, name in jacobian.parameters]
    rows = []
    for term in residuals(net):
        for r in term.flatten():
            gradients = torch.autograd.grad(r, parameters, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([g.flatten() for g in gradients]))
    return torch.stack(rows)[:, jacobian.there]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("residuals", RESIDUALS)
def test_jacobian(net, residuals):
    torch.manual_seed(1)
    model = NETS[net]().double()
    jacobian = RowJacobian(model, lambda: RESIDUALS[residuals](model))
    made, values = [], []
    for term in jacobian.terms:
        for block, r in jacobian.blocks(term, rows=4):
            made.append(block)
            values.append(r)
    expected = torch.cat([term.flatten() for term in RESIDUALS[residuals](model)])
    torch.testing.assert_close(torch.cat(values), expected, rtol=1e-12, atol=1e-12)
    expected = dense(model, RESIDUALS[residuals])
    assert expected.shape[1] == jacobian.size
    torch.testing.assert_close(torch.cat(made), expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("residuals", ["values", "one layer twice"])
def test_from_what_the_layers_return(net, residuals):
    torch.manual_seed(1)
    model = NETS[net]().double()
    made, expected = (RowJacobian(model, lambda: RESIDUALS[residuals](model), plain=plain) for plain in (True, False))
    ((block, r),), ((whole, values),) = (j.blocks(j.terms[0], rows=len(X)) for j in (made, expected))
    torch.testing.assert_close(block, whole, rtol=1e-12, atol=1e-12 * whole.abs().max().item())
    assert torch.equal(r, values)


def test_every_third_row():
    torch.manual_seed(1)
    model = NETS["formulas"]().double()
    jacobian = RowJacobian(model, lambda: [model(X), model(X) ** 2])
    part = jacobian.every(3, 1)
    for whole, some in zip(jacobian.terms, part.terms, strict=True):
        ((expected, r),) = jacobian.blocks(whole, rows=9)
        ((block, values),) = part.blocks(some, rows=9)
        torch.testing.assert_close(block, expected[1::3], rtol=1e-13, atol=1e-13)
        assert torch.equal(values, r[1::3])


def test_agrees_with_torch_func():
    model = KAN([2, 3, 1], seed=0).double()
    jacobian = RowJacobian(model, lambda: [model(X)])
    ((block, _),) = jacobian.blocks(jacobian.terms[0], rows=len(X))
    whole = jacrev(lambda p: functional_call(model, p, (X,))[:, 0])({k: v.detach() for k, v in model.named_parameters()})
    torch.testing.assert_close(block, torch.cat([whole[k].flatten(1) for k, _ in model.named_parameters()], 1))


def test_a_vmap_over_weights_is_refused():
    """Its calls are several at once, and none of them is the layer's own."""
    model = KAN([2, 1], seed=0).double()
    scales = torch.tensor([1.0, 2.0], dtype=torch.float64)

    def scaled(scale, x):
        return functional_call(model, {"0.weight": scale * model[0].weight}, (x,))

    def residuals():
        return [vmap(scaled)(scales, torch.stack([X, 2 * X])).sum(0)]

    with pytest.raises(NotImplementedError, match="^residuals: expected one weight for all rows, received a vmap over weights"):
        RowJacobian(model, residuals)


def test_gradients_of_the_model_are_untouched():
    model = formulas(KAN([2, 3, 1], bias=True, seed=0)).double()
    model(X).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    RowJacobian(model, lambda: [model(X)])
    assert all(torch.equal(p.grad, b) for p, b in zip(model.parameters(), before, strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("net", ["sums", "formulas alone"])
@pytest.mark.parametrize("residual", [lambda y: y[:3], lambda y: y.mean(0, keepdim=True)])
def test_rows_that_are_lost_are_refused(residual, net):
    torch.manual_seed(1)
    model = NETS[net]().double()
    with pytest.raises(ValueError, match="^residual: expected a row for each of the 9 rows"):
        RowJacobian(model, lambda: [residual(model(X))])


@pytest.mark.parametrize("net", ["sums", "formulas alone"])
def test_rows_that_mix_are_refused(net):
    torch.manual_seed(1)
    model = NETS[net]().double()
    for residual in (lambda: [model(X) * model(X).flip(0)], lambda: [model(X) - model(X).mean(0)]):
        with pytest.raises(ValueError, match="^residual: expected row b to depend on row b alone"):
            RowJacobian(model, residual).check(residual)
    RowJacobian(model, lambda: [laplacian(model, X), model(X[:4])]).check(lambda: [laplacian(model, X), model(X[:4])])


def test_other_parameters_are_refused():
    with pytest.raises(ValueError, match="^model: expected weights, biases and formulas of.* received 1.weight"):
        RowJacobian(torch.nn.Sequential(KAN([2, 3]), torch.nn.Linear(3, 1)).double(), lambda: [])
    net = KAN([2, 2, 2]).double()
    net[1].weight = net[0].weight
    with pytest.raises(ValueError, match="that layers share"):
        RowJacobian(net, lambda: [])


def test_no_compiler_is_imported():
    """torch._dynamo takes 1.5 s, which the first fit of every program paid."""
    code = (
        "import sys, torch, fastkan; from fastkan.nn.jacobian import RowJacobian;"
        "net = fastkan.KAN([1, 1], backend='reference').double();"  # no emulated device is there
        "RowJacobian(net, lambda: [net(torch.ones(3, 1).double())]); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
