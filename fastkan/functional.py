"""kan_linear: every argument checked once, leading dimensions flattened, then the op."""

import torch
from torch import Tensor

from fastkan import backends, ops
from fastkan.bases import check_base

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_tensor(name: str, tensor: Tensor, dims: int | None = None) -> None:
    """Raise unless it is a tensor of a dtype we compute in and, if given, with that many dimensions."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, received {type(tensor).__name__}")
    if tensor.dtype not in DTYPES:
        raise TypeError(f"{name}: expected a real floating dtype, received {tensor.dtype}")
    if dims is not None and tensor.ndim != dims:
        raise ValueError(f"{name}: expected {dims} dimensions, received shape {tuple(tensor.shape)}")


def check_degree(degree: int, grid_size: int = 1) -> None:
    """Raise unless degree and grid size are whole numbers of at least 1."""
    for name, value in (("degree", degree), ("grid_size", grid_size)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name}: expected an int, received {type(value).__name__}")
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, received {value}")


def _check(x: Tensor, weight: Tensor, knots: Tensor, bias: Tensor | None, degree: int, nu: int, base: str) -> None:
    check_tensor("x", x)
    check_tensor("weight", weight, 3)
    check_tensor("knots", knots, 2)
    check_degree(degree)
    if isinstance(nu, bool) or not isinstance(nu, int) or nu < 0:
        raise ValueError(f"nu: expected a whole number of at least 0, received {nu!r}")
    check_base(base, nu)
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
    for name, tensor in (("weight", weight), ("knots", knots), ("bias", bias)):
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{name}: expected x's device {x.device}, received {tensor.device}")


def _value_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """The dtype of weight, products and answer: autocast's where it is on, else x's, which weight must share."""
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


def kan_linear(
    x: Tensor,
    weight: Tensor,
    knots: Tensor,
    bias: Tensor | None = None,
    *,
    degree: int = 3,
    nu: int = 0,
    base: str = "silu",
    backend: str | None = None,
) -> Tensor:
    """One KAN layer, or with nu > 0 the same sum over the nu-th derivatives of its edge functions (Liu et al., arXiv 2404.19756).

    x: [..., I], any leading dimensions and strides, float64, float32, bfloat16 or float16
    weight: [I, M, O] with M = G + degree + 1 slots per input: the splines, then the base activation
    knots: [I, G + 2 degree + 1] extended knots, non-decreasing, in units of x, no gradient; float32 or float64 (half
        precision knots would move the grid by up to 0.4 %)
    bias: [O] or None; a constant, so it takes part only when nu = 0
    base: silu, gelu, tanh, relu, identity or zero
    backend: cpu, triton, cuda, reference, or None for the first that does not decline
    returns: [..., O] in x's dtype, or autocast's
    raises: TypeError or ValueError naming argument, expected and received; NotImplementedError where base has no closed form
        of a derivative that is asked for; RuntimeError with the reason where a named backend cannot serve
    """
    _check(x, weight, knots, bias, degree, nu, base)
    dtype, in_features = _value_dtype(x, weight), weight.shape[0]
    y = ops.forward(_rows(x, in_features), weight.to(dtype), None, knots, degree, base, backends.resolve(backend), nu)
    if bias is not None and nu == 0:
        y = y + bias.to(dtype)
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[2])
