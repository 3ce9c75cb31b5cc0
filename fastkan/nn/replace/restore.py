"""The swap of a model again, from the state or the config of a swapped one."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fastkan.nn.linear import KANLinear
from fastkan.nn.pointwise import KANPointwise
from fastkan.nn.replace.blocks import inner, kind_of, layer_for, parameters_after
from fastkan.nn.replace.exchange import Exchange
from fastkan.nn.replace.fused import switches
from fastkan.nn.replace.model import Model, look_at
from fastkan.nn.replace.refusals import check_bare, refusal
from fastkan.nn.replace.report import FORMAT, ReplaceReport, as_config
from fastkan.nn.state import read

SHOWN = 5  # names in an error
NAMES = ("grid_size", "degree", "grid_range", "activation", "backend", "spline_scale")  # of settings


def describe(model: nn.Module) -> dict[str, Any]:
    """Where the KAN layers of a model are and how they are set, for JSON and fastkan.restore. Sizes are those of now, so that
    of a refined model too.

    >>> import torch, fastkan
    >>> fastkan.describe(torch.nn.Sequential(fastkan.KANLinear(2, 3)))["layers"]["0"]["grid_size"]
    5
    """
    layers = {}
    for name, module in model.named_modules(remove_duplicate=False):
        held = name.rpartition(".")[0] in layers and name.endswith(".layer")  # inside a KANPointwise
        if isinstance(module, KANLinear | KANPointwise) and not held:
            layers[name] = {key: getattr(inner(module), key) for key in NAMES}
    return as_config(layers)


def remember(model: nn.Module) -> None:
    """Write the description into `model.config.fastkan` of a model of transformers, whose save_pretrained saves its config."""
    if any(cls.__name__ == "PreTrainedModel" for cls in type(model).__mro__):
        model.config.fastkan = describe(model)  # type: ignore[union-attr]


def _of_config(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    number, layers = config["format"], config["layers"]
    if not isinstance(number, int) or number > FORMAT:
        raise ValueError(f"format: expected at most {FORMAT}, received {number!r}; a newer fastkan has written it")
    found = {}
    for name, settings in layers.items():
        if number == 1:  # written before there was one
            settings = {**settings, "spline_scale": None}
        if unknown := set(settings) ^ set(NAMES):
            raise ValueError(f"source: expected the settings {', '.join(NAMES)} of {name}, received others: {', '.join(unknown)}")
        found[name] = {**settings, "grid_range": tuple(settings["grid_range"])}
    return found


def _of_state(state: Mapping[str, Any], modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
    layers = {}
    for key in state:
        prefix, _, last = key.rpartition(".")
        if last != "knots" or not isinstance(state.get(f"{prefix}._extra_state"), Tensor):
            continue
        settings = {"spline_scale": None} | read(state[f"{prefix}._extra_state"]) | {"backend": None}
        settings["grid_size"] = state[key].shape[-1] - 2 * settings["degree"] - 1
        held = prefix not in modules and prefix.endswith(".layer")  # of a KANPointwise
        layers[prefix.removesuffix(".layer") if held else prefix] = {name: settings[name] for name in NAMES}
    return layers


def _chosen(found: Model, layers: Mapping[str, Any]) -> dict[nn.Module, list[str]]:
    """The blocks to be replaced with all their names. ValueError for those that are not there or cannot be replaced."""
    wrong: list[str] = []
    chosen: dict[nn.Module, list[str]] = {}
    for name in layers:
        block = found.modules.get(name)
        if isinstance(block, KANLinear | KANPointwise) or block in chosen:
            continue
        if block is None or (kind := kind_of(block)) is None:
            wrong.append(f"{name} is {'not there' if block is None else type(block).__name__}")
            continue
        names = [other for other, module in found.modules.items() if module is block]
        if reason := refusal(found, names, block, kind.plain, kind.label, meta=True):
            wrong.append(f"{name}: {reason}")
        chosen[block] = names
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise ValueError(f"model: expected linear blocks where the source has KAN layers, but {'; '.join(wrong[:SHOWN])}{more}")
    return chosen


def restore(model: nn.Module, source: Mapping[str, Any]) -> ReplaceReport:
    """Swap the blocks of a fresh model that are KAN layers in the source, in place, so that the source's state can be loaded.

    source: the state dict of a swapped model, or what report.config() or fastkan.describe gave, also after a way through JSON
    returns: a report of the replaced blocks. Where a KAN layer is already, it stays.
    raises: TypeError or ValueError, before the model is changed: no KAN layer in the source, no plain linear block where it has
        one, a format of a newer fastkan

    >>> import torch, fastkan
    >>> def build():
    ...     return torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1))
    >>> swapped, fresh = build(), build()
    >>> report = fastkan.replace_linear(swapped, "2", grid_size=8)
    >>> fastkan.restore(fresh, swapped.state_dict()).replaced
    ['2']
    >>> fresh.load_state_dict(swapped.state_dict())
    <All keys matched successfully>
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, received {type(model).__name__}")
    check_bare(model, "restore")
    if not isinstance(source, Mapping):
        raise TypeError(f"source: expected a state dict or a config, received {type(source).__name__}")
    found = look_at(model)
    layers = _of_config(source) if {"format", "layers"} <= source.keys() else _of_state(source, found.modules)
    if not layers:
        raise ValueError("source: expected a state dict or a config with KAN layers, received none in it")
    chosen = _chosen(found, layers)
    settings = {block: next(layers[name] for name in names if name in layers) for block, names in chosen.items()}
    off = switches(found, [name for names in chosen.values() for name in names])
    before = sum(p.numel() for p in model.parameters())
    own = sum(p.numel() for block in chosen for p in block.parameters())
    after = sum(parameters_after(block, settings[block]["grid_size"], settings[block]["degree"]) for block in chosen)
    classes = {name: type(block).__name__ for block, names in chosen.items() for name in names}
    classes |= {switch.name: type(switch.module).__name__ for switch in off}
    Exchange(model, chosen, {block: layer_for(block, settings[block]) for block in chosen}, off).do()
    remember(model)
    return ReplaceReport(
        [name for names in chosen.values() for name in names],
        changed={switch.name: switch.reason for switch in off},
        parameters=(before, before - own + after),
        classes=classes,
        layers={name: settings[block] for block, names in chosen.items() for name in names},
    )
