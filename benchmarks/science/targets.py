"""The functions that are fitted, and the rows of one seed."""

import math
from collections.abc import Callable
from typing import NamedTuple

import scipy.special
import torch
from torch import Tensor

ROWS = 1000


class Target(NamedTuple):
    """formula: what is printed. columns: of x. function: of the columns [B] each, to [B]."""

    formula: str
    columns: int
    function: Callable[..., Tensor]


def _scipy(function: Callable, *scaled: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda *columns: torch.from_numpy(function(*(s(c).numpy() for s, c in zip(scaled, columns, strict=True))))


def _four(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.exp((torch.sin(math.pi * (a**2 + b**2)) + torch.sin(math.pi * (c**2 + d**2))) / 2)


TARGETS = {
    "exp": Target("exp(sin(pi x) + y^2)", 2, lambda x, y: torch.exp(torch.sin(math.pi * x) + y**2)),
    "ellipkinc": Target(
        "ellipkinc(1.5 x, 0.45 (y + 1))", 2, _scipy(scipy.special.ellipkinc, lambda x: 1.5 * x, lambda y: 0.45 * (y + 1))
    ),
    "jv": Target("jv(1 + x, 5 (1 + y))", 2, _scipy(scipy.special.jv, lambda x: 1 + x, lambda y: 5 * (1 + y))),
    "four": Target("exp((sin(pi (a^2 + b^2)) + sin(pi (c^2 + d^2))) / 2)", 4, _four),
    "product": Target("x y", 2, lambda x, y: x * y),
    "hypot": Target("sqrt(x^2 + y^2)", 2, torch.hypot),
    "trig": Target("sin x + cos(y) z", 3, lambda x, y, z: torch.sin(x) + torch.cos(y) * z),
}


class Rows(NamedTuple):
    """Rows to fit, and as many to test on, of [-1, 1]^n; float64."""

    x: Tensor
    y: Tensor
    new_x: Tensor
    new_y: Tensor


def rows(name: str, seed: int, noise: float = 0.0) -> Rows:
    """noise: of y, as a share of its standard deviation."""
    target, generator = TARGETS[name], torch.Generator().manual_seed(seed)
    x, new_x = (2 * torch.rand(ROWS, target.columns, generator=generator, dtype=torch.float64) - 1 for _ in range(2))
    y, new_y = (target.function(*one.unbind(1))[:, None] for one in (x, new_x))
    noisy = y + noise * y.std() * torch.randn(y.shape, generator=generator, dtype=torch.float64) if noise else y
    return Rows(x, noisy, new_x, new_y)
