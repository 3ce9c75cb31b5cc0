"""Activations for the base slot, the last slot of every input: closed forms of each derivative, never by autograd."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# exp underflows before |x| = 1000 even in float64, so this bound changes no finite value and keeps inf from meeting 0.
FAR = 1000.0
HIGHEST_ORDER = 8  # of the smooth ones; the formulas go on, their proof against exact derivatives ends here


def _logistic(x: Tensor, nu: int) -> Tensor:
    """s^(nu) = d (q^(nu-1) + c_1 d q^(nu-3) + c_2 d^2 q^(nu-5) + ...) with d = s(x) s(-x) and q = 1 - 2 s(x).

    As d' = d q and q' = -2 d, every term gives two of the next order. The first term alone is left in the tails, the last one
    at 0, so nothing cancels there.
    """
    if nu == 0:
        return torch.sigmoid(x)
    coefficients = [1]
    for n in range(2, nu + 1):
        pairs = zip([0, *coefficients], [*coefficients, 0], strict=True)
        coefficients = [(j + 1) * same - 2 * (n - 2 * j) * lower for j, (lower, same) in enumerate(pairs)]
    d, q = torch.sigmoid(x) * torch.sigmoid(-x), torch.tanh(-0.5 * x)
    total, power = torch.ones_like(d), d
    for c in coefficients[1 : (nu + 1) // 2]:
        total, power = total * (q * q) + c * power, power * d
    return total * (d if nu % 2 else d * q)


def _silu(x: Tensor, nu: int) -> Tensor:
    """x * s^(nu) + nu * s^(nu-1) with s the logistic function."""
    if nu == 0:
        return x.clamp(min=-FAR) * _logistic(x, 0)
    return x.clamp(-FAR, FAR) * _logistic(x, nu) + nu * _logistic(x, nu - 1)


def _gelu(x: Tensor, nu: int) -> Tensor:
    """x * Phi^(nu) + nu * Phi^(nu-1) with Phi the normal distribution function (Hermite polynomials from nu = 2)."""
    cdf = 0.5 * torch.erfc(-x * math.sqrt(0.5))
    if nu == 0:
        return x.clamp(min=-FAR) * cdf
    x = x.clamp(-FAR, FAR)
    density = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    if nu == 1:
        return cdf + x * density
    older, newer = torch.ones_like(x), x  # He_{n-2}, He_{n-1}, starting from n = 2
    for n in range(2, nu):
        older, newer = newer, x * newer - (n - 1) * older
    return (-1) ** nu * density * (nu * older - x * newer)


def _tanh(x: Tensor, nu: int) -> Tensor:
    """2 s(2x) - 1, whose derivatives are those of the logistic function; tanh itself where that would cancel."""
    return torch.tanh(x) if nu == 0 else 2 ** (nu + 1) * _logistic(2 * x, nu)


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
class Activation:
    """A base activation: derivative(x, nu) of any shape, and the highest derivative order it has a closed form for."""

    derivative: Callable[[Tensor, int], Tensor]
    max_nu: int | None  # None: every order


ACTIVATIONS = {
    "silu": Activation(_silu, HIGHEST_ORDER),
    "gelu": Activation(_gelu, HIGHEST_ORDER),
    "tanh": Activation(_tanh, HIGHEST_ORDER),
    "relu": Activation(_relu, None),
    "identity": Activation(_identity, None),
    "zero": Activation(_zero, None),
}


def check_activation(activation: str, nu: int = 0) -> None:
    """Raise ValueError for an unknown activation and NotImplementedError for a derivative order it has no closed form for."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, received {activation!r}")
    limit = ACTIVATIONS[activation].max_nu
    if limit is not None and nu > limit:
        raise NotImplementedError(
            f"nu: activation={activation!r} has closed forms up to derivative order {limit}, received order {nu}; "
            "activation='identity', 'relu' or 'zero' has every order"
        )


def activation_derivative(x: Tensor, activation: str, nu: int) -> Tensor:
    """nu-th derivative of a base activation; x of any shape, the same shape back; NaN stays NaN at every order."""
    check_activation(activation, nu)
    return torch.where(torch.isnan(x), x, ACTIVATIONS[activation].derivative(x, nu))
