"""Layers whose splines are held at 0 where x is 0 and scaled to their cells, and what they should give."""

import torch
from torch import nn

from fastkan import KANLinear
from fastkan.functional import kan_linear

RANGES = [(-1, 1), (-3, 3), (0.3, 2), (-1, 0), (0, 1), (5, 6)]  # with 0 inside, just outside, at an end, far away


def made(activation="identity", bias=True, grid_range=(-3.0, 3.0), trained=True, dtype=torch.float64, **settings):
    torch.manual_seed(0)
    layer = KANLinear.from_linear(nn.Linear(5, 4, bias, dtype=dtype), activation=activation, grid_range=grid_range, **settings)
    if trained:
        with torch.no_grad():
            layer.weight += 0.3 * torch.randn_like(layer.weight)
    return layer


def inputs(layer, rows=200):
    low, high = layer.grid_range
    torch.manual_seed(1)
    return (low + (high - low) * torch.rand(rows, 5, dtype=torch.float64)).to(layer.weight.dtype)


def by_definition(layer, x):
    """w b(x) + s sum_k theta_k (B_k(x) - B_k(0)), summed over the inputs, by the reference in float64."""
    weight = layer.weight.double().clone()
    weight[:, :-1] *= layer.scale.double()
    settings = {"degree": layer.degree, "activation": layer.activation, "backend": "reference"}
    y, zero = (kan_linear(t.double(), weight, layer.knots.double(), **settings) for t in (x, torch.zeros_like(x[:1])))
    return y - zero if layer.bias is None else y - zero + layer.bias.double()
