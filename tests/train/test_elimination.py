"""What sparsify does with one start: edges held straight, a penalty, and edges that go one after another."""

import torch

from fastkan import KAN
from fastkan.nn.edges import edge_deviations
from fastkan.nn.stack import walk
from fastkan.train.elimination import Rows, count, eliminated, penalised, refit

torch.manual_seed(0)
X = torch.rand(300, 2, dtype=torch.float64) * 2 - 1
Y = torch.tanh(3 * X[:, :1] * X[:, 1:])
ROWS = Rows(X[:200], Y[:200], float(Y.std()))
HELD = Rows(X[200:], Y[200:], float(Y.std()))


def made(widths=(2, (0, 1), 1)):
    return KAN(widths, seed=0, dtype=torch.float64, activation="identity")


def bend(layer):
    """Of the coefficients of a spline, the largest second difference as a share of the largest first one."""
    splines = layer.weight[:, :-1]
    return (splines.diff(n=2, dim=1).abs().max() / splines.diff(dim=1).abs().max()).item()


def test_edges_held_straight():
    """tanh of a product needs a curve behind it, so a straight edge costs error."""
    model = made()
    refit(model, ROWS._replace(straight=[1]), 20, 1e-2)
    straight = HELD.error(model)
    assert bend(model.layers[1]) < 0.1 < bend(model.layers[0])
    refit(model, ROWS, 20, 1e-2)
    assert bend(model.layers[1]) > 0.2 and HELD.error(model) < 0.3 * straight


def test_the_penalty_lowers_deviations():
    sizes = []
    for lamb in (0.0, 0.1):
        model = made((2, 3, 1))
        refit(model, ROWS, 20, 1e-2, lamb=lamb)
        sizes.append(sum(edge_deviations(stage.layer, x).sum().item() for stage, x in walk(model, X)))
    assert sizes[1] < 0.8 * sizes[0]


def test_edges_go_one_after_another():
    y = X[:, :1] * X[:, 1:]
    rows, held = (Rows(x, z, float(y.std()), [1]) for x, z in ((X[:200], y[:200]), (X[200:], y[200:])))
    path = eliminated(penalised(made((2, (1, 1), 1)), rows), rows, held)
    edges = [candidate.edges for candidate in path]
    assert edges == sorted(set(edges), reverse=True) and edges[-1] == 3
    assert path[-1].error < 1e-3
    assert all(count(candidate.model) == candidate.edges for candidate in path)
