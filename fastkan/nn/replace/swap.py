"""replace_linear: choose the blocks, make their layers, and exchange them all or none."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import nn

from fastkan.nn.linear import KANLinear
from fastkan.nn.replace.blocks import Kind, kind_of, layer_for, left_alone, parameters_after
from fastkan.nn.replace.calibrate import UNSEEN, check_finite, lay_grid, probe, watch
from fastkan.nn.replace.exchange import Exchange
from fastkan.nn.replace.fused import Switch, switches
from fastkan.nn.replace.model import Model, look_at
from fastkan.nn.replace.names import Filter, wanted
from fastkan.nn.replace.refusals import check_bare, refusal
from fastkan.nn.replace.report import ReplaceReport
from fastkan.nn.replace.restore import remember


class Choice(NamedTuple):
    """The blocks to be replaced, each with all its names, and why others are not."""

    chosen: dict[nn.Module, list[str]]
    refused: dict[str, str]
    left: dict[str, str]


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, received {type(model).__name__}")
    if (kind := kind_of(model)) is not None:
        hint = "; use KANLinear.from_linear" if kind.plain is nn.Linear else ""
        raise ValueError(f"model: expected a module that contains linear blocks, received one itself, {kind.label}{hint}")
    check_bare(model, "replace_linear")


def places_of(modules: dict[str, nn.Module]) -> dict[nn.Module, tuple[Kind, list[str]]]:
    """Every linear block with its kind and all its names: a shared module has several."""
    places: dict[nn.Module, tuple[Kind, list[str]]] = {}
    for name, module in modules.items():
        if (kind := kind_of(module)) is not None:
            places.setdefault(module, (kind, []))[1].append(name)
    return places


def _choose(model: Model, filter: Filter) -> Choice:
    places = places_of(dict(model.modules))
    blocks = {name: model.modules[name] for _, names in places.values() for name in names}
    asked = wanted(filter, blocks, model.modules)
    found = Choice({}, {}, {})
    for block, (kind, names) in places.items():
        here = [name for name in names if name in asked]
        found.left.update(dict.fromkeys([name for name in names if name not in asked], "the filter leaves it out"))
        if not here:
            continue
        reason = refusal(model, names, block, kind.plain, kind.label)
        if reason is None and here != names:
            reason = f"the filter leaves it out at {', '.join(name for name in names if name not in here)}"
        if reason is None:
            found.chosen[block] = names
        else:
            found.refused.update(dict.fromkeys(here, reason))
    return found


def _count(model: nn.Module, chosen: dict[nn.Module, list[str]], settings: dict[str, Any]) -> tuple[int, int]:
    """Parameters before and after; a block that has not been used yet (nn.LazyLinear) has none."""
    before = sum(p.numel() for p in model.parameters() if not isinstance(p, nn.UninitializedParameter))
    own = sum(p.numel() for block in chosen for p in block.parameters())
    return before, before - own + sum(parameters_after(block, settings["grid_size"], settings["degree"]) for block in chosen)


def _off(found: Model, choice: Choice) -> list[Switch]:
    return switches(found, [name for names in choice.chosen.values() for name in names])


def _report(
    model: nn.Module, found: Model, choice: Choice, off: list[Switch], settings: dict[str, Any], dry_run: bool
) -> ReplaceReport:
    classes = {name: type(module).__name__ for name, module in found.modules.items()}
    blocks = {name for name in found.modules if kind_of(found.modules[name]) is not None}
    left = dict(choice.left)
    for name, label, reason in left_alone(dict(found.modules), blocks):
        left[name], classes[name] = reason, label
    changed = {switch.name: switch.reason for switch in off}
    replaced = [name for names in choice.chosen.values() for name in names]
    return ReplaceReport(
        replaced,
        choice.refused,
        left,
        changed,
        _count(model, choice.chosen, settings),
        dry_run,
        {name: classes[name] for name in (*blocks, *left, *changed)},
        dict.fromkeys(replaced, settings),
    )


def replace_linear(
    model: nn.Module,
    filter: Filter = None,
    *,
    grid_size: int = 5,
    degree: int = 3,
    grid_range: tuple[float, float] = (-1.0, 1.0),
    activation: str = "identity",
    backend: str | None = None,
    spline_scale: float | None = 1.0,
    calibrate: Iterable[Any] | None = None,
    dry_run: bool = False,
) -> ReplaceReport:
    """Swap the linear blocks of a model for KANLinear layers, in place. Each starts as the same function
    (KANLinear.from_linear). Blocks are nn.Linear, nn.Conv1d and nn.Conv2d of kernel 1 (fastkan.nn.KANPointwise takes their
    place), and the Conv1D of GPT-2 in transformers.

    filter: which blocks to swap: a name or glob ("*.mlp.*"), a list of them, or a function filter(name, block) -> True. A glob's
        * runs across dots. None swaps all that can be
    grid_size, degree, grid_range, activation, backend, spline_scale: KANLinear.from_linear's
    calibrate: batches, each a tensor, a tuple of arguments or a mapping of keywords of the model. They go through the original
        model in eval mode; every layer's grid is then laid where its inputs were, and the first batch shows that the model still
        gives the same. Blocks that no batch reached are refused.
    dry_run: report what would be done, and change nothing
    returns: a report of the replaced blocks, of the refused ones and of the weights left alone, with the reason. A block is
        refused by itself if its exchange would break the model or lose something: subclasses, parametrized or tied parameters,
        blocks whose owner reads `.weight` itself, hooks, blocks without values. A module that is used in several places stays
        shared: it is replaced in all of them or in none. Make the optimizer afterwards, because the parameters are new.
    raises: TypeError or ValueError, before the model is changed. ValueError also for a glob that fits no block, for a model that
        is a linear block itself, and for one that is wrapped (DistributedDataParallel, torch.compile, ...). RuntimeError, with
        the names of the blocks, if calibrate shows that the model would not be the same; it is then as it was.
    """
    _check_model(model)
    settings: dict[str, Any] = {
        "grid_size": grid_size, "degree": degree, "grid_range": grid_range, "activation": activation, "backend": backend,
        "spline_scale": spline_scale,
    }  # fmt: skip
    KANLinear(1, 1, device="meta", **settings)  # raises for wrong settings also where no block is chosen
    found = look_at(model)
    choice = _choose(found, filter)
    seen = None
    if calibrate is not None:
        seen = watch(model, choice.chosen, _off(found, choice), calibrate)
        for block in [block for block in choice.chosen if block not in seen.ranges]:
            choice.refused.update(dict.fromkeys(choice.chosen.pop(block), UNSEEN))
        check_finite(seen.ranges, choice.chosen)
    off = _off(found, choice)
    report = _report(model, found, choice, off, settings, dry_run)
    if dry_run:
        return report
    layers = {block: layer_for(block, settings) for block in choice.chosen}
    exchange = Exchange(model, choice.chosen, layers, off)
    if seen is not None:
        for block, layer in layers.items():
            lay_grid(layer, block, seen.ranges[block])
        probe(exchange, seen)
    exchange.do()
    remember(model)
    return report
