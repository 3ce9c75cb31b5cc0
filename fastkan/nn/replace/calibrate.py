"""Batches through a model: where every block's inputs are, and whether the model is the same after the exchange."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastkan.nn.grid import ranks
from fastkan.nn.linear import KANLinear
from fastkan.nn.replace.blocks import as_linear, inner, rows
from fastkan.nn.replace.exchange import Exchange
from fastkan.nn.replace.fused import Switch
from fastkan.nn.scaled import scale_for
from fastkan.nn.start import hold_linear, seeded
from fastkan.nn.watch import in_eager_mode
from fastkan.splines import knots as grids

# Standard deviations: a grid ends there if the function stays beyond it. One far value does not stretch its cells over nothing,
# and a feature that is active in one row of 256 is not cut off.
REACH = 16
MARGIN = 0.01  # how far the grid goes on past the inputs, as a share of their range
POINTS = 64  # stand for an input's range where the grid is laid
TF32 = 2.0**-10  # its rounding
UNSEEN = "no batch of calibrate reached it; its owner may read its .weight itself, or not use it"


class Range:
    """The least, largest, mean and deviation of every input of a block, kept in five numbers each whatever passes."""

    def __init__(self, features: int, device: torch.device) -> None:
        self.count = 0
        self.total, self.squares = (torch.zeros(features, dtype=torch.float64, device=device) for _ in range(2))
        self.low, self.high = self.total + torch.inf, self.total - torch.inf

    def add(self, x: Tensor) -> None:
        """Take in x [B, I]."""
        if not len(x):
            return
        x = x.double()
        self.count += len(x)
        self.low, self.high = torch.minimum(self.low, x.amin(0)), torch.maximum(self.high, x.amax(0))
        self.total += x.sum(0)
        self.squares += x.square().sum(0)

    def ends(self, reach: float) -> tuple[Tensor, Tensor]:
        """(low, high) [I] of the inputs without those that lie more than `reach` deviations from the mean."""
        mean = self.total / self.count
        deviation = reach * (self.squares / self.count - mean.square()).clamp(min=0).sqrt()
        return torch.maximum(self.low, mean - deviation), torch.minimum(self.high, mean + deviation)


class Seen(NamedTuple):
    """What passed through the original model: every block's inputs, a first batch, and its outputs."""

    ranges: dict[nn.Module, Range]
    batch: Any
    outputs: list[Tensor]


def _call(model: nn.Module, batch: Any) -> list[Tensor]:
    """The model's floating point outputs for a batch, which is a tensor, a tuple of arguments or a mapping of keywords."""
    with seeded(0, next((p.device for p in model.parameters()), None)):
        if isinstance(batch, Mapping):
            result = model(**batch)
        else:
            result = model(*batch) if isinstance(batch, tuple | list) else model(batch)
    return [tensor.detach() for tensor in _tensors(result) if tensor.is_floating_point() and not tensor.is_nested]


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, Mapping | list | tuple):
        for part in result.values() if isinstance(result, Mapping) else result:
            yield from _tensors(part)


def _copy(batch: Any) -> Any:
    """A batch that a model which writes into its inputs (ReLU(inplace=True)) has not seen."""
    if isinstance(batch, Tensor):
        return batch.clone()
    if isinstance(batch, Mapping):
        return {key: _copy(value) for key, value in batch.items()}
    return tuple(map(_copy, batch)) if type(batch) in (list, tuple) else batch


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, nothing compiled; every module's own mode comes back."""
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad(), in_eager_mode():
            model.eval()
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def _recorder(ranges: dict[nn.Module, Range]) -> Callable[..., None]:
    def record(block: nn.Module, arguments: tuple, keywords: dict[str, Any]) -> None:
        x = rows(block, arguments[0] if arguments else next(iter(keywords.values())))
        if block not in ranges:
            ranges[block] = Range(x.shape[1], x.device)
        ranges[block].add(x)

    return record


def watch(model: nn.Module, blocks: Iterable[nn.Module], off: list[Switch], batches: Iterable[Any]) -> Seen:
    """Run batches through the original model; nothing of it is changed afterwards.

    raises: TypeError or ValueError for batches that are none; ValueError for inputs with NaN or infinity
    """
    if ranks() > 1:
        raise RuntimeError(
            f"calibrate: expected one process, received {ranks()}, whose batches would give different grids; "
            "calibrate in one, and load its state in the others"
        )
    if isinstance(batches, Tensor | Mapping | str) or not isinstance(batches, Iterable):
        raise TypeError(f"calibrate: expected an iterable of batches, such as [batch], received {type(batches).__name__}")
    ranges: dict[nn.Module, Range] = {}
    first: tuple[Any, list[Tensor]] | None = None
    record = _recorder(ranges)
    before = [switch.turn(switch.value) for switch in off]  # a fused path does not call the blocks
    handles = [block.register_forward_pre_hook(record, with_kwargs=True) for block in blocks]
    try:
        with _evaluating(model):
            for batch in batches:
                kept = _copy(batch) if first is None else None
                outputs = _call(model, batch)
                first = first or (kept, outputs)
    finally:
        for handle in handles:
            handle.remove()
        for switch, value in zip(off, before, strict=True):
            switch.turn(value)
    if first is None:
        raise ValueError("calibrate: expected at least one batch, received none")
    return Seen({block: seen for block, seen in ranges.items() if seen.count}, *first)


def check_finite(ranges: Mapping[nn.Module, Range], names: Mapping[nn.Module, list[str]]) -> None:
    """ValueError if a block's inputs were not finite: no grid can lie there."""
    bad = [names[block][0] for block, seen in ranges.items() if not (seen.low.isfinite() & seen.high.isfinite()).all()]
    if bad:
        raise ValueError(f"calibrate: expected finite inputs of every block, received NaN or infinity at {', '.join(bad[:5])}")


@torch.no_grad()
def lay_grid(module: nn.Module, block: nn.Module, seen: Range) -> None:
    """Lay the grid of a block's layer where its inputs were; its function stays the block's. Inputs that never differ keep theirs
    if it holds them.
    """
    layer: KANLinear = inner(module)
    low, high = seen.ends(REACH) if layer.activation == "identity" else (seen.low, seen.high)
    steps = torch.linspace(0, 1, POINTS, dtype=low.dtype, device=low.device)[:, None]
    points = torch.lerp(low, high, steps)
    knots = grids.adapt(layer.knots.double(), points, layer.degree, 1.0, MARGIN, layer.knots.dtype)
    layer.knots.copy_(grids.rounded(knots, layer.knots.dtype, "calibrate"))
    if layer.scale is not None and layer.spline_scale is not None:
        layer.scale.copy_(scale_for(layer.knots, layer.degree, layer.spline_scale))
    hold_linear(layer, as_linear(block))


# ---- the probe


def _resolution(exchange: Exchange, outputs: list[Tensor]) -> float:
    """The coarsest rounding on the way from the blocks to the outputs."""
    weights = [inner(layer).weight for layer in exchange.layers.values()]
    steps = [torch.finfo(tensor.dtype).eps for tensor in (*weights, *outputs)]
    for kind in {tensor.device.type for tensor in weights} - {"meta"}:
        if torch.is_autocast_enabled(kind):
            steps.append(torch.finfo(torch.get_autocast_dtype(kind)).eps)
        if kind == "cuda" and torch.get_float32_matmul_precision() != "highest":
            steps.append(TF32)
    return max(steps)


def _wrong(exchange: Exchange, seen: Seen) -> str | None:
    """What is wrong with the model after the exchange, which is then undone; None if it is the same."""
    called: set[nn.Module] = set()
    exchange.do()
    handles = [layer.register_forward_pre_hook(lambda layer, _: called.add(layer)) for layer in exchange.layers.values()]
    try:
        with _evaluating(exchange.model):
            outputs = _call(exchange.model, seen.batch)
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    finally:
        for handle in handles:
            handle.remove()
        exchange.undo()
    if not all(layer in called for layer in exchange.layers.values()):
        return "does not call them"
    if [y.shape for y in outputs] != [y.shape for y in seen.outputs]:
        return "gives outputs of other shapes"
    allowed = _resolution(exchange, outputs) ** 0.5  # many roundings, and far less than another function
    for got, want in zip(outputs, seen.outputs, strict=True):
        finite = want.isfinite()
        scale, apart = (float(y[finite].double().norm()) for y in (want, got - want))
        if not apart <= allowed * scale:
            return f"gives other outputs, by {apart / (scale or 1):.1g} of them"
    return None


def _part(exchange: Exchange, blocks: list[nn.Module]) -> Exchange:
    """The exchange of some of the blocks alone."""
    places = {block: exchange.places[block] for block in blocks}
    return Exchange(exchange.model, places, {block: exchange.layers[block] for block in blocks}, exchange.off)


def _culprits(exchange: Exchange, seen: Seen) -> list[nn.Module]:
    """The blocks whose exchange alone breaks the model, found by halves."""
    blocks = list(exchange.places)
    if not blocks or _wrong(exchange, seen) is None:
        return []
    half = len(blocks) // 2
    if not half:
        return blocks
    found = [block for part in (blocks[:half], blocks[half:]) for block in _culprits(_part(exchange, part), seen)]
    return found or blocks


def probe(exchange: Exchange, seen: Seen) -> None:
    """RuntimeError, with the names of the blocks, if the model is not the same after the exchange. It is undone in any case."""
    if (reason := _wrong(exchange, seen)) is not None:
        names = [name for block in _culprits(exchange, seen) for name in exchange.places[block]]
        raise RuntimeError(
            f"calibrate: expected the same model after the exchange, received one that {reason}; nothing was changed. "
            f"The cause: {', '.join(names)}. Something reads a weight or calls a block in another way; leave them out with filter"
        )
