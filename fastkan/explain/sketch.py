"""What the pictures of a KAN show: its edges as curves with the samples that they receive, its nodes, and where each is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastkan.nn import Columns, KANLinear, Products, edges
from fastkan.nn.grid import check_samples
from fastkan.nn.start import seeded

BINS = 32  # of the samples' density
POINTS = 4 * BINS + 1  # of a curve

# ---- the parts of a model


class Stage(NamedTuple):
    """A layer of edges and the nodes behind it: the first `sums` outputs, then products of the next `arities`."""

    layer: KANLinear
    sums: int
    arities: tuple[int, ...]


class Net(NamedTuple):
    """in_features of the model, which of them it takes, and its stages."""

    in_features: int
    columns: list[int]
    stages: list[Stage]


def _plain(layer: KANLinear) -> KANLinear:
    """A copy in float64 on the CPU, without hooks: what is drawn does not depend on dtype or device."""
    with seeded(0):
        copy = KANLinear(
            layer.in_features, layer.out_features, layer.bias is not None, layer.grid_size, layer.degree, layer.grid_range,
            layer.activation, dtype=torch.float64,
        )  # fmt: skip
    copy.load_state_dict(layer.state_dict())
    copy.set_spline_scale(None)
    return copy


def net(model: nn.Module, name: str = "model") -> Net:
    """The parts of a KANLinear, or of an nn.Sequential of KANLinear, Products and, in front, Columns.

    raises: TypeError for a model of other parts
    """
    modules = list(model) if isinstance(model, nn.Sequential) else [model]
    front = modules[0] if modules and isinstance(modules[0], Columns) else None
    stages: list[Stage] = []
    for module in modules[front is not None :]:
        if isinstance(module, KANLinear):
            stages.append(Stage(_plain(module), module.out_features, ()))
        elif isinstance(module, Products) and stages and not stages[-1].arities:
            stages[-1] = Stage(stages[-1].layer, module.sums, module.arities)
        else:
            raise TypeError(f"{name}: expected KANLinear layers with Products between them, received {type(module).__name__}")
    if not stages:
        raise TypeError(f"{name}: expected at least one KANLinear, received {type(model).__name__} without one")
    inputs = stages[0].layer.in_features
    return Net(front.in_features, front.index.tolist(), stages) if front else Net(inputs, list(range(inputs)), stages)


# ---- where each part is drawn

NODE = 0.4  # from the last box of a row or column to its node
STEP = 0.6  # from a node to what follows it


class Places(NamedTuple):
    """Where a layer's edges and nodes are drawn, in units of one edge's box; y points down.

    The inputs of every other layer are columns, and its outputs are rows; the next layer's inputs are then these rows. So the
    edges of a layer are a matrix of boxes, and lines run straight and never cross a box of other nodes.
    turned: the inputs are the rows
    inputs, outputs: along their axis
    ends, nodes: how far behind the boxes the edges are summed and the products taken; the same where there are none
    """

    turned: bool
    inputs: list[float]
    outputs: list[float]
    results: list[float]
    ends: float
    nodes: float

    def at(self, along_inputs: float, along_outputs: float) -> tuple[float, float]:
        """(x, y)."""
        return (along_outputs, along_inputs) if self.turned else (along_inputs, along_outputs)


def places(net: Net) -> list[Places]:
    found = []
    inputs, start = [k + 0.5 for k in range(len(net.columns))], 0.0
    for number, (layer, sums, arities) in enumerate(net.stages):
        outputs = [start + k + 0.5 for k in range(layer.out_features)]
        ends = max(inputs, default=0) + 0.5 + NODE
        nodes = ends + STEP if arities else ends
        limits = accumulate(arities, initial=sums)
        middles = [(outputs[first] + outputs[last - 1]) / 2 for first, last in pairwise(limits)]
        results = [*outputs[:sums], *middles]
        found.append(Places(number % 2 == 1, inputs, outputs, results, ends, nodes))
        inputs, start = results, nodes + STEP
    return found


# ---- the edges


def importance(layer: KANLinear, x: Tensor) -> Tensor:
    """How much every edge [I, O] varies over the samples x [B, I], relative to the edge of the layer that varies most."""
    deviations = edges.edge_deviations(layer, x)
    return deviations / deviations.max().clamp(min=torch.finfo(deviations.dtype).tiny) if deviations.numel() else deviations


def formula(name: str, affine: Sequence[float]) -> str:
    """c f(a x + b) + d as a reader writes it, with three digits."""
    a, b, c, d = (float(f"{value:.3g}") for value in affine)
    if name == "0":
        return f"{d:g}"
    inner = _sum(_times(a, "x"), b)
    bare = inner if inner.isalnum() and not inner[0].isdigit() else f"({inner})"
    shapes = {"x": inner if d == 0 and c == 1 else bare, "1/x": f"1/{bare}", "1/x**2": f"1/{bare}²", "gaussian": f"exp(-{bare}²)"}
    powers = {"x**2": "²", "x**3": "³", "x**4": "⁴"}
    outer = f"{bare}{powers[name]}" if name in powers else shapes.get(name, f"{name}({inner})")
    return _sum(_times(c, outer), d)


def _times(factor: float, text: str) -> str:
    return text if factor == 1 else f"-{text}" if factor == -1 else f"{factor:g} {text}"


def _sum(text: str, term: float) -> str:
    return text if term == 0 else f"{text} {'-' if term < 0 else '+'} {abs(term):g}"


@dataclass(frozen=True)
class LayerSketch:
    """One layer as it is drawn.

    samples [B, I] or None; t [T, I] the points of the curves; values [T, I, O]; density [BINS, I], 1 at the highest, or None;
    importance [I, O] from 0 to 1; alive [I, O]; formulas: {(i, o): text}
    """

    stage: Stage
    places: Places
    samples: Tensor | None
    t: Tensor
    values: Tensor
    density: Tensor | None
    importance: Tensor
    alive: Tensor
    formulas: dict[tuple[int, int], str]


@dataclass(frozen=True)
class Sketch:
    """A model as it is drawn: all layers, the names of the inputs it takes and of its outputs."""

    net: Net
    layers: list[LayerSketch]
    in_names: list[str]
    out_names: list[str]


def _names(argument: str, given: Sequence[str] | None, letter: str, count: int) -> list[str]:
    if given is None:
        return [f"{letter}{k}" for k in range(count)]
    if isinstance(given, str) or len(given) != count:
        raise ValueError(f"{argument}: expected {count} names, received {given!r}")
    return [str(name) for name in given]


def _range(layer: KANLinear, samples: Tensor | None) -> tuple[Tensor, Tensor]:
    """(low, high) of every input [I]: the grid, and the samples."""
    low, high = layer.knots[:, layer.degree], layer.knots[:, -1 - layer.degree]
    if samples is not None:
        low, high = torch.minimum(low, samples.amin(0)), torch.maximum(high, samples.amax(0))
    return low, high


def _sketch_layer(stage: Stage, spots: Places, samples: Tensor | None) -> LayerSketch:
    layer = stage.layer
    low, high = _range(layer, samples)
    t = low + (high - low) * torch.linspace(0, 1, POINTS, dtype=torch.float64)[:, None]
    density = None
    if samples is not None:
        cells = ((samples - low) / (high - low) * BINS).long().clamp(0, BINS - 1)
        density = torch.zeros(BINS, layer.in_features, dtype=torch.float64)
        density.scatter_add_(0, cells, torch.ones_like(samples))
        density /= density.amax(0)
    symbolic = layer.symbolic
    listed = [] if symbolic is None else zip(symbolic.edges, symbolic.affine.tolist(), strict=True)
    return LayerSketch(
        stage, spots, samples, t, edges.edge_values(layer, t), density, importance(layer, t if samples is None else samples),
        edges.alive(layer), {(i, o): formula(name, affine) for (i, o, name), affine in listed},
    )  # fmt: skip


@torch.no_grad()
def sketch(
    model: nn.Module,
    x: Tensor | None = None,
    in_names: Sequence[str] | None = None,
    out_names: Sequence[str] | None = None,
) -> Sketch:
    """A model with the samples x [..., I] that run through it; None: no samples, and curves over the grids.

    raises: TypeError, ValueError naming the argument
    """
    parts = net(model)
    last = parts.stages[-1]
    inputs = _names("in_names", in_names, "x", parts.in_features)
    outputs = _names("out_names", out_names, "y", last.sums + len(last.arities))
    samples = None if x is None else check_samples(x, parts.in_features).cpu()[:, parts.columns]
    if samples is not None and not (len(samples) and samples.isfinite().all()):
        raise ValueError(f"x: expected at least one row of finite numbers, received shape {tuple(samples.shape)}")
    layers = []
    for stage, spots in zip(parts.stages, places(parts), strict=True):
        layers.append(_sketch_layer(stage, spots, samples))
        if samples is not None:
            samples = Products(stage.sums, stage.arities)(stage.layer(samples))
    return Sketch(parts, layers, [inputs[column] for column in parts.columns], outputs)
