"""Where a fit keeps itself, so that it can go on: tensors in safetensors, the rest in JSON. Never pickle."""

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

FORMAT = 1


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError("checkpoint: needs safetensors: pip install 'fastkan[train]'") from error
    return safetensors.torch


class Checkpoint:
    """A file, written whole or not at all: a new one takes the old one's place when it is complete.

    path: ends in .safetensors
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.suffix != ".safetensors":
            raise ValueError(f"checkpoint: expected a path that ends in .safetensors, received {str(path)!r}")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"checkpoint: expected an existing folder, received {self.path.parent}")
        self.format = _safetensors()

    def save(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        new = self.path.with_name(self.path.name + ".new")
        text = json.dumps({"format": FORMAT} | rest)
        try:
            self.format.save_file({name: t.contiguous() for name, t in tensors.items()}, new, metadata={"fastkan": text})
            os.replace(new, self.path)
        finally:
            new.unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """(tensors, rest), or None where there is no file yet."""
        if not self.path.exists():
            return None
        from safetensors import safe_open

        with safe_open(self.path, framework="pt") as file:
            text = (file.metadata() or {}).get("fastkan")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        if text is None:
            raise ValueError(f"checkpoint: expected one that fit has written, received {self.path}")
        rest = json.loads(text)
        if rest["format"] > FORMAT:
            raise ValueError(f"checkpoint: expected format {FORMAT} at most, received {rest['format']}; a newer fastkan wrote it")
        return tensors, rest


def pack(prefix: str, state: Any, tensors: dict[str, Tensor]) -> Any:
    """A nested state as JSON, its tensors put into `tensors`."""
    if isinstance(state, Tensor):
        tensors[prefix] = state
        return {"tensor": prefix}
    if isinstance(state, dict):
        return {"dict": [[key, pack(f"{prefix}.{k}", value, tensors)] for k, (key, value) in enumerate(state.items())]}
    if isinstance(state, list | tuple):
        return {"list": [pack(f"{prefix}.{k}", value, tensors) for k, value in enumerate(state)]}
    return {"value": state}


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unpack(value, tensors) for key, value in content}
    if kind == "list":
        return [unpack(value, tensors) for value in content]
    return content
