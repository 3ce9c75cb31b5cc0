"""Layers with features in every cell, and how far two of them are apart: for the tests of grids."""

import torch
from torch import nn

from fastkan import KANLinear
from fastkan.splines import knots as grids

DEGREES = range(1, 9)
UNIT = torch.finfo(torch.float64).eps


def random_layer(in_features=3, out_features=2, dtype=torch.float64, **settings):
    """Splines of unit coefficients, so that the function has features of every cell."""
    layer = KANLinear(in_features, out_features, dtype=dtype, **settings)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


@torch.no_grad()
def values(layer, x):
    return layer(x.to(next(layer.parameters()).dtype)).double()


def change(layer, other, x):
    """Largest difference of two layers on x, relative to the first's largest value."""
    before = values(layer, x)
    return float((values(other, x) - before).abs().max() / before.abs().max())


def on_grid(layer, count=400):
    points = grids.grid_points(layer.knots, layer.degree)
    return torch.lerp(points[:, 0], points[:, -1], torch.linspace(0, 1, count, dtype=points.dtype)[:, None])
