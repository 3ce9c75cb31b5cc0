"""auto_swap: the same function, at a smaller distance; the smallest for small layers."""

from itertools import permutations

import pytest
import torch

import fastkan
from fastkan.formulas import auto_swap
from fastkan.formulas.modules import _assigned
from fastkan.nn import Products
from fastkan.nn.edges import alive, present

D = torch.float64


def random_mask(shape, generator):
    return torch.rand(shape, generator=generator) < 0.4


def sparse(widths, seed, arity=2):
    net = fastkan.KAN(widths, arity=arity, dtype=D, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in net.layers:
        mask = random_mask((layer.in_features, layer.out_features), generator)
        layer.set_symbolic(
            {(0, 0): ("sin", (2, 0, 1, 0.5)), (layer.in_features - 1, layer.out_features - 1): ("x", (1, 0, 2, 0))}
        )
        layer.set_mask(mask & present(layer))
    return net


def distance(model):
    """As the definition says, in plain loops; factors belong to their products."""
    total, modules = 0.0, [*model]
    for k, layer in enumerate(modules):
        if isinstance(layer, Products):
            continue
        nodes = (
            modules[k + 1] if k + 1 < len(modules) and isinstance(modules[k + 1], Products) else Products(layer.out_features, ())
        )
        owners = [*range(nodes.sums)]
        for n, arity in enumerate(nodes.arities):
            owners += [nodes.sums + n] * arity
        for i, o in alive(layer).nonzero().tolist():
            total += abs((i + 0.5) / layer.in_features - (owners[o] + 0.5) / nodes.out_features)
    return total


def swapped(model, k, order):
    """The distance with hidden layer k in another order, by trying it out."""
    from copy import deepcopy

    from fastkan.formulas.modules import _reorder
    from fastkan.nn.stack import stages

    other = deepcopy(model)
    parts = stages(other)
    _reorder(parts[k], parts[k + 1], list(order))
    return distance(other)


WIDTHS = [[3, 4, 2], [4, 5, 3, 2], [3, (2, 2), (1, 3), 2], [6, 8, 7, 5], [2, 3], [5, (8, 2), 9, 1]]


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_same_function_at_a_smaller_distance(widths, seed):
    model = sparse(widths, seed)
    x = 2 * torch.rand(40, widths[0], dtype=D, generator=torch.Generator().manual_seed(seed)) - 1
    found = auto_swap(model)
    assert torch.allclose(found.model(x), model(x), rtol=0, atol=1e-13)
    assert found.distance == pytest.approx((distance(model), distance(found.model)), rel=1e-12)
    assert found.distance[1] <= found.distance[0]
    assert found.model.widths == model.widths
    assert [sorted(order) for order in found.permutations] == [list(range(len(order))) for order in found.permutations]
    again = auto_swap(found.model)
    assert again.distance[1] == pytest.approx(found.distance[1], rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_no_order_of_small_layers_is_better(seed):
    model = sparse([3, 4, 3, 2], seed)
    found = auto_swap(model)
    assert found.exact
    first = [(swapped(model, 0, order), order) for order in permutations(range(4))]
    assert found.distance[1] <= min(first)[0] + 1e-12
    from copy import deepcopy

    from fastkan.formulas.modules import _reorder
    from fastkan.nn.stack import stages

    best = float("inf")
    for a in permutations(range(4)):
        other = deepcopy(model)
        parts = stages(other)
        _reorder(parts[0], parts[1], list(a))
        best = min(best, *(swapped(other, 1, b) for b in permutations(range(3))))
    assert found.distance[1] == pytest.approx(best, rel=1e-12)


def test_no_order_of_one_large_layer_is_better():
    model = sparse([5, 8, 5], 0)
    found = auto_swap(model)
    assert not found.exact
    generator = torch.Generator().manual_seed(1)
    others = [swapped(model, 0, torch.randperm(8, generator=generator).tolist()) for _ in range(300)]
    assert found.distance[1] <= min(others)


def test_assignment_is_the_best():
    for seed in range(20):
        cost = torch.rand(6, 6, dtype=D, generator=torch.Generator().manual_seed(seed))
        best = min(sum(float(cost[p[k], k]) for k in range(6)) for p in permutations(range(6)))
        assert sum(float(cost[i, k]) for k, i in enumerate(_assigned(cost))) == pytest.approx(best, rel=1e-12)
    assert _assigned(torch.zeros(0, 0)) == []


def test_modules_come_apart():
    """Two functions of two inputs each: nodes 0, 2 belong to the first, 1, 3 to the second."""
    model = fastkan.KAN([4, 4, 2], dtype=D, seed=0)
    one, two = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 2, dtype=torch.bool)
    one[:2, [0, 2]] = one[2:, [1, 3]] = True
    two[[0, 2], 0] = two[[1, 3], 1] = True
    model.layers[0].set_mask(one)
    model.layers[1].set_mask(two)
    found = auto_swap(model)
    assert [sorted(found.permutations[0][:2]), sorted(found.permutations[0][2:])] == [[0, 2], [1, 3]]
    mask = found.model.layers[0].mask
    assert not mask[:2, 2:].any()
    assert not mask[2:, :2].any()


def test_samples_say_which_edges_count():
    model = fastkan.KAN([2, 2, 2], dtype=D, seed=0)
    model.layers[0].set_symbolic({(i, o): ("x", (1, 0, 1.0 if i != o else 0.01, 0)) for i in range(2) for o in range(2)})
    model.layers[1].set_symbolic({(i, o): ("x", (1, 0, 1.0 if i != o else 0.01, 0)) for i in range(2) for o in range(2)})
    x = 2 * torch.rand(100, 2, dtype=D) - 1
    assert auto_swap(model).permutations == [[0, 1]]  # all edges count the same: it stays
    assert auto_swap(model, x).permutations == [[1, 0]]


def test_model_before_and_its_settings_stay():
    model = sparse([3, (2, 2), 2], 1).eval()
    model.layers[1].weight.requires_grad_(False)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    found = auto_swap(model)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not found.model.layers[1].weight.requires_grad
    assert not found.model.training
    with pytest.raises(TypeError, match="KAN"):
        auto_swap(torch.nn.Linear(1, 1))
