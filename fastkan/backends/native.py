"""Imports the native module `fastkan._C` (no other file of the package does), and holds what its two backends share."""

import functools
import importlib
import json
import warnings
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fastkan.backends.registry import MAX_DEGREE


def _load() -> ModuleType | None:
    """The module, or None where it was not built; one that is there and does not load raises."""
    try:
        return importlib.import_module("fastkan._C")
    except ModuleNotFoundError as error:
        if error.name != "fastkan._C":
            raise
        return None


module: Any = _load()
PACKAGE = Path(__file__).parents[1]


def warn_of_a_checkout() -> None:
    """Warn where Python found the sources of an unbuilt checkout, which may hide an installed fastkan."""
    if module is None and not build_record() and (PACKAGE.parent / "csrc").is_dir():
        warnings.warn(
            f"fastkan is imported from the checkout {PACKAGE.parent}, which was not built: no C++ core, no Triton kernels. "
            "Start Python in another folder to use the installed package, or build the checkout: pip install -e .",
            stacklevel=2,
        )


@functools.cache
def build_record() -> dict[str, Any]:
    """What setup.py decided and why, or an empty record where fastkan runs from a bare checkout."""
    record = resources.files("fastkan").joinpath("_build.json")
    return json.loads(record.read_text()) if record.is_file() else {}


warn_of_a_checkout()


def missing() -> str | None:
    """Why the module is not here, or None."""
    if module is not None:
        return None
    reason = build_record().get("reason") or "it was not built (pip install . in the checkout builds it)"
    return f"the native module is not in this installation: {reason}"


def declines(device: str, obstacle: Callable[[], str | None]) -> Callable[[torch.device, torch.dtype, int], str | None]:
    """The `declines` of a backend of the module that serves one kind of device, unless there is an obstacle to all of it."""

    def of_call(where: torch.device, dtype: torch.dtype, degree: int) -> str | None:
        reason = obstacle()
        if reason is not None:
            return reason
        if where.type != device:
            return f"it serves {device} tensors, received {where.type}"
        if degree > MAX_DEGREE:
            return f"it serves degrees up to {MAX_DEGREE}, received {degree}"
        return None

    return of_call


def address(tensor: Tensor | None) -> int:
    """Where C++ finds a tensor's numbers; 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    """The same tensors, contiguous. The caller holds them until C++ is through with their addresses."""
    return [None if t is None else t.contiguous() for t in tensors]
