"""The table of backends in order of preference, and the choice among them; the only importer of the kernels."""

import functools
import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from fastkan import reference, sparse
from fastkan.compiled import Stack, cpu_operations, cpu_stack, cuda_operations, extension

MAX_DEGREE = 8  # of the compiled core (fixed-size local arrays in csrc/basis.h) and the kernels


@dataclass(frozen=True)
class Backend:
    """One provider of the five operations; `declines(device, dtype, degree)` is None or the reason why it cannot serve.

    `gradients(x, weight, grad_output, row_weight, knots, degree, base, nu)` is (grad_input of order nu + 1, grad_weight of order
    nu) where a provider makes both at less than the price of each. `sweep`, of the same arguments and `wanted`, four bools, makes
    what gradients of operations with row weights consist of: those two, grad_input of order nu (for the row weights) and forward
    of order nu (for grad_output), None where not wanted. `stack` serves layers one after another in one call.
    """

    name: str
    what: str
    forward: Callable[..., Tensor]
    grad_input: Callable[..., Tensor]
    grad_weight: Callable[..., Tensor]
    gram: Callable[..., Tensor]
    quadratic: Callable[..., Tensor]
    declines: Callable[[torch.device, torch.dtype, int], str | None]
    gradients: Callable[..., tuple[Tensor, Tensor]] | None = None
    sweep: Callable[..., Sequence[Tensor | None]] | None = None
    stack: Stack | None = None
    takes_half: bool = False  # float16 and bfloat16 tensors as they are; else it is given float32 copies


@functools.cache
def build_record() -> dict[str, Any]:
    """What setup.py decided and why, or an empty record where fastkan runs from a bare checkout."""
    record = resources.files("fastkan").joinpath("_build.json")
    return json.loads(record.read_text()) if record.is_file() else {}


def _compiled_declines(device: str, missing: Callable[[], str | None]) -> Callable:
    def declines(where: torch.device, dtype: torch.dtype, degree: int) -> str | None:
        reason = missing()
        if reason is not None:
            return reason
        if where.type != device:
            return f"it serves {device} tensors, received {where.type}"
        if degree > MAX_DEGREE:
            return f"it serves degrees up to {MAX_DEGREE}, received {degree}"
        return None

    return declines


def _core_missing() -> str | None:
    if extension is not None:
        return None
    reason = build_record().get("reason") or "it was not built (pip install . in the checkout builds it)"
    return f"the compiled core is not in this installation: {reason}"


@functools.cache
def _cuda_missing() -> str | None:
    if extension is None:
        return _core_missing()
    if not hasattr(extension, "cuda_forward"):
        return f"the compiled core was built without CUDA: {build_record().get('cuda_reason', 'no record of why')}"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return extension.cuda_unavailable_reason()


# ---- the Triton kernels, imported when the first tensor for them arrives


def _triton(name: str) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        x = arguments[0]
        with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
            return getattr(importlib.import_module("fastkan.kernels"), name)(*arguments)

    return run


INTERPRETER_DECLINES = {torch.bfloat16: "Triton's interpreter computes bfloat16 wrongly"}


@functools.cache
def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "") in ("1", "true", "on")


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def _triton_declines(device: torch.device, dtype: torch.dtype, degree: int) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (a CUDA or ROCm build of PyTorch brings it)"
    if degree > MAX_DEGREE:
        return f"it serves degrees up to {MAX_DEGREE}, received {degree}"
    if _interpreted():
        serves = device.type == "cpu"
        return INTERPRETER_DECLINES.get(dtype) if serves else "TRITON_INTERPRET is set: the interpreter serves cpu tensors only"
    if device.type != "cuda":
        return f"it serves CUDA and ROCm tensors, received {device.type}"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if torch.version.hip is None and _capability(device) < (8, 0):
        return "it needs compute capability 8.0, received {}.{}".format(*_capability(device))
    return None


TABLE = (
    Backend(
        "cpu",
        "C++, threads, local support (csrc/cpu)",
        **cpu_operations(),
        declines=_compiled_declines("cpu", _core_missing),
        stack=cpu_stack(),
        takes_half=True,
    ),
    Backend(
        "triton",
        "Triton kernels (kernels/)",
        _triton("forward"),
        _triton("grad_input"),
        _triton("grad_weight"),
        _triton("gram"),
        _triton("quadratic"),
        declines=_triton_declines,
        gradients=_triton("gradients"),
        takes_half=True,
    ),
    Backend(
        "cuda",
        "CUDA C++ (csrc/cuda)",
        **sparse.in_front(cuda_operations()),
        declines=_compiled_declines("cuda", _cuda_missing),
        takes_half=True,
    ),
    Backend(
        "reference",
        "plain PyTorch (reference.py)",
        reference.forward,
        reference.grad_input,
        reference.grad_weight,
        reference.gram,
        reference.quadratic,
        declines=lambda device, dtype, degree: None,
    ),
)
NAMES = tuple(backend.name for backend in TABLE)


# ---- choice


def check_name(name: str) -> str:
    """The name itself, or ValueError naming the backends there are."""
    if name not in NAMES:
        raise ValueError(f"backend: expected one of {', '.join(NAMES)} or None, received {name!r}")
    return name


def _environment_choice() -> str:
    name = os.environ.get("FASTKAN_BACKEND", "")
    return check_name(name) if name else ""


_environment = _environment_choice()  # read once: no call pays for it
_choice: ContextVar[str | None] = ContextVar("fastkan_backend", default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Use the named backend for every call inside the block that does not name one itself, in this thread or task."""
    token = _choice.set(check_name(name))
    try:
        yield
    finally:
        _choice.reset(token)


def resolve(name: str | None) -> str:
    """The name an op is given: the argument, else the surrounding `backend(...)`, else FASTKAN_BACKEND, else '' (automatic).

    Dynamo cannot trace a ContextVar, so while compiling the choice is left to the op itself, at run time.
    """
    if name is not None:
        return check_name(name)
    return "" if torch.compiler.is_compiling() else _choice.get() or _environment


@functools.lru_cache(maxsize=256)
def select(name: str, device: torch.device, dtype: torch.dtype, degree: int) -> Backend:
    """The named backend, or for '' the first that does not decline; RuntimeError with the reasons where there is none."""
    candidates = [backend for backend in TABLE if name in ("", backend.name)]
    reasons = {}
    for candidate in candidates:
        reason = candidate.declines(device, dtype, degree)
        if reason is None:
            return candidate
        reasons[candidate.name] = reason
    raise RuntimeError("; ".join(f"backend {name!r} cannot serve this call: {reason}" for name, reason in reasons.items()))


def available(device: str = "cpu", degree: int = 3) -> list[str]:
    """Names of the backends that serve float32 tensors on a device, in order of preference."""
    return [b.name for b in TABLE if b.declines(torch.device(device), torch.float32, degree) is None]
