"""Models and samples for the tests of pruning."""

import torch
from torch import nn

from fastkan import KAN
from fastkan.nn import edges


def samples(rows=100, inputs=3, dtype=torch.float64):
    return torch.rand(rows, inputs, dtype=dtype, generator=torch.Generator().manual_seed(5)) * 2 - 1


def made(widths=(3, (2, 1), 2), seed=1, dtype=torch.float64, **arguments):
    """Edges that matter: splines of unit coefficients, of uneven size."""
    net = KAN(list(widths), dtype=dtype, seed=0, **arguments)
    generator = torch.Generator().manual_seed(seed)
    for layer in net.layers:
        nn.init.normal_(layer.weight, generator=generator)
        with torch.no_grad():
            layer.knots *= torch.linspace(1, 1.5, layer.in_features)[:, None]  # a grid of its own for each input
            layer.weight *= torch.logspace(0, -2, layer.out_features * layer.in_features).reshape(layer.in_features, 1, -1)
    return net


def cut(net, layer, pairs):
    """Take edges (input, output) out of a layer, with nothing left of them."""
    mask = edges.present(net.layers[layer])
    mask[tuple(zip(*pairs, strict=True))] = False
    net.layers[layer].set_mask(mask)
