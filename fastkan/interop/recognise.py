"""Which library wrote a file, and its model as ours."""

import re
from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from fastkan.interop import efficient_kan, fast_kan, files, pykan
from fastkan.interop.assembled import make_kan
from fastkan.interop.states import SHOWN, check_row, load_tensors
from fastkan.nn.kan import KAN
from fastkan.nn.linear import KANLinear
from fastkan.nn.start import give_memory
from fastkan.nn.state import read

WRAPPERS = ("state_dict", "model_state_dict", "model")  # where trainers keep a state among other things


class Found(NamedTuple):
    """What a file was, its model, and for a projection how large the error of every edge can be [I, O], a layer each."""

    kind: str
    model: nn.Module
    errors: list[Tensor] | None = None


def _prefix(path: Path) -> Path | None:
    """The prefix of a pykan checkpoint, which may be given by one of its files."""
    prefix = path.with_name(re.sub(r"(_config\.yml|_state|_cache_data)$", "", path.name))
    return prefix if prefix.with_name(f"{prefix.name}_config.yml").is_file() else None


def _state(path: Path) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """State and header of a file."""
    if path.suffix == ".safetensors":
        return files.read(path)
    state = load_tensors(path)
    for name in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"source: expected a state dict in {path}, received {type(state).__name__} without tensors")
    return state, {}


def _of_our_state(state: Mapping[str, Any]) -> KAN:
    """A KAN of a bare state, if its layers follow one another: a state does not say what stands between them."""
    numbers = list(takewhile(lambda n: f"{n}.knots" in state, count()))
    own = {f"{n}" for n in numbers}
    if not numbers or any(key.split(".")[0] not in own for key in state):
        raise ValueError(
            "source: expected a state of a KAN whose layers are 0, 1, ... alone, received others; a state does not say what they "
            "are: write the model by fastkan.interop.save"
        )
    layers = []
    for n in numbers:
        settings = read(state[f"{n}._extra_state"])
        weight, degree = state[f"{n}.weight"], settings["degree"]
        inputs, slots, outputs = weight.shape
        layer = KANLinear(
            inputs, outputs, f"{n}.bias" in state, slots - degree - 1, degree, tuple(settings["grid_range"]),
            settings["activation"], device="meta", dtype=weight.dtype, spline_scale=settings.get("spline_scale"),
        )  # fmt: skip
        give_memory(layer, weight.device)
        layers.append(layer)
    check_row([(layer.in_features, layer.out_features) for layer in layers])
    model = make_kan(layers)
    model.load_state_dict(state)
    return model


def from_file(source: str | Path, tolerance: float = 1e-4, activation: str = "silu", in_features: int | None = None) -> Found:
    """The model of a file, whichever library wrote it: see docs/how-to/convert.md.

    source: prefix of a pykan checkpoint; .safetensors, or what torch.save wrote, of efficient-kan, FastKAN or fastkan
    tolerance: of FastKAN's bases; activation: base of efficient-kan and FastKAN; in_features: as in from_pykan
    raises: FileNotFoundError; ValueError for a file that is none of them, or holds more than tensors
    """
    path = Path(source)
    if (prefix := _prefix(path)) is not None:
        return Found("pykan checkpoint", pykan.from_pykan(prefix, in_features=in_features))
    if not path.is_file():
        raise FileNotFoundError(f"source: expected a file, or the prefix of a pykan checkpoint, received {str(source)!r}")
    state, header = _state(path)
    names = {key.rpartition(".")[2] for key in state}
    if files.KEY in header:
        return Found("fastkan model", files.of_file(state, header[files.KEY], path))
    if "spline_weight" in names:
        return Found("efficient-kan state", efficient_kan.from_efficient_kan(state, activation))
    if any(key.endswith("spline_linear.weight") for key in state):
        return Found("FastKAN state", *fast_kan.from_fast_kan(state, tolerance, activation=activation))
    if {"knots", "_extra_state"} <= names:
        return Found("fastkan state", _of_our_state(state))
    if any(key.startswith("act_fun.") for key in state):
        raise ValueError(
            f"source: expected {path} beside the config of a pykan checkpoint (_config.yml, _state), received it alone"
        )
    shown = ", ".join(list(map(str, state))[:SHOWN])
    raise ValueError(f"source: expected a state of efficient-kan, FastKAN or fastkan in {path}, received {shown}")
