"""A stack of KAN layers in one call, and its gradients in one more: the calls of a small network cost more than their work.

The hidden activations are outputs of the Function too. So a backward pass that is differentiated itself finds them in the graph
and is written layer by layer with single operations; what it sends to a hidden activation comes back to the Function as
one more cotangent. Derivatives of every order follow, and only plain first-order passes need code of their own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastkan import backends
from fastkan.ops import routes
from fastkan.ops.derivatives import total
from fastkan.ops.torch_private import plain_on_cpu, queryable, wanted_inputs

DTYPES = (torch.float32, torch.float64)
PLAIN = (Tensor, torch.nn.Parameter)
LARGEST = 1 << 20  # hidden activations: past it a call costs nothing beside its work, and single layers need less memory

Tensors = Sequence[Tensor]
Optional = Sequence[Tensor | None]


class StackSettings(NamedTuple):
    """A stack but for its tensors: layer l takes widths[l] features to widths[l + 1] and has num_knots[l] knots an input."""

    degree: int
    activation: str
    backend: str
    widths: list[int]
    num_knots: list[int]

    def of_backend(self, x: Tensor) -> backends.Stack | None:
        """The stack of the backend that serves x, or None where it has none."""
        return backends.select(self.backend or backends.resolve(None), x.device, x.dtype, self.degree).stack


# ---- which calls are served


def _contiguous(tensor: Any, dtype: torch.dtype) -> bool:
    """True for a parameter or buffer that the native module can read where it is."""
    return type(tensor) in PLAIN and tensor.dtype is dtype and tensor.is_cpu and tensor.is_contiguous() and not tensor.is_neg()


def _sizes(x: Tensor, weights: Tensors, knots: Tensors, degree: int) -> tuple[list[int], list[int]] | None:
    """(widths, num_knots) of layers that fit together, each tensor contiguous and in x's dtype, else None."""
    dtype, width = x.dtype, x.shape[-1]
    widths, num_knots = [width], []
    for weight, own in zip(weights, knots, strict=True):
        if not (_contiguous(weight, dtype) and _contiguous(own, dtype)) or weight.ndim != 3:
            return None
        in_features, slots, out_features = weight.shape
        if in_features != width or slots < degree + 2 or own.shape != (in_features, slots + degree):
            return None
        widths.append(width := out_features)
        num_knots.append(slots + degree)
    return widths, num_knots


def _settings(
    x: Tensor, weights: Tensors, knots: Tensors, biases: Optional, degree: int, activation: str, backend: str | None
) -> Any:
    """The settings of a stack that is served, or None: wrong arguments too go to the layers, which say what is wrong."""
    if type(x) not in PLAIN or not plain_on_cpu(x) or x.dtype not in DTYPES or not x.ndim or not routes.serves_a_stack():
        return None
    sizes = _sizes(x, weights, knots, degree)
    if sizes is None:
        return None
    widths = sizes[0]
    for own, bias, width in zip(knots, biases, widths[1:], strict=True):
        if own.requires_grad or not (bias is None or (_contiguous(bias, x.dtype) and bias.shape == (width,))):
            return None
    if 0 in widths or not 0 < x.numel() // widths[0] * sum(widths[1:-1], 1) <= LARGEST:
        return None
    settings = StackSettings(degree, activation, backends.resolve(backend), *sizes)
    return settings if settings.of_backend(x) else None


# ---- backward


def _layer_by_layer(
    settings: StackSettings, inputs: Tensors, weights: Tensors, knots: Tensors, g: Any, added: Optional, *wanted: Sequence[bool]
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """What Stack.gradients computes, from the operations of routes.py, which can be differentiated and transformed."""
    degree, activation, backend, *_ = settings
    grad_inputs: list[Tensor | None] = []
    grad_weights: list[Tensor | None] = []
    layers = list(zip(inputs, weights, knots, added, *wanted, strict=True))
    for x, weight, own, more, input_wanted, weight_wanted in reversed(layers):
        s = (own, degree, activation, backend)
        grad_weights.append(routes.routed["grad_weight"](x, g, None, *s, 0) if weight_wanted else None)
        g = total(routes.routed["grad_input"](x, weight, g, *s, 1), more) if input_wanted else None
        grad_inputs.append(g)
    return grad_inputs[::-1], grad_weights[::-1]


def _in_one_call(settings: StackSettings, x: Tensor, weights: Tensors, knots: Tensors, cotangents: Optional) -> Any:
    """Stack.gradients where it serves this pass, else None."""
    if torch.is_grad_enabled() or not routes.serves_a_stack():
        return None
    if not (plain_on_cpu(x) and all(q is None or (type(q) in PLAIN and plain_on_cpu(q)) for q in cotangents)):
        return None
    if not all(_contiguous(t, x.dtype) for t in (*weights, *knots)):  # hooks on saved tensors may return others
        return None
    stack = settings.of_backend(x)
    return stack and stack.gradients


def _layout(tensors: Tensors) -> list[Any]:
    """What `.data` can change without that autograd finds it."""
    return [(t.shape, t.dtype) for t in tensors]


def _backward(ctx: Any, cotangents: Optional) -> list[Tensor | None]:
    """Gradients of x, of all weights and of all biases."""
    settings, layers, saved = ctx.settings, len(cotangents), ctx.saved_tensors
    if _layout(saved) != ctx.layout:
        raise RuntimeError("x, weight or knots: shape or dtype changed between forward and backward")
    x, weights, knots = saved[0], saved[layers : 2 * layers], saved[2 * layers :]
    run = _in_one_call(settings, x, weights, knots, cotangents)
    want_x, _, _, *want = wanted_inputs(ctx, ctx.present)
    want_weights, want_biases = want[:layers], want[layers:]
    depth = layers
    while depth and cotangents[depth - 1] is None:  # nothing comes from the layers above
        depth -= 1
    if not depth:
        return [None] * (1 + 2 * layers)
    want_inputs = [want_x]
    for k in range(depth - 1):
        want_inputs.append(want_inputs[k] or want_weights[k] or want_biases[k])
    added: list[Any] = [None, *cotangents[:depth]]
    last = added.pop()
    rows = x if x.ndim == 2 else x.reshape(-1, settings.widths[0])
    g = last if last.ndim == 2 else last.reshape(-1, settings.widths[depth])
    operands = [rows, *saved[1:depth]], weights[:depth], knots[:depth], g, added, want_inputs, want_weights[:depth]
    if run:
        widths, num_knots = settings.widths[: depth + 1], settings.num_knots[:depth]
        grad_inputs, grad_weights = run(*operands, settings.degree, settings.activation, widths, num_knots)
    else:
        grad_inputs, grad_weights = _layer_by_layer(settings, *operands)
    grad_x, above = grad_inputs[0], [None] * (layers - depth)
    if grad_x is not None and x.ndim != 2:
        grad_x = grad_x.reshape(x.shape)
    grad_biases = [q.sum(0) if want else None for q, want in zip([*grad_inputs[1:], g], want_biases, strict=False)]
    return [grad_x, *grad_weights, *above, *grad_biases, *above]


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, settings: StackSettings, knots: Tensors, *parameters: Tensor | None) -> tuple[Tensor, ...]:
        layers = len(knots)
        weights = parameters[:layers]
        outputs = _forward(settings, x, weights, knots, parameters[layers:])  # type: ignore[arg-type]
        ctx.settings = settings
        ctx.present = (True, False, False, *[t is not None for t in parameters])
        saved = (x, *outputs[:-1], *weights, *knots)
        ctx.save_for_backward(*saved)
        ctx.layout = _layout(saved)  # type: ignore[arg-type]
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_x, *gradients = _backward(ctx, cotangents)
        return grad_x, None, None, *gradients


# ---- forward


def _forward(settings: StackSettings, x: Tensor, weights: Tensors, knots: Tensors, biases: Optional) -> list[Tensor]:
    degree, activation, _, widths, num_knots = settings
    stack = settings.of_backend(x)
    assert stack  # settings exist only where it does
    return stack.forward(x, weights, knots, biases, degree, activation, widths, num_knots)


def stack(
    x: Tensor, weights: Tensors, knots: Tensors, biases: Optional, degree: int, activation: str, backend: str | None
) -> Tensor | None:
    """Layers one after another, functional.kan_linear of each bit for bit; None where they are to be called one by one.

    Served are float32 and float64 tensors on the CPU in plain eager mode, where backend `cpu` is the one chosen.
    """
    settings = _settings(x, weights, knots, biases, degree, activation, backend)
    if settings is None:
        return None
    if not torch.is_grad_enabled():
        return _forward(settings, x, weights, knots, biases)[-1]
    return _Stack.apply(queryable(x), settings, knots, *weights, *biases)[-1]
