"""The truth: the five operations in plain PyTorch, by vectorised Cox-de Boor (de Boor, A Practical Guide to Splines).

Each function computes in the dtype of its tensors: exact to rounding in float64, and what every other backend is measured
against. They materialise the expanded slots [B, I, M], which the other backends never do.
Letters: B rows, I inputs, O outputs, S = G + p splines, M = S + 1 slots, K = G + 2p + 1 knots per input.
"""

import torch
from torch import Tensor

from fastkan.splines.activations import activation_derivative


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator with 0 where the knot interval has no width."""
    flat = denominator == 0
    return torch.where(flat, 0, numerator / torch.where(flat, 1, denominator))


def splines(x: Tensor, knots: Tensor, degree: int, nu: int = 0) -> Tensor:
    """nu-th derivative of every B-spline: x [B, I], knots [I, K] -> [B, I, S]; 0 outside the extended knots, NaN at NaN."""
    if nu > degree:
        return torch.where(torch.isnan(x), x, 0)[..., None].expand(*x.shape, knots.shape[-1] - degree - 1)
    inside = (x >= knots[:, 0]) & (x < knots[:, -1])
    t = torch.where(inside, x, knots[:, 0])[..., None]
    value = ((t >= knots[:, :-1]) & (t < knots[:, 1:]) & inside[..., None]).to(x.dtype)
    for k in range(1, degree - nu + 1):
        left = _ratio(t - knots[:, : -k - 1], knots[:, k:-1] - knots[:, : -k - 1])
        right = _ratio(knots[:, k + 1 :] - t, knots[:, k + 1 :] - knots[:, 1:-k])
        value = left * value[..., :-1] + right * value[..., 1:]
    for k in range(degree - nu + 1, degree + 1):
        scaled = _ratio(k * value, knots[:, k:] - knots[:, :-k])
        value = scaled[..., :-1] - scaled[..., 1:]
    return torch.where(torch.isnan(x)[..., None], x[..., None], value)


def slots(x: Tensor, knots: Tensor, degree: int, activation: str, nu: int = 0) -> Tensor:
    """f_m^(nu)(x): the S splines, then the base activation; x [B, I], knots [I, K] -> [B, I, M]."""
    return torch.cat((splines(x, knots, degree, nu), activation_derivative(x, activation, nu)[..., None]), dim=-1)


def _weighted(values: Tensor, row_weight: Tensor | None) -> Tensor:
    return values if row_weight is None else values * row_weight[..., None]


def forward(x: Tensor, weight: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int) -> Tensor:
    """y[b,o] = sum_i r[b,i] sum_m f_m^(nu)(x[b,i]) weight[i,m,o]: x, r [B, I], weight [I, M, O] -> [B, O]."""
    return torch.einsum("bim,imo->bo", _weighted(slots(x, knots, degree, activation, nu), row_weight), weight)


def grad_input(x: Tensor, weight: Tensor, grad_output: Tensor, knots: Tensor, degree: int, activation: str, nu: int) -> Tensor:
    """sum_m f_m^(nu)(x[b,i]) sum_o weight[i,m,o] g[b,o]: x [B, I], weight [I, M, O], g [B, O] -> [B, I]."""
    pulled_back = torch.einsum("bo,imo->bim", grad_output, weight)
    return (slots(x, knots, degree, activation, nu) * pulled_back).sum(-1)


def grad_weight(
    x: Tensor, grad_output: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int
) -> Tensor:
    """sum_b r[b,i] f_m^(nu)(x[b,i]) g[b,o]: x, r [B, I], g [B, O] -> [I, M, O]."""
    return torch.einsum("bim,bo->imo", _weighted(slots(x, knots, degree, activation, nu), row_weight), grad_output)


def gram(x: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int, mu: int) -> Tensor:
    """sum_b r[b,i] f_m^(nu)(x[b,i]) f_n^(mu)(x[b,i]): x, r [B, I] -> [I, M, M]."""
    left = _weighted(slots(x, knots, degree, activation, nu), row_weight)
    return torch.einsum("bim,bin->imn", left, slots(x, knots, degree, activation, mu))


def quadratic(x: Tensor, form: Tensor, knots: Tensor, degree: int, activation: str, nu: int, mu: int) -> Tensor:
    """sum_mn f_m^(nu)(x[b,i]) form[i,m,n] f_n^(mu)(x[b,i]), the adjoint of gram: x [B, I], form [I, M, M] -> [B, I]."""
    left, right = slots(x, knots, degree, activation, nu), slots(x, knots, degree, activation, mu)
    return (torch.einsum("bim,imn->bin", left, form) * right).sum(-1)
