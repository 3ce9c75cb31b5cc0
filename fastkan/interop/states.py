"""State dicts of other libraries: their layers, one after another."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SHOWN = 5  # names in an error


def load_tensors(path: Path) -> Any:
    """What torch.save wrote to a file, if it is tensors and plain containers. ValueError for other objects: none is made."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # that of pickle, which the package does not import, among them
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"source: expected a file of tensors, received {path}, which is refused: {first}") from error


def state_of(source: Any) -> Mapping[str, Any]:
    """The state dict of a module, or the one that was given."""
    state = source.state_dict() if isinstance(source, nn.Module) else source
    if not isinstance(state, Mapping):
        raise TypeError(f"source: expected a module or its state dict, received {type(source).__name__}")
    return state


def _in_order(prefix: str) -> list[Any]:
    """layers.2. before layers.10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"\.", prefix)]


def grouped(state: Mapping[str, Any], needed: Sequence[str], more: Sequence[str], library: str) -> list[dict[str, Tensor]]:
    """The tensors of each layer by their names in it. ValueError for a layer that lacks one, and for what belongs to none."""
    found: dict[str, dict[str, Tensor]] = {}
    others = []
    for key, value in state.items():
        name = next((n for n in (*needed, *more) if key == n or key.endswith(f".{n}")), None)
        if name is None or not isinstance(value, Tensor):
            others.append(key)
        else:
            found.setdefault(key.removesuffix(name), {})[name] = value.detach()
    if others or not found:
        shown = ", ".join(others[:SHOWN]) + (f" and {len(others) - SHOWN} more" if len(others) > SHOWN else "") or "nothing"
        raise ValueError(f"source: expected a state of {library} layers ({', '.join((*needed, *more))}) alone, received {shown}")
    for prefix, tensors in found.items():
        if missing := [name for name in needed if name not in tensors]:
            raise ValueError(f"source: expected {', '.join(prefix + name for name in missing)} in the state, received none")
    return [found[prefix] for prefix in sorted(found, key=_in_order)]


def check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """ValueError unless the tensor has floating numbers of that shape."""
    if tuple(tensor.shape) != shape or not tensor.is_floating_point():
        raise ValueError(f"{name}: expected floating numbers of shape {shape}, received {tuple(tensor.shape)} of {tensor.dtype}")


def check_row(widths: Sequence[tuple[int, int]]) -> None:
    """ValueError unless layers of these (inputs, outputs) fit one behind another."""
    for number, ((_, outputs), (inputs, _)) in enumerate(pairwise(widths)):
        if outputs != inputs:
            raise ValueError(
                f"source: expected layers in a row, received {outputs} outputs of layer {number} before {inputs} inputs"
            )
