"""The value, first derivatives and a sum of second derivatives of a model, in one pass forward: what users call."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastkan.functional import check_tensor
from fastkan.pde.rules import Flow, through


class Jet(NamedTuple):
    """value: [..., O]; first: [d, ..., O], its derivative along every direction; second: [..., O], the sum of its second
    derivatives along them, the Laplacian where the directions are the unit vectors.
    """

    value: Tensor
    first: Tensor
    second: Tensor


def _directions(directions: Tensor | None, x: Tensor) -> Tensor | None:
    """[d, B, I], or None for the unit vectors."""
    inputs = x.shape[-1]
    if directions is None:
        if not inputs:
            raise ValueError(f"x: expected at least one input, received shape {tuple(x.shape)}")
        return None
    check_tensor("directions", directions)
    if directions.dtype != x.dtype or directions.device != x.device:
        raise TypeError(f"directions: expected {x.dtype} on {x.device}, received {directions.dtype} on {directions.device}")
    shape = tuple(directions.shape)
    if not shape or not shape[0] or shape[1:] not in ((inputs,), tuple(x.shape)):
        expected = f"(d, {inputs})" + (f" or (d, {', '.join(map(str, x.shape))})" if x.ndim > 1 else "")
        raise ValueError(f"directions: expected shape {expected} with d of at least 1, received {shape}")
    rows = x.shape[:-1].numel()
    if len(shape) == 2:
        return directions[:, None].expand(-1, rows, inputs)
    return directions.reshape(shape[0], rows, inputs)


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Second derivatives in 16 bits are mostly rounding."""
    device = x.device.type
    on = device != "meta" and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if on else nullcontext()


def jet(
    model: nn.Module,
    x: Tensor,
    directions: Tensor | None = None,
    *,
    coefficients: Sequence[float] | Tensor | None = None,
    pointwise: Sequence[type[nn.Module]] = (),
) -> Jet:
    """The model's value, its first derivatives along d directions and the sum of its second derivatives along them, in one
    pass forward.

    model: KANLinear, product nodes, Columns, nn.Linear and activations, alone or in KAN and nn.Sequential; masks and formulas
        of layers count
    x: [..., I], of the weights' dtype, in which all is computed: autocast is off meanwhile
    directions: [d, I], or [d, ..., I] with others in every row; None: the I unit vectors, for gradient and Laplacian
    coefficients: [d], of the second derivatives in their sum: (0, 1) for u_yy alone, (1, -c**2) for a wave; None: all 1
    pointwise: your own module types that act on every number by itself
    returns: Jet(value [..., O], first [d, ..., O], second [..., O]), with gradients of any order towards weights, x, directions
        and coefficients
    raises: TypeError naming a module that it has no rule for, such as attention or BatchNorm; TypeError or ValueError for
        other arguments

    >>> import torch, fastkan
    >>> x = torch.rand(100, 2)
    >>> u, (u_x, u_y), laplacian = fastkan.jet(fastkan.KAN([2, 5, 1]), x)
    >>> u_x.shape, laplacian.shape
    (torch.Size([100, 1]), torch.Size([100, 1]))
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, received {type(model).__name__}")
    check_tensor("x", x)
    if not x.ndim:
        raise ValueError("x: expected at least 1 dimension, received shape ()")
    types = tuple(pointwise)
    if not all(isinstance(kind, type) and issubclass(kind, nn.Module) for kind in types):
        raise TypeError(f"pointwise: expected types of modules, received {types}")
    first = _directions(directions, x)
    count = x.shape[-1] if first is None else len(first)
    if coefficients is not None:
        coefficients = torch.as_tensor(coefficients, dtype=x.dtype, device=x.device)
        if coefficients.shape != (count,):
            raise ValueError(f"coefficients: expected shape ({count},), received {tuple(coefficients.shape)}")
    rows = x if x.ndim == 2 else x.reshape(x.shape[:-1].numel(), x.shape[-1])
    start = Flow(rows, first, None, coefficients)
    with _without_autocast(x):
        flow = through(model, "", start, types)
    value, second = flow.x, torch.zeros_like(flow.x) if flow.second is None else flow.second
    shape = (*x.shape[:-1], value.shape[-1])
    return Jet(value.reshape(shape), flow.tangents.reshape(count, *shape), second.reshape(shape))


def laplacian(model: nn.Module, x: Tensor, *, pointwise: Sequence[type[nn.Module]] = ()) -> Tensor:
    """The sum of the model's second derivatives along all inputs, in one pass forward: x [..., I] -> [..., O].

    `jet` gives the value and the gradient too, from the same pass. The arguments and errors are those of `jet`.

    >>> import torch, fastkan
    >>> square = fastkan.KANLinear(2, 1, bias=False)
    >>> square.set_symbolic({(0, 0): ("x**2", (1, 0, 1, 0)), (1, 0): ("x**2", (1, 0, 1, 0))})
    >>> fastkan.laplacian(square, torch.tensor([[0.5, -0.5]])).item()
    4.0
    """
    return jet(model, x, pointwise=pointwise).second
