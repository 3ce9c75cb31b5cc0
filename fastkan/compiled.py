"""The compiled core: contiguous tensors in, data pointers to C++, a fresh tensor out; the only importer of _C.

Letters: B rows, I inputs, O outputs, M slots, K knots per input (docs/design.md, section 2).
"""

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastkan import reference
from fastkan.precision import compute_dtype


def _load() -> ModuleType | None:
    """The compiled core, or None where it was not built; one that is there and does not load raises."""
    try:
        return importlib.import_module("fastkan._C")
    except ModuleNotFoundError as error:
        if error.name != "fastkan._C":
            raise
        return None


extension: Any = _load()


def _pointer(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    """The same tensors, dense; the caller holds them until C++ is through with their addresses."""
    return [None if t is None else t.contiguous() for t in tensors]


DTYPE_NAMES = {getattr(torch, name): name for name in ("float64", "float32", "bfloat16", "float16")}


def cpu_operations() -> dict[str, Any]:
    """The operations of `_C` on the CPU; contracts and argument order are those of reference.py."""

    def forward(x, weight, row_weight, knots, degree, base, nu):
        y = weight.new_empty((x.shape[0], weight.shape[2]))
        held = _contiguous(x, weight, row_weight, knots)
        extension.cpu_forward(
            *map(_pointer, held), y.data_ptr(), *x.shape, weight.shape[2], knots.shape[1], degree, base, nu,
            DTYPE_NAMES[x.dtype], DTYPE_NAMES[weight.dtype], torch.get_num_threads(),
        )  # fmt: skip
        return y

    def fill(results, x, weight, grad_output, row_weight, knots, degree, base, nu, grad_input_nu):
        """results: grad_input of order grad_input_nu, grad_weight, grad_row_weight and forward of order nu; None: not wanted."""
        held = _contiguous(x, weight, grad_output, row_weight, knots)
        extension.cpu_gradients(
            *map(_pointer, (*held, *results)), *x.shape, grad_output.shape[1], knots.shape[1],
            degree, base, nu, grad_input_nu, DTYPE_NAMES[x.dtype], DTYPE_NAMES[grad_output.dtype], torch.get_num_threads(),
        )  # fmt: skip

    def gradients(x, weight, grad_output, row_weight, knots, degree, base, nu):
        grads = x.new_empty(x.shape), weight.new_empty(weight.shape)
        fill((*grads, None, None), x, weight, grad_output, row_weight, knots, degree, base, nu, nu + 1)
        return grads

    def sweep(x, weight, grad_output, row_weight, knots, degree, base, nu, wanted):
        likes = (x, weight, x, grad_output)
        results = [t.new_empty(t.shape) if want else None for t, want in zip(likes, wanted, strict=True)]
        fill(results, x, weight, grad_output, row_weight, knots, degree, base, nu, nu + 1)
        return results

    def grad_input(x, weight, grad_output, knots, degree, base, nu):
        grad = x.new_empty(x.shape)
        fill((grad, None, None, None), x, weight, grad_output, None, knots, degree, base, 0, nu)
        return grad

    def grad_weight(x, grad_output, row_weight, knots, degree, base, nu):
        grad = reference.EMPTY_RESULT["grad_weight"](x, grad_output, row_weight, knots, degree)
        fill((None, grad, None, None), x, None, grad_output, row_weight, knots, degree, base, nu, 0)
        return grad

    def of_slots(run, x, second, knots, degree, base, nu, mu, shape):
        result = x.new_empty(shape, dtype=compute_dtype(x.dtype))
        held = _contiguous(x, second, knots)
        sizes = (*x.shape, knots.shape[1])
        run(*map(_pointer, held), result.data_ptr(), *sizes, degree, base, nu, mu, DTYPE_NAMES[x.dtype], torch.get_num_threads())
        return result

    def gram(x, row_weight, knots, degree, base, nu, mu):
        slots = knots.shape[1] - degree
        shape = (x.shape[1], slots, slots)
        return of_slots(extension.cpu_gram, x, row_weight, knots, degree, base, nu, mu, shape)

    def quadratic(x, form, knots, degree, base, nu, mu):
        form = form.to(compute_dtype(x.dtype))
        return of_slots(extension.cpu_quadratic, x, form, knots, degree, base, nu, mu, x.shape)

    operations = (forward, grad_input, grad_weight, gram, quadratic, gradients, sweep)
    return {operation.__name__: operation for operation in operations}


class Stack(NamedTuple):
    """A stack of layers in one call, forward and backward (docs/design.md, section 5); float32 or float64, one for all tensors.

    Layer l takes widths[l] features to widths[l + 1] and has num_knots[l] knots an input. weights, knots and biases are
    contiguous and not empty.
    """

    forward: Callable[..., list[Tensor]]
    gradients: Callable[..., tuple[list[Tensor | None], list[Tensor | None]]]


def cpu_stack() -> Stack:
    """The stack of `_C` on the CPU."""

    def addresses(tensors: Sequence[Tensor | None]) -> list[int]:
        return [0 if t is None else t.data_ptr() for t in tensors]

    def forward(x, weights, knots, biases, degree, base, widths, num_knots):
        """The output of every layer: B rows, but the last one's in the shape of x [..., I]."""
        x, batch = x.contiguous(), x.numel() // widths[0]
        outputs = [x.new_empty(batch, width) for width in widths[1:-1]]
        outputs.append(x.new_empty(*x.shape[:-1], widths[-1]))
        extension.cpu_stack_forward(
            x.data_ptr(), *map(addresses, (weights, knots, biases, outputs)),
            batch, widths, num_knots, degree, base, DTYPE_NAMES[x.dtype], torch.get_num_threads(),
        )  # fmt: skip
        return outputs

    def gradients(inputs, weights, knots, g, added, wanted_inputs, wanted_weights, degree, base, widths, num_knots):
        """(gradients of the layers' inputs, of their weights), None where not wanted, from that of the last output.

        added: gradients that reach the inputs from elsewhere, or None. An input's is wanted where any of a lower layer is.
        """
        inputs, g, added = _contiguous(*inputs), g.contiguous(), _contiguous(*added)
        grad_inputs = [torch.empty_like(t) if wanted else None for t, wanted in zip(inputs, wanted_inputs, strict=True)]
        grad_weights = [torch.empty_like(t) if wanted else None for t, wanted in zip(weights, wanted_weights, strict=True)]
        extension.cpu_stack_gradients(
            *map(addresses, (inputs, weights, knots)), g.data_ptr(), *map(addresses, (added, grad_inputs, grad_weights)),
            g.numel() // widths[-1], widths, num_knots, degree, base, DTYPE_NAMES[g.dtype], torch.get_num_threads(),
        )  # fmt: skip
        return grad_inputs, grad_weights

    return Stack(forward, gradients)


def _device_and_stream(tensor: Tensor) -> tuple[int, int]:
    device = tensor.device.index
    return device, torch.cuda.current_stream(device).cuda_stream


def cuda_operations(module: Any = extension, where: Callable[[Tensor], tuple[int, int]] = _device_and_stream) -> dict[str, Any]:
    """The five operations of `_C` on CUDA; contracts and argument order are those of reference.py.

    where(x): the device and the stream of a call.
    """

    def parts(splits: int, result: Tensor) -> Tensor | None:
        dtype = compute_dtype(result.dtype)
        return result.new_empty((splits, *result.shape), dtype=dtype) if splits > 1 else None

    def call(name, tensors, result, sizes, settings, dtypes, *tf32):
        held = _contiguous(*tensors)
        addresses = map(_pointer, (*held, result))
        getattr(module, f"cuda_{name}")(*addresses, *sizes, *settings, *(DTYPE_NAMES[t] for t in dtypes), *where(result), *tf32)
        return result

    def of_weight(name, tensors, result, x, out_features, settings, value_dtype):
        knots, tf32 = settings[0], torch.backends.cuda.matmul.fp32_precision == "tf32"
        sizes = (*x.shape, out_features, knots.shape[1])
        return call(name, tensors, result, sizes, settings[1:], (x.dtype, value_dtype), tf32)

    def forward(x, weight, row_weight, *settings):
        tensors, y = (x, weight, row_weight, settings[0]), weight.new_empty((x.shape[0], weight.shape[2]))
        return of_weight("forward", tensors, y, x, weight.shape[2], settings, weight.dtype)

    def grad_input(x, weight, grad_output, *settings):
        tensors = (x, weight, grad_output, settings[0])
        return of_weight("grad_input", tensors, x.new_empty(x.shape), x, grad_output.shape[1], settings, grad_output.dtype)

    def grad_weight(x, grad_output, row_weight, *settings):
        knots, degree = settings[:2]
        grad = reference.EMPTY_RESULT["grad_weight"](x, grad_output, row_weight, *settings)
        splits = module.cuda_grad_weight_splits(*x.shape, grad_output.shape[1], knots.shape[1], degree)
        tensors = (x, grad_output, row_weight, knots, parts(splits, grad))
        return of_weight("grad_weight", tensors, grad, x, grad_output.shape[1], settings, grad_output.dtype)

    def gram(x, row_weight, knots, degree, *orders):
        slots = knots.shape[1] - degree
        result = x.new_empty((x.shape[1], slots, slots), dtype=compute_dtype(x.dtype))
        tensors = (x, row_weight, knots, parts(module.cuda_gram_splits(*x.shape, knots.shape[1], degree), result))
        return call("gram", tensors, result, (*x.shape, knots.shape[1]), (degree, *orders), (x.dtype,))

    def quadratic(x, form, knots, *settings):
        result = x.new_empty(x.shape, dtype=compute_dtype(x.dtype))
        tensors = (x, form.to(result.dtype), knots)
        return call("quadratic", tensors, result, (*x.shape, knots.shape[1]), settings, (x.dtype,))

    operations = (forward, grad_input, grad_weight, gram, quadratic)
    return {operation.__name__: operation for operation in operations}
