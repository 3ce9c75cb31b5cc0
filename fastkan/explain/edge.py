"""plot_edge: one edge of a KAN, its derivative and its samples."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fastkan.explain.plot import BEFORE, CURVE, DENSITY, FORMULA, PALE, figure, values_before
from fastkan.explain.sketch import BINS, LayerSketch, sketch
from fastkan.nn import edges

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_edge(
    model: nn.Module,
    layer: int,
    i: int,
    o: int,
    x: Tensor | None = None,
    *,
    before: nn.Module | None = None,
) -> "Figure":
    """Draws the edge from input i to output o of a layer, its derivative, and the density of its samples.

    layer: counts the KANLinear layers from 0
    The other arguments, what it returns and what it raises: as for plot.

    >>> import torch, fastkan
    >>> figure = fastkan.explain.plot_edge(fastkan.KAN([2, 5, 1]), 0, 1, 3, torch.rand(100, 2))
    """
    drawn = sketch(model, x)
    _check_index("layer", layer, len(drawn.layers))
    shown = drawn.layers[layer]
    _check_index("i", i, shown.alive.shape[0])
    _check_index("o", o, shown.alive.shape[1])
    picture = figure(5.4, 5.2 if x is not None else 4.6)
    heights = [3, 0.6, 1.6] if x is not None else [3, 1.6]
    upper, *middle, lower = picture.subplots(len(heights), sharex=True, height_ratios=heights)
    t, formula = shown.t[:, i], shown.formulas.get((i, o))
    colour = FORMULA if formula else CURVE
    if before is not None:
        upper.plot(t, values_before(before, drawn)[layer][:, i, o], "--", color=BEFORE, label="before")
    upper.plot(t, shown.values[:, i, o], color=colour, label="now")
    lower.plot(t, _slope(shown, i, o), color=colour)
    if middle and shown.density is not None:
        middle[0].stairs(shown.density[:, i], torch.linspace(float(t[0]), float(t[-1]), BINS + 1), fill=True, color=DENSITY)
        middle[0].set(ylabel="samples", yticks=[])
    if before is not None:
        upper.legend(frameon=False)
    upper.set(ylabel="value", title=f"layer {layer}, {i} → {o}" + (f":  {formula}" if formula else ""))
    lower.set(ylabel="derivative", xlabel=drawn.in_names[i] if layer == 0 else f"input {i} of layer {layer}")
    for axes in (upper, lower):
        axes.grid(color=PALE, linewidth=0.4)
    picture.align_ylabels()
    picture.set_layout_engine("constrained")
    return picture


def _check_index(name: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise ValueError(f"{name}: expected a whole number from 0 to {count - 1}, received {index!r}")


def _slope(layer: LayerSketch, i: int, o: int) -> Tensor:
    """The derivative of one edge at the layer's points [T], of splines and formulas alike."""
    t = layer.t[:, i].clone().requires_grad_()
    points = torch.zeros_like(layer.t)
    points[:, i] = t
    return torch.autograd.grad(edges.edge_values(layer.stage.layer, points)[:, i, o].sum(), t)[0]
