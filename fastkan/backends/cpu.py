"""Backend cpu: contiguous tensors in, their addresses to C++ (csrc/cpu), fresh tensors out.

Contracts and argument order are those of fastkan/reference.py.
"""

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from fastkan.backends import native
from fastkan.backends.native import address, contiguous
from fastkan.backends.registry import Backend, Jet, Stack
from fastkan.dtypes import DTYPE_NAMES, compute_dtype


def forward(x, weight, row_weight, knots, degree, activation, nu):
    y = weight.new_empty((x.shape[0], weight.shape[2]))
    held = contiguous(x, weight, row_weight, knots)
    native.module.cpu_forward(
        *map(address, held), y.data_ptr(), *x.shape, weight.shape[2], knots.shape[1], degree, activation, nu,
        DTYPE_NAMES[x.dtype], DTYPE_NAMES[weight.dtype], torch.get_num_threads(),
    )  # fmt: skip
    return y


def _fill(results, x, weight, grad_output, row_weight, knots, degree, activation, nu, grad_input_nu):
    """results: grad_input of order grad_input_nu, then grad_weight, grad_row_weight and forward of order nu; None: not wanted."""
    held = contiguous(x, weight, grad_output, row_weight, knots)
    native.module.cpu_fused_gradients(
        *map(address, (*held, *results)), *x.shape, grad_output.shape[1], knots.shape[1], degree, activation, nu,
        grad_input_nu, DTYPE_NAMES[x.dtype], DTYPE_NAMES[grad_output.dtype], torch.get_num_threads(),
    )  # fmt: skip


def fused_gradients(x, weight, grad_output, row_weight, knots, degree, activation, nu, wanted):
    likes = (x, weight, x, grad_output)
    results = [t.new_empty(t.shape) if want else None for t, want in zip(likes, wanted, strict=True)]
    _fill(results, x, weight, grad_output, row_weight, knots, degree, activation, nu, nu + 1)
    return results


def grad_input(x, weight, grad_output, knots, degree, activation, nu):
    grad = x.new_empty(x.shape)
    _fill((grad, None, None, None), x, weight, grad_output, None, knots, degree, activation, 0, nu)
    return grad


def grad_weight(x, grad_output, row_weight, knots, degree, activation, nu):
    grad = grad_output.new_empty((x.shape[1], knots.shape[1] - degree, grad_output.shape[1]))
    _fill((None, grad, None, None), x, None, grad_output, row_weight, knots, degree, activation, nu, 0)
    return grad


def _of_slots(run, x, second, knots, degree, activation, nu, mu, shape):
    result = x.new_empty(shape, dtype=compute_dtype(x.dtype))
    held = contiguous(x, second, knots)
    run(
        *map(address, held), result.data_ptr(), *x.shape, knots.shape[1], degree, activation, nu, mu,
        DTYPE_NAMES[x.dtype], torch.get_num_threads(),
    )  # fmt: skip
    return result


def gram(x, row_weight, knots, degree, activation, nu, mu):
    slots = knots.shape[1] - degree
    shape = (x.shape[1], slots, slots)
    return _of_slots(native.module.cpu_gram, x, row_weight, knots, degree, activation, nu, mu, shape)


def quadratic(x, form, knots, degree, activation, nu, mu):
    form = form.to(compute_dtype(x.dtype))
    return _of_slots(native.module.cpu_quadratic, x, form, knots, degree, activation, nu, mu, x.shape)


# ---- several layers in one call


def _addresses(tensors: Sequence[Tensor | None]) -> list[int]:
    return [0 if t is None else t.data_ptr() for t in tensors]


def _stack_forward(x, weights, knots, biases, degree, activation, widths, num_knots):
    """The output of every layer: B rows, but the last one's in the shape of x [..., I]."""
    x, batch = x.contiguous(), x.numel() // widths[0]
    outputs = [x.new_empty(batch, width) for width in widths[1:-1]]
    outputs.append(x.new_empty(*x.shape[:-1], widths[-1]))
    native.module.cpu_stack_forward(
        x.data_ptr(), *map(_addresses, (weights, knots, biases, outputs)),
        batch, widths, num_knots, degree, activation, DTYPE_NAMES[x.dtype], torch.get_num_threads(),
    )  # fmt: skip
    return outputs


def _stack_gradients(inputs, weights, knots, g, added, wanted_inputs, wanted_weights, degree, activation, widths, num_knots):
    """(gradients of the layers' inputs, of their weights), None where not wanted, from that of the last output.

    added: gradients that reach the inputs from elsewhere, or None. An input's is wanted where any of a lower layer is.
    """
    inputs, g, added = contiguous(*inputs), g.contiguous(), contiguous(*added)
    grad_inputs = [torch.empty_like(t) if wanted else None for t, wanted in zip(inputs, wanted_inputs, strict=True)]
    grad_weights = [torch.empty_like(t) if wanted else None for t, wanted in zip(weights, wanted_weights, strict=True)]
    native.module.cpu_stack_gradients(
        *map(_addresses, (inputs, weights, knots)), g.data_ptr(), *map(_addresses, (added, grad_inputs, grad_weights)),
        g.numel() // widths[-1], widths, num_knots, degree, activation, DTYPE_NAMES[g.dtype], torch.get_num_threads(),
    )  # fmt: skip
    return grad_inputs, grad_weights


# ---- jets


def _jet_forward(x, weight, first, second, coefficients, knots, degree, activation):
    """(value [B, O], first [d, B, O], second [B, O])."""
    (rows, inputs), outputs = x.shape, weight.shape[2]
    directions = inputs if first is None else len(first)
    held = contiguous(x, weight, first, second, coefficients, knots)
    results = x.new_empty(rows, outputs), x.new_empty(directions, rows, outputs), x.new_empty(rows, outputs)
    native.module.cpu_jet(
        *map(address, (*held, *results)), directions, rows, inputs, outputs, knots.shape[1], degree, activation,
        DTYPE_NAMES[x.dtype], torch.get_num_threads(),
    )  # fmt: skip
    return results


def _jet_gradients(x, weight, first, second, coefficients, knots, degree, activation, cotangents, wanted):
    """Gradients of x, weight, first, second, and the squares [B, I]; None where not wanted."""
    (rows, inputs), outputs = x.shape, weight.shape[2]
    directions = inputs if first is None else len(first)
    held = contiguous(x, weight, first, second, coefficients, knots, *cotangents)
    results = [t.new_empty(t.shape) if want else None for t, want in zip((x, weight, first, second, x), wanted, strict=True)]
    native.module.cpu_jet_gradients(
        *map(address, (*held, *results)), directions, rows, inputs, outputs, knots.shape[1], degree, activation,
        DTYPE_NAMES[x.dtype], torch.get_num_threads(),
    )  # fmt: skip
    return results


BACKEND = Backend(
    "cpu",
    "C++, threads, local support (csrc/cpu)",
    SimpleNamespace(forward=forward, grad_input=grad_input, grad_weight=grad_weight, gram=gram, quadratic=quadratic),
    declines=native.declines("cpu", native.missing),
    fused_gradients=fused_gradients,
    stack=Stack(_stack_forward, _stack_gradients),
    jet=Jet(_jet_forward, _jet_gradients),
    takes_16_bit=True,
)
