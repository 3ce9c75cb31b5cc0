"""Models in files: tensors in safetensors, what they are in JSON beside them. Never pickle on writing."""

from pathlib import Path
from typing import Any

import torch


def load_tensors(path: Path) -> Any:
    """What torch.save wrote to a file, if it is tensors and plain containers. ValueError for other objects: none is made."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # that of pickle, which the package does not import, among them
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"source: expected a file of tensors, received {path}, which is refused: {first}") from error
