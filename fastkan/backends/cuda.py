"""Backend cuda: contiguous tensors in, their addresses and the stream to C++ (csrc/cuda), fresh tensors out."""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from fastkan.backends import native
from fastkan.backends.native import address, contiguous
from fastkan.backends.registry import Backend
from fastkan.dtypes import DTYPE_NAMES, compute_dtype
from fastkan.experimental import two_four


@functools.cache
def _missing() -> str | None:
    if native.module is None:
        return native.missing()
    if not hasattr(native.module, "cuda_forward"):
        return f"the native module was built without CUDA: {native.build_record().get('cuda_reason', 'no record of why')}"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return native.module.cuda_unavailable_reason()


def device_and_stream(tensor: Tensor) -> tuple[int, int]:
    """Where a call runs."""
    device = tensor.device.index
    return device, torch.cuda.current_stream(device).cuda_stream


def operations(module: Any, where: Callable[[Tensor], tuple[int, int]] = device_and_stream) -> SimpleNamespace:
    """The operations of a native module; contracts and argument order are those of fastkan/reference.py.

    where(x): the device and the stream of a call.
    """

    def parts(splits: int, result: Tensor) -> Tensor | None:
        dtype = compute_dtype(result.dtype)
        return result.new_empty((splits, *result.shape), dtype=dtype) if splits > 1 else None

    def call(name, tensors, result, sizes, settings, dtypes, *tf32):
        held = contiguous(*tensors)
        addresses = map(address, (*held, result))
        getattr(module, f"cuda_{name}")(*addresses, *sizes, *settings, *(DTYPE_NAMES[t] for t in dtypes), *where(result), *tf32)
        return result

    def of_weight(name, tensors, result, x, out_features, knots, settings, value_dtype):
        tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"
        sizes = (*x.shape, out_features, knots.shape[1])
        return call(name, tensors, result, sizes, settings, (x.dtype, value_dtype), tf32)

    def forward(x, weight, row_weight, knots, *settings):
        tensors, y = (x, weight, row_weight, knots), weight.new_empty((x.shape[0], weight.shape[2]))
        return of_weight("forward", tensors, y, x, weight.shape[2], knots, settings, weight.dtype)

    def grad_input(x, weight, grad_output, knots, *settings):
        tensors, grad = (x, weight, grad_output, knots), x.new_empty(x.shape)
        return of_weight("grad_input", tensors, grad, x, grad_output.shape[1], knots, settings, grad_output.dtype)

    def grad_weight(x, grad_output, row_weight, knots, degree, *settings):
        grad = grad_output.new_empty((x.shape[1], knots.shape[1] - degree, grad_output.shape[1]))
        splits = module.cuda_grad_weight_splits(*x.shape, grad_output.shape[1], knots.shape[1], degree)
        tensors = (x, grad_output, row_weight, knots, parts(splits, grad))
        settings = (degree, *settings)
        return of_weight("grad_weight", tensors, grad, x, grad_output.shape[1], knots, settings, grad_output.dtype)

    def gram(x, row_weight, knots, degree, *orders):
        slots = knots.shape[1] - degree
        result = x.new_empty((x.shape[1], slots, slots), dtype=compute_dtype(x.dtype))
        tensors = (x, row_weight, knots, parts(module.cuda_gram_splits(*x.shape, knots.shape[1], degree), result))
        return call("gram", tensors, result, (*x.shape, knots.shape[1]), (degree, *orders), (x.dtype,))

    def quadratic(x, form, knots, *settings):
        result = x.new_empty(x.shape, dtype=compute_dtype(x.dtype))
        tensors = (x, form.to(result.dtype), knots)
        return call("quadratic", tensors, result, (*x.shape, knots.shape[1]), settings, (x.dtype,))

    made = (forward, grad_input, grad_weight, gram, quadratic)
    return SimpleNamespace(**two_four.in_front({operation.__name__: operation for operation in made}, module, where))


BACKEND = Backend(
    "cuda",
    "CUDA C++ (csrc/cuda)",
    operations(native.module),
    declines=native.declines("cuda", _missing),
    takes_16_bit=True,
)
