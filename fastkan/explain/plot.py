"""plot and plot_edge: a KAN and one of its edges as matplotlib figures, without pyplot and its global state."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from fastkan.explain.sketch import BINS, LayerSketch, Sketch, net, sketch
from fastkan.nn import edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, CURVE, FORMULA, BEFORE, PALE, DENSITY = "#333333", "#1b4f9c", "#9c2f6b", "#d97b00", "#c4c4c4", "#a9cbee"
SIDE = 12  # inches of a figure at most, without the margins
READABLE = 0.34  # inches of a box that can show a curve
STRONGEST = 12  # edges that a summary shows
BOX = 0.84  # of the space of an edge


def figure(width: float, height: float) -> "Figure":
    """A figure of so many inches that notebooks show, though pyplot does not know it.

    raises: ImportError where there is no matplotlib
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'fastkan[explain]'") from error

    class Picture(Figure):
        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return Picture(figsize=(width, height), dpi=100)


def plot(
    model: nn.Module,
    x: Tensor | None = None,
    *,
    in_names: Sequence[str] | None = None,
    out_names: Sequence[str] | None = None,
    before: nn.Module | None = None,
) -> "Figure":
    """Draws every edge of a model as a curve; of a model with too many, how much each varies and the curves of the strongest.

    Inputs enter from above. An edge's box is where the line of its input meets the line of its output; at the line's end its
    edges are added (+) or multiplied (×). The next layer turns by 90 degrees. The stronger an edge, the darker: opacity is its
    standard deviation relative to the largest of its layer. Every curve has a scale of its own.
    model: a KAN, a KANLinear or an nn.Sequential of KANLinear, Products and Columns
    x: samples [..., I]. Their density is drawn in every box, and where an edge has none its curve is pale.
    in_names, out_names: of the inputs and outputs; None: x0, x1, ... and y0, y1, ...
    before: a model of the same widths, drawn dashed
    returns: a matplotlib Figure; save it with `savefig`
    raises: TypeError, ValueError naming the argument; ImportError without matplotlib

    >>> import torch, fastkan
    >>> model = fastkan.KAN([2, 5, 1])
    >>> figure = fastkan.explain.plot(model, torch.rand(100, 2), in_names=["mass", "speed"])
    """
    drawn = sketch(model, x, in_names, out_names)
    old = None if before is None else values_before(before, drawn)
    right, bottom = extent(drawn)
    unit = min(1.0, SIDE / max(right, bottom))
    summary = unit < READABLE
    left, top = 0.25, 0.45 + _rise(drawn.in_names, unit)
    turned, names = drawn.layers[-1].places.turned, drawn.out_names
    beside, below = (0.25 + _rise(names, unit), 0.5 + _rise(names, unit)) if turned else (0.3 + 0.1 * _longest(names), 0.25)
    width, height = left + right * unit + beside + 3.6 * summary, top + bottom * unit + below
    picture = figure(width, max(height, 7.0) if summary else height)
    width, height = picture.get_size_inches()
    axes = picture.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(-left / unit, (width - left) / unit), ylim=((height - top) / unit, -top / unit))
    _draw_lines(axes, drawn, unit)
    for number, layer in enumerate(drawn.layers):
        if summary:
            _draw_tiles(axes, layer)
        else:
            spots, other = layer.places, None if old is None else old[number]
            boxes = {
                (i, o): _box(layer, other, (i, o), *spots.at(spots.inputs[i], spots.outputs[o]), BOX)
                for i, o in layer.alive.nonzero().tolist()
            }
            _draw_boxes(axes, layer, boxes, unit, other)
    if summary:
        _draw_strongest(axes, drawn, old, unit, (width - left - 3.6) / unit)
    return picture


def values_before(before: nn.Module, drawn: Sketch) -> list[Tensor]:
    """The curves of another model at the same points [T, I, O], one a layer."""
    other = net(before, "before")
    shapes, expected = ([(*stage[1:], stage.layer.weight.shape[::2]) for stage in parts.stages] for parts in (other, drawn.net))
    if shapes != expected:
        raise ValueError(f"before: expected a model of the same widths, received {before}")
    with torch.no_grad():
        return [edges.edge_values(stage.layer, layer.t) for stage, layer in zip(other.stages, drawn.layers, strict=True)]


def extent(drawn: Sketch) -> tuple[float, float]:
    """(right, bottom) of all boxes and nodes."""
    corners = [layer.places.at(layer.places.nodes + 0.2, max(layer.places.outputs, default=0) + 0.5) for layer in drawn.layers]
    return max(x for x, _ in corners), max(y for _, y in corners)


# ---- lines, nodes and names


def _font(unit: float) -> float:
    return max(6.5, min(11.0, unit * 16))


def _longest(names: Sequence[str]) -> int:
    return max(map(len, names), default=0)


def _rise(names: Sequence[str], unit: float) -> float:
    """Inches that names over or under columns take when they are slanted, as they are where wider than a column; else 0."""
    width = _longest(names) * _font(unit) * 0.62 / 72
    return 0.75 * width if width > 0.95 * unit else 0.0


def _draw_lines(axes: "Axes", drawn: Sketch, unit: float) -> None:
    """The lines of inputs and outputs, and nodes at their ends."""
    from matplotlib.collections import LineCollection

    font = _font(unit)
    lines = []
    entry = -0.1
    for layer in drawn.layers:
        spots = layer.places
        far, near = max(spots.outputs, default=0), min(spots.inputs, default=0)
        lines += [(spots.at(k, entry), spots.at(k, far)) for k in spots.inputs]
        lines += [(spots.at(near, k), spots.at(spots.ends, k)) for k in spots.outputs]
        sums, arities = layer.stage.sums, layer.stage.arities
        _draw_nodes(axes, [spots.at(spots.ends, k) for k in spots.outputs], "+", unit)
        if arities:
            owners = [*range(sums), *(sums + k for k, arity in enumerate(arities) for _ in range(arity))]
            ends = zip(spots.outputs, owners, strict=True)
            lines += [(spots.at(spots.ends, k), spots.at(spots.nodes, spots.results[owner])) for k, owner in ends]
            _draw_nodes(axes, [spots.at(spots.nodes, k) for k in spots.results[sums:]], "×", unit)
        entry = spots.nodes
    axes.add_collection(LineCollection(lines, colors=PALE, linewidths=max(0.3, unit * 0.9), zorder=0))
    first, last = drawn.layers[0].places, drawn.layers[-1].places
    style: dict[str, Any] = {"fontsize": font, "color": INK, "zorder": 4}
    slanted = _rise(drawn.in_names, unit) > 0
    for k, name in zip(first.inputs, drawn.in_names, strict=True):
        axes.text(
            k,
            -0.16,
            name,
            ha="left" if slanted else "center",
            va="bottom",
            rotation=50 * slanted,
            rotation_mode="anchor",
            **style,
        )
    slanted = last.turned and _rise(drawn.out_names, unit) > 0
    for k, name in zip(last.results, drawn.out_names, strict=True):
        x, y = last.at(last.nodes + 0.3, k)
        ha, va = ("center" if last.turned and not slanted else "left"), ("top" if last.turned else "center")
        axes.text(x, y, name, ha=ha, va=va, rotation=-50 if slanted else 0, rotation_mode="anchor", **style)


def _draw_nodes(axes: "Axes", points: Sequence[tuple[float, float]], sign: str, unit: float) -> None:
    from matplotlib.collections import EllipseCollection

    size = 0.3
    circles = EllipseCollection(
        size, size, 0, units="xy", offsets=points, offset_transform=axes.transData, facecolors="white", edgecolors=INK,
        linewidths=max(0.3, unit * 0.9), zorder=3,
    )  # fmt: skip
    axes.add_collection(circles)
    if unit >= READABLE:
        for x, y in points:
            axes.text(x, y, sign, ha="center", va="center_baseline", fontsize=unit * 15, color=INK, zorder=4)


# ---- boxes with curves


class _Box(NamedTuple):
    """An edge's box: its middle, its size and what it shows. Curves come as values at the layer's points."""

    x: float
    y: float
    size: float
    middle: float  # of the values
    span: float
    text: str | None

    def curve(self, values: Tensor) -> Any:
        """Points [T, 2]; below a formula there is less room."""
        room, shift = (0.62, 0.1) if self.text else (0.84, 0.0)
        across = self.x + 0.92 * self.size * torch.linspace(-0.5, 0.5, len(values), dtype=torch.float64)
        return torch.stack((across, self.y + self.size * (shift - (values - self.middle) / self.span * room)), dim=-1).numpy()

    def steps(self, density: Tensor) -> Any:
        """The outline of a histogram on the bottom of the box [2 BINS + 2, 2]."""
        across = self.x + 0.92 * self.size * torch.linspace(-0.5, 0.5, BINS + 1, dtype=torch.float64).repeat_interleave(2)
        zero = density.new_zeros(1)
        up = 0.32 * torch.cat((zero, density.repeat_interleave(2), zero))
        return torch.stack((across, self.y + self.size * (0.5 - up)), dim=-1).numpy()

    def frame(self) -> list[tuple[float, float]]:
        return [(self.x + a * self.size, self.y + b * self.size) for a, b in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))]


def _box(layer: LayerSketch, old: Tensor | None, edge: tuple[int, int], x: float, y: float, size: float) -> _Box:
    curves = layer.values if old is None else torch.cat((layer.values, old))
    i, o = edge
    finite = curves[:, i, o][curves[:, i, o].isfinite()]
    low, high = (finite.min().item(), finite.max().item()) if len(finite) else (0.0, 0.0)
    widest = (layer.values.amax(0) - layer.values.amin(0)).nan_to_num(0, 0, 0).max().item()
    span = max(high - low, 0.05 * widest, 1e-12)  # an edge that hardly varies looks flat
    return _Box(x, y, size, (low + high) / 2, span, layer.formulas.get(edge))


def _draw_boxes(axes: "Axes", layer: LayerSketch, boxes: dict[tuple[int, int], _Box], unit: float, old: Tensor | None) -> None:
    from matplotlib.collections import LineCollection, PolyCollection

    width = max(0.6, unit * 1.7)
    frames = [box.frame() for box in boxes.values()]
    axes.add_collection(PolyCollection(frames, facecolors="white", edgecolors=PALE, linewidths=0.6, zorder=1))
    values = layer.values
    if layer.density is not None:
        steps = [box.steps(layer.density[:, i]) for (i, _), box in boxes.items()]
        axes.add_collection(PolyCollection(steps, facecolors=DENSITY, alpha=0.55, linewidths=0, zorder=2))
        whole = [box.curve(values[:, i, o]) for (i, o), box in boxes.items()]
        axes.add_collection(LineCollection(whole, colors=PALE, linewidths=0.8 * width, zorder=3))
        values = torch.where(supported(layer.density)[..., None], values, torch.nan)
    if old is not None:
        dashed = [box.curve(old[:, i, o]) for (i, o), box in boxes.items()]
        axes.add_collection(LineCollection(dashed, colors=BEFORE, linestyles="--", linewidths=0.7 * width, zorder=4))
    curves = [box.curve(values[:, i, o]) for (i, o), box in boxes.items()]
    colours = [FORMULA if box.text else CURVE for box in boxes.values()]
    shades = [0.18 + 0.82 * layer.importance[edge].item() for edge in boxes]
    axes.add_collection(LineCollection(curves, colors=colours, alpha=shades or None, linewidths=width, zorder=5))
    for box in boxes.values():
        if box.text:
            fitting = box.size * 0.94 * unit * 72 / (0.56 * len(box.text))  # points at which the text is as wide as the box
            shown, font = (box.text, min(8.0, fitting)) if fitting >= 4.2 else ("formula", 5.5)
            axes.text(box.x, box.y - 0.36 * box.size, shown, ha="center", va="center", fontsize=font, color=FORMULA, zorder=6)


def supported(density: Tensor) -> Tensor:
    """Which points of the curves have samples in a cell beside them [T, I]; bool."""
    cells = (density > 0).repeat_interleave(4, dim=0)
    outside = torch.zeros_like(cells[:1])
    return torch.cat((cells, outside)) | torch.cat((outside, cells))


# ---- the summary of a large model


def _draw_tiles(axes: "Axes", layer: LayerSketch) -> None:
    """A tile an edge, darker the more important."""
    from matplotlib.collections import PolyCollection

    spots = layer.places
    every = layer.alive.nonzero().tolist()
    frames = [_Box(*spots.at(spots.inputs[i], spots.outputs[o]), BOX, 0, 1, None).frame() for i, o in every]
    shades = [0.04 + 0.96 * layer.importance[i, o].item() for i, o in every]
    axes.add_collection(PolyCollection(frames, facecolors=CURVE, alpha=shades, linewidths=0, zorder=2))


def _draw_strongest(axes: "Axes", drawn: Sketch, old: list[Tensor] | None, unit: float, left: float) -> None:
    """The curves of the strongest edges of each layer in two columns that begin at x = left, and their numbers on the tiles."""
    each = max(1, STRONGEST // len(drawn.layers))
    size = 1.05 / unit
    axes.text(left, -0.16, "the strongest edges of each layer", fontsize=9, color=INK, va="bottom")
    number = 0
    for index, layer in enumerate(drawn.layers):
        order = torch.where(layer.alive, layer.importance, -1).flatten().argsort(descending=True, stable=True)
        before = None if old is None else old[index]
        boxes = {}
        for edge in order[: min(each, int(layer.alive.sum()))].tolist():
            i, o = divmod(edge, layer.alive.shape[1])
            x, y = left + (0.55 + number % 2 * 1.6) / unit, (0.8 + number // 2 * 1.4) / unit
            boxes[i, o] = _box(layer, before, (i, o), x, y, size)
            number += 1
            axes.text(x, y - 0.58 * size, f"{number}   layer {index}: {i} → {o}", fontsize=8, color=INK, ha="center", va="bottom")
            tile = layer.places.at(layer.places.inputs[i], layer.places.outputs[o])
            axes.text(*tile, str(number), fontsize=6, color="white", ha="center", va="center_baseline", zorder=6)
        _draw_boxes(axes, layer, boxes, 1.05, before)
