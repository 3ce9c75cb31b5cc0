"""sparsify: the edges that data ask for, and what it refuses."""

import pytest
import torch

from fastkan import KAN, KANLinear, sparsify
from fastkan.nn.edges import alive

torch.manual_seed(0)
X = torch.rand(400, 2, dtype=torch.float64) * 2 - 1
Y = torch.exp(torch.sin(torch.pi * X[:, :1]) + X[:, 1:] ** 2)


def made(widths=(2, 3, 1), **settings):
    return KAN(widths, seed=0, dtype=torch.float64, **settings)


def masks(model):
    return [alive(layer).int().tolist() for layer in model.layers]


def test_an_outer_function_of_a_sum():
    model = made()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small, candidates = sparsify(model, X, Y)
    assert small.widths == [2, 1, 1] and masks(small) == [[[1], [1]], [[1]]]
    assert (small(X) - Y).square().mean().sqrt() < 0.03 * Y.std()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    edges = [candidate.edges for candidate in candidates]
    assert edges == sorted(edges) and 3 in edges
    small(X).sum().backward()


def test_a_product():
    small, _ = sparsify(made((2, (2, 1), 1)), X, X[:, :1] * X[:, 1:])
    assert small.widths == [2, (0, 1), 1]
    assert (small(X)[:, 0] - X.prod(1)).abs().max() < 1e-8


def test_a_product_beside_a_sum():
    """Sums of curved functions imitate it; those beside products hid it from five of five seeds."""
    x = torch.rand(600, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    small, _ = sparsify(made((3, (3, 2), 1)), x, torch.sin(x[:, :1]) + torch.cos(x[:, 1:2]) * x[:, 2:])
    assert small.widths == [3, (1, 1), 1]
    first = masks(small)[0]
    assert sorted(map(sum, zip(*first, strict=True))) == [1, 1, 1] and [row[0] for row in first] == [1, 0, 0]


def test_a_sum_in_a_model_with_products():
    small, _ = sparsify(made((2, (3, 2), 1)), X, Y)
    assert small.widths == [2, 1, 1] and masks(small) == [[[1], [1]], [[1]]]


def test_a_function_of_a_product():
    small, _ = sparsify(made((2, (2, 1), 1)), X, torch.tanh(3 * X[:, :1] * X[:, 1:]), starts=1)
    assert small.widths == [2, (0, 1), 1] and sum(map(sum, masks(small)[0])) == 2


def test_a_product_as_output():
    small, _ = sparsify(made((2, (0, 1))), X, X[:, :1] * X[:, 1:])
    assert small.widths == [2, (0, 1)] and sorted(masks(small)[0]) == [[0, 1], [1, 0]]


def test_an_input_that_does_not_matter():
    x = torch.cat((X, X[:, :1].roll(1, 0)), 1)
    small, _ = sparsify(made((3, 1)), x, torch.sin(2 * x[:, :1]) + x[:, 1:2] ** 3)
    assert small.layers[0].in_features == 2
    assert small(x).shape == (400, 1)


def test_units_of_y_do_not_matter():
    small, _ = sparsify(made(), X, 1e4 * Y)
    assert small.widths == [2, 1, 1]


def test_two_outputs():
    both = torch.cat((X[:, :1] ** 2, X[:, 1:] ** 3), 1)
    small, _ = sparsify(made((2, 2)), X, both, starts=1)
    assert masks(small) == [[[1, 0], [0, 1]]]


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"model": made().float(), "x": X.float(), "y": Y.float()}, ValueError, "^model: expected one in float64"),
        ({"model": KANLinear(2, 1).double()}, TypeError, "^model: expected a fastkan.KAN"),
        ({"x": X[:4], "y": Y[:4]}, ValueError, "^x: expected at least 8 rows"),
        ({"x": X / 0}, ValueError, "^x: expected finite"),
        ({"y": Y[:, 0]}, ValueError, "^y: expected shape"),
        ({"starts": 0}, ValueError, "^starts: expected"),
    ],
)
def test_bad_input(changed, error, message):
    arguments = {"model": made(), "x": X, "y": Y, **changed}
    with pytest.raises(error, match=message):
        sparsify(**arguments)
