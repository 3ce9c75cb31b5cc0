"""kan_linear: checks every argument once, flattens leading dimensions, calls the operation."""

from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from fastkan import ops
from fastkan.dtypes import DTYPES
from fastkan.ops.torch_private import jagged_dim, tracing_state, untraced
from fastkan.splines.activations import check_activation


def check_tensor(name: str, tensor: Tensor, dims: int | None = None) -> None:
    """Raise unless `tensor` is a tensor in a dtype that fastkan computes in, and has `dims` dimensions if that is given."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, received {type(tensor).__name__}")
    if tensor.dtype not in DTYPES:
        raise TypeError(f"{name}: expected a real floating dtype, received {tensor.dtype}")
    if dims is not None and tensor.ndim != dims:
        raise ValueError(f"{name}: expected {dims} dimensions, received shape {tuple(tensor.shape)}")


def check_degree(degree: int, grid_size: int = 1) -> None:
    """Raise unless degree and grid size are whole numbers of at least 1."""
    for name, value in (("degree", degree), ("grid_size", grid_size)):
        if isinstance(value, bool) or not isinstance(value, int | Integral):  # int first: asking an ABC costs 0.3 us
            raise TypeError(f"{name}: expected an int, received {type(value).__name__}")
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, received {value}")


def _check(
    x: Tensor,
    weight: Tensor,
    knots: Tensor,
    bias: Tensor | None,
    row_weight: Tensor | None,
    degree: int,
    nu: int,
    activation: str,
) -> tuple[int, int]:
    """(in_features, out_features) of arguments that fit together; raises for others."""
    check_tensor("x", x)
    check_tensor("weight", weight, 3)
    check_tensor("knots", knots, 2)
    check_degree(degree)
    if isinstance(nu, bool) or not isinstance(nu, int | Integral) or nu < 0:
        raise ValueError(f"nu: expected a whole number of at least 0, received {nu!r}")
    check_activation(activation, nu)
    in_features, slots, out_features = weight.shape
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise ValueError(f"x: expected last dimension {in_features} (weight's first), received shape {tuple(x.shape)}")
    if knots.shape != (in_features, slots + degree):
        raise ValueError(
            f"knots: expected shape {(in_features, slots + degree)} for weight {tuple(weight.shape)} and degree {degree}, "
            f"received {tuple(knots.shape)}"
        )
    if slots < degree + 2:
        raise ValueError(f"weight: expected at least {degree + 2} slots for degree {degree}, received {slots}")
    if knots.dtype not in DTYPES[:2]:
        raise TypeError(f"knots: expected float32 or float64, received {knots.dtype}")
    if knots.requires_grad:
        raise ValueError("knots: expected a tensor that takes no gradient, received requires_grad=True; pass knots.detach()")
    if bias is not None:
        check_tensor("bias", bias, 1)
        if bias.shape[0] != out_features:
            raise ValueError(f"bias: expected shape ({out_features},), received {tuple(bias.shape)}")
    if row_weight is not None:
        check_tensor("row_weight", row_weight)
        if row_weight.shape != x.shape:
            raise ValueError(f"row_weight: expected x's shape {tuple(x.shape)}, received {tuple(row_weight.shape)}")
        if row_weight.dtype != x.dtype:
            raise TypeError(f"row_weight: expected x's dtype {x.dtype}, received {row_weight.dtype}")
    for name, tensor in (("weight", weight), ("knots", knots), ("bias", bias), ("row_weight", row_weight)):
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{name}: expected x's device {x.device}, received {tensor.device}")
    return in_features, out_features


def _value_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """The dtype of weight, products and answer: autocast's if it is on. Otherwise it is x's, and weight must have it too."""
    device = x.device.type
    # meta has no autocast to ask about, and Dynamo cannot trace is_autocast_available on torch 2.11
    if x.dtype != torch.float64 and device != "meta" and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    if weight.dtype != x.dtype:
        raise TypeError(f"weight: expected x's dtype {x.dtype}, received {weight.dtype}")
    return x.dtype


def _rows(x: Tensor, in_features: int) -> Tensor:
    """x [..., I] as [B, I]."""
    if x.ndim == 2:
        return x
    return x.reshape(-1, in_features) if in_features else x.reshape(x.shape[:-1].numel(), 0)  # -1 needs a size to divide by


def _of_nested(x: Any, weight: Tensor, knots: Tensor, bias: Tensor | None, settings: dict[str, Any]) -> Tensor:
    """kan_linear of a nested tensor [B, j, ..., I]: its values are rows, so they keep their offsets."""
    if x.layout is not torch.jagged:
        raise TypeError(f"x: expected a nested tensor of layout torch.jagged, received {x.layout}")
    dim = jagged_dim(x)
    if dim == x.ndim - 1:
        raise ValueError(f"x: expected a last dimension of one size, received shape {tuple(x.shape)}")
    if settings["row_weight"] is not None:
        raise TypeError("row_weight: expected None for a nested x, received a tensor; pass x.values() and its row weights")
    y = kan_linear(x.values(), weight, knots, bias, **settings)
    return torch.nested.nested_tensor_from_jagged(y, x.offsets(), x.lengths(), dim)


def kan_linear(
    x: Tensor,
    weight: Tensor,
    knots: Tensor,
    bias: Tensor | None = None,
    *,
    degree: int = 3,
    nu: int = 0,
    activation: str = "silu",
    backend: str | None = None,
    row_weight: Tensor | None = None,
) -> Tensor:
    """One KAN layer, or with nu > 0 the same sum over the nu-th derivatives of its edge functions (Liu et al., arXiv 2404.19756).

    x: [..., I], any leading dimensions and strides, float64, float32, bfloat16 or float16; or a jagged nested tensor
    weight: [I, M, O] with M = G + degree + 1 slots per input: the splines, then the base activation
    knots: [I, G + 2 degree + 1] extended knots, non-decreasing, in units of x, no gradient; float32 or float64 (half
        precision knots would move the grid by up to 0.4 %)
    bias: [O] or None. It is a constant, so it is added only if nu = 0.
    activation: silu, gelu, tanh, relu, identity or zero: the function in the base slot
    backend: cpu, triton, cuda, reference, or None for the first that does not decline
    row_weight: [..., I], of x's shape and dtype: every edge's value is multiplied by its row's and input's; bias is not. With
        nu = 1 and a direction in it the result is the layer's derivative along that direction.
    returns: [..., O] in x's dtype, or autocast's
    raises: TypeError or ValueError naming argument, expected and received; NotImplementedError if the activation has no closed
        form for the derivative order that is needed; RuntimeError with the reason where a named backend cannot serve

    >>> import torch, fastkan
    >>> layer = fastkan.KANLinear(2, 1, activation="identity")
    >>> _ = torch.nn.init.ones_(layer.weight)  # splines add up to 1, so every edge is x + 1
    >>> x, direction = torch.tensor([[0.5, -0.5]]), torch.tensor([[3.0, 4.0]])
    >>> fastkan.functional.kan_linear(x, layer.weight, layer.knots, activation="identity", nu=1, row_weight=direction).item()
    7.0
    """
    if type(x) is not Tensor or x.is_nested:
        settings = {"degree": degree, "nu": nu, "activation": activation, "backend": backend, "row_weight": row_weight}
        if not isinstance(x, Tensor) and has_torch_function((x,)):  # a Proxy: torch.fx records the call
            return handle_torch_function(kan_linear, (x,), x, weight, knots, bias, **settings)
        if isinstance(x, Tensor) and x.is_nested:
            return _of_nested(x, weight, knots, bias, settings)
    check = untraced(_check) if tracing_state() else _check
    in_features, out_features = check(x, weight, knots, bias, row_weight, degree, nu, activation)
    dtype = _value_dtype(x, weight)
    rows = None if row_weight is None else _rows(row_weight, in_features)
    y = ops.forward(_rows(x, in_features), weight.to(dtype), rows, knots, degree, activation, ops.resolve(backend), nu)
    if bias is not None and nu == 0:
        y = y + bias.to(dtype)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], out_features)
