"""Layers and models made of weights that are there already: without initialisation, and without random numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastkan.nn.kan import KAN
from fastkan.nn.linear import KANLinear
from fastkan.nn.start import give_memory


def as_range(knots: Tensor, degree: int) -> tuple[float, float]:
    """What reset_parameters spreads the knots over, for knots [I, K]: from the lowest to the highest end of the grids."""
    if len(knots):
        low, high = float(knots[:, degree].min()), float(knots[:, -degree - 1].max())
        if low < high:
            return low, high
    return -1.0, 1.0


@torch.no_grad()
def make_layer(
    weight: Tensor,
    knots: Tensor,
    activation: str,
    bias: Tensor | None = None,
    dtype: torch.dtype | None = None,
    grid_range: tuple[float, float] | None = None,
) -> KANLinear:
    """A KANLinear of weight [I, M, O], knots [I, G + 2p + 1] and bias [O], which are copied.

    dtype: of the layer; None: the weight's
    raises: ValueError for knots that do not rise
    """
    if bad := (~(knots.diff(dim=1) > 0).all(1)).nonzero().flatten().tolist():
        raise ValueError(
            f"knots: expected finite ones that rise, received others for input {bad[0]} and {len(bad) - 1} more; "
            "peers compute no B-splines where knots are equal"
        )
    inputs, slots, outputs = weight.shape
    degree = knots.shape[1] - slots
    grid_range = as_range(knots, degree) if grid_range is None else grid_range
    layer = KANLinear(
        inputs, outputs, bias is not None, slots - degree - 1, degree, grid_range, activation,
        device="meta", dtype=dtype or weight.dtype,
    )  # fmt: skip
    give_memory(layer, weight.device)
    layer.weight.copy_(weight)
    layer.knots.copy_(knots)
    if layer.bias is not None and bias is not None:
        layer.bias.copy_(bias)
    return layer


def make_kan(modules: Sequence[nn.Module]) -> KAN:
    """A KAN of these modules: Columns, KANLinear and Products."""
    model = KAN.__new__(KAN)
    nn.Sequential.__init__(model, *modules)
    return model
