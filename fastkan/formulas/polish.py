"""Levenberg-Marquardt on all numbers of a formula, to rounding, and numbers that snap to simple ones where the data let them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fastkan.formulas.named import Named

STEPS, ATTEMPTS = 60, 8
UNTIL = 1e-14  # of y's deviation: nothing is left but rounding
GAIN = 1e-8  # of the squared error, below which a step is the last
SIGMAS = 3.0  # how many standard errors a number may move to snap
ROUNDING = 1e-9  # and so much in any case, relative to its size
EXACT = 1e-11  # of y's deviation: an error that is none
TINY = 1e-12

# (how many bits it takes, the number); signs come beside them.
SIMPLE = sorted(
    [(0, 0.0), (1, 1.0), (2, 2.0), (2, 0.5)]
    + [(3, v) for v in (3.0, 4.0, 1.5, math.pi)]
    + [(4, v) for v in (0.25, 5.0, math.pi / 2, 2 * math.pi, 6.0, math.e)]
    + [(5, v) for v in (1 / 3, 2 / 3, 0.75, 0.1, 8.0, 10.0, 2.5, 1 / math.pi, math.pi / 4, math.sqrt(2), math.sqrt(2) / 2)]
    + [(6, v) for v in (7.0, 9.0, 12.0, 16.0, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 4 / 3, 1.25, 4 * math.pi, 3 * math.pi)]
    + [(7, v) for v in (math.sqrt(3), 1 / math.sqrt(2 * math.pi), 1.772453850905516, 0.5 / math.pi, 0.25 / math.pi)]
)


class Snap(NamedTuple):
    """A number that went to a simple one: which of a, b, c of an edge, or the "offset" of a sum, and how many standard errors
    away it was.
    """

    place: tuple[int, ...]
    which: str
    value: float
    simple: float
    errors: float


def polished(named: Named, x: Tensor, y: Tensor, p: Tensor, free: Tensor, steps: int = STEPS) -> tuple[Tensor, float]:
    """p with its free numbers fitted to x [B, I], y [B], and the root mean squared error; infinite where p leaves a domain."""
    mu, value = 1e-3, float((named(x, p) - y).square().mean())
    until = (UNTIL * float(y.std())) ** 2
    if not math.isfinite(value):
        return p, math.inf
    for _ in range(steps):
        fit, jacobian = named.jacobian(x, p)
        jacobian, r = jacobian[:, free], fit - y
        normal, gradient = jacobian.T @ jacobian / len(r), jacobian.T @ r / len(r)
        if not normal.isfinite().all():
            break
        diagonal = normal.diagonal()
        for _ in range(ATTEMPTS):
            shifted = normal + torch.diag(mu * diagonal + 1e-14 * diagonal.mean())
            factor, info = torch.linalg.cholesky_ex(shifted)
            trial, new = p.clone(), math.inf
            if not info:
                trial[free] -= torch.cholesky_solve(gradient[:, None], factor)[:, 0]
                new = float((named(x, trial) - y).square().mean())
            if new < value:
                break
            mu *= 6
        else:
            break
        gain = 1 - new / value
        p, value, mu = trial, new, max(mu / 8, 1e-15)
        if value < until or gain < GAIN:
            break
    return p, math.sqrt(value)


def standard_errors(named: Named, x: Tensor, p: Tensor, free: Tensor, error: float) -> Tensor:
    """Of every free number [P], at this root mean squared error; 0 of the others."""
    jacobian = named.jacobian(x, p)[1][:, free]
    size = jacobian.norm(dim=0).clamp(min=1e-300)
    inverse = torch.linalg.pinv((jacobian / size).T @ (jacobian / size), hermitian=True)
    found = torch.zeros_like(p)
    found[free] = inverse.diagonal().clamp(min=0).sqrt() / size * error
    return found


def snapped(named: Named, x: Tensor, y: Tensor, p: Tensor, error: float) -> tuple[Tensor, list[Snap], float]:
    """p with numbers at simple ones, the simplest first, while the squared error grows by less than SIGMAS^2 and 2 for each.

    returns: p, what was snapped, the error
    """
    free = named.free()
    made: list[Snap] = []
    scale = float(y.std()) or 1.0
    unit = max(error, TINY * scale) ** 2 / len(x)
    start, tried = error**2, set()
    while free.any():
        spread = standard_errors(named, x, p, free, max(error, TINY * scale))
        options = []
        for at in free.nonzero().flatten().tolist():
            value, near = p[at].item(), SIGMAS * spread[at].item()
            for bits, simple in SIMPLE:
                signed = math.copysign(simple, value) if simple else 0.0
                away = abs(value - signed)
                if away < near + ROUNDING * max(1.0, simple) and (at, signed) not in tried:
                    options.append((bits, away, at, signed))
        if not options:
            break
        _, away, at, simple = min(options)
        tried.add((at, simple))
        trial, left = p.clone(), free.clone()
        trial[at], left[at] = simple, False
        trial, new = polished(named, x, y, trial, left, 15) if left.any() else (trial, _error(named, x, y, trial))
        if new**2 < start + (SIGMAS**2 + 2 * len(made)) * unit or new < EXACT * scale:
            made.append(Snap(*_place(named, at), p[at].item(), simple, away / (spread[at].item() or math.inf)))
            p, free, error = trial, left, new
    return p, made, error


def _error(named: Named, x: Tensor, y: Tensor, p: Tensor) -> float:
    return float((named(x, p) - y).square().mean().sqrt())


def _place(named: Named, at: int) -> tuple[tuple[int, ...], str]:
    if at < named.at[0]:
        return named.where[at // 3], "abc"[at % 3]
    layer = max(k for k in range(len(named.stages)) if named.at[k] <= at)
    return (layer, at - named.at[layer]), "offset"
