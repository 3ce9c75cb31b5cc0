"""Base activations, the last slot of every input: closed forms of each derivative, never by autograd."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# exp underflows before |x| = 1000 even in float64, so this bound changes no finite value and keeps inf from meeting 0.
FAR = 1000.0


def _silu(x: Tensor, nu: int) -> Tensor:
    """x * s^(nu) + nu * s^(nu-1) with s the logistic function, free of cancellation at large |x|."""
    s = torch.sigmoid(x)
    if nu == 0:
        return x.clamp(min=-FAR) * s
    slope, q = s * torch.sigmoid(-x), torch.tanh(-0.5 * x)  # s' and 1 - 2s
    derivatives = (s, slope, slope * q, slope * (1 - 6 * slope), slope * q * (1 - 12 * slope))
    return x.clamp(-FAR, FAR) * derivatives[nu] + nu * derivatives[nu - 1]


def _gelu(x: Tensor, nu: int) -> Tensor:
    """x * Phi^(nu) + nu * Phi^(nu-1) with Phi the normal distribution function (Hermite polynomials from nu = 2)."""
    cdf = 0.5 * torch.erfc(-x * math.sqrt(0.5))
    if nu == 0:
        return x.clamp(min=-FAR) * cdf
    x = x.clamp(-FAR, FAR)
    density = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    if nu == 1:
        return cdf + x * density
    hermite = (torch.ones_like(x), x, x * x - 1, x * (x * x - 3))
    return (-1) ** nu * density * (nu * hermite[nu - 2] - x * hermite[nu - 1])


def _tanh(x: Tensor, nu: int) -> Tensor:
    t = torch.tanh(x)
    if nu == 0:
        return t
    u = 4 * torch.sigmoid(2 * x) * torch.sigmoid(-2 * x)  # 1 - t^2 without its cancellation
    return (u, -2 * t * u, u * (6 * t * t - 2), t * u * (16 - 24 * t * t))[nu - 1]


def _identity(x: Tensor, nu: int) -> Tensor:
    return x if nu == 0 else torch.full_like(x, float(nu == 1))


def _zero(x: Tensor, nu: int) -> Tensor:
    return torch.zeros_like(x)


def _relu(x: Tensor, nu: int) -> Tensor:
    """As for a degree-1 spline, derivatives past the first are the piecewise ones: 0, the kink's delta left out."""
    if nu == 0:
        return torch.relu(x)
    return (x > 0).to(x.dtype) if nu == 1 else torch.zeros_like(x)


@dataclass(frozen=True)
class Base:
    """A base activation: value(x, nu) of any shape, and the highest derivative order it has a closed form for."""

    derivative: Callable[[Tensor, int], Tensor]
    max_nu: int | None  # None: every order


BASES = {
    "silu": Base(_silu, 4),
    "gelu": Base(_gelu, 4),
    "tanh": Base(_tanh, 4),
    "relu": Base(_relu, None),
    "identity": Base(_identity, None),
    "zero": Base(_zero, None),
}


def check_base(base: str, nu: int = 0) -> None:
    """Raise ValueError for an unknown base and NotImplementedError for a derivative order it has no closed form for."""
    if base not in BASES:
        raise ValueError(f"base: expected one of {', '.join(BASES)}, received {base!r}")
    limit = BASES[base].max_nu
    if limit is not None and nu > limit:
        raise NotImplementedError(
            f"nu: base={base!r} has closed forms up to derivative order {limit}, received order {nu}; "
            "base='identity', 'relu' or 'zero' has every order"
        )


def base_derivative(x: Tensor, base: str, nu: int) -> Tensor:
    """nu-th derivative of a base activation; x of any shape, the same shape back; NaN stays NaN at every order."""
    check_base(base, nu)
    return torch.where(torch.isnan(x), x, BASES[base].derivative(x, nu))
