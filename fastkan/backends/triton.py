"""Backend triton: the Triton kernels (kernels/), imported when the first tensor for them arrives."""

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from fastkan.backends.registry import MAX_DEGREE, Backend

INTERPRETER_DECLINES = {torch.bfloat16: "Triton's interpreter computes bfloat16 wrongly"}


class _Kernels:
    """The functions of fastkan.kernels, each run on its x's device."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kernel = getattr(importlib.import_module("fastkan.kernels"), name)

        def run(*arguments: Any) -> Any:
            x = arguments[0]
            with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
                return kernel(*arguments)

        return run


kernels = _Kernels()


def fused_gradients(x, weight, grad_output, row_weight, knots, degree, activation, nu, wanted):
    """grad_input and grad_weight share a launch where the layer is small; the others are calls of their own."""
    if not (wanted.grad_input and wanted.grad_weight):
        return None
    s = (knots, degree, activation)
    return (
        *kernels.fused_gradients(x, weight, grad_output, row_weight, *s, nu),
        kernels.grad_input(x, weight, grad_output, *s, nu) if wanted.grad_row_weight else None,
        kernels.forward(x, weight, row_weight, *s, nu) if wanted.forward else None,
    )


@functools.cache
def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "") in ("1", "true", "on")


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def declines(device: torch.device, dtype: torch.dtype, degree: int) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (a CUDA or ROCm build of PyTorch brings it)"
    if importlib.util.find_spec("fastkan.kernels") is None:
        return "its kernels are not in this installation: it runs from a checkout that was not built (pip install -e .)"
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


BACKEND = Backend(
    "triton",
    "Triton kernels (kernels/)",
    kernels,
    declines=declines,
    fused_gradients=fused_gradients,
    takes_16_bit=True,
)
