"""B-splines by local support: the p + 1 that are alive in a cell, and sums over them.

For changes of a grid, in float64 and under no_grad. What a layer computes is in the backends.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Alive(NamedTuple):
    """Splines first, ..., first + p are alive at each point: first [I, N], values [I, N, p + 1].

    They are counted from p splines in front of the grid's own. Those, and p behind, give every cell p + 1 of them; the sums below
    leave them out.
    """

    first: Tensor
    values: Tensor


def _with_p_more(knots: Tensor, degree: int) -> Tensor:
    """Knots [I, K] with p more at either end."""
    steps = torch.arange(1, degree + 1, dtype=knots.dtype, device=knots.device)
    front = knots[:, :1] - (knots[:, 1:2] - knots[:, :1]) * steps.flip(0)
    return torch.cat((front, knots, knots[:, -1:] + (knots[:, -1:] - knots[:, -2:-1]) * steps), dim=1)


def _alive(start: Tensor, knots: Tensor, degree: int, at: Sequence[Tensor]) -> Alive:
    """Cox-de Boor on the cell that holds start [I, N], with level k evaluated at at[k - 1] [I, N]."""
    extended = _with_p_more(knots, degree)
    cell = (torch.searchsorted(extended, start.contiguous(), right=True) - 1).clamp(degree, degree + knots.shape[1] - 2)
    near = torch.stack([extended.gather(1, cell + r) for r in range(1 - degree, degree + 1)])  # the p knots at either side
    values = ((start >= knots[:, :1]) & (start <= knots[:, -1:])).to(knots.dtype)[None]  # all are 0 outside the knots
    for k, x in enumerate(at, start=1):
        left, right = near[degree - k : degree], near[degree : degree + k]
        width = right - left
        fall, rise = values * ((right - x) / width), values * ((x - left) / width)  # exactly 0 and 1 where x is a knot
        values = torch.cat((fall[:1], fall[1:] + rise[:-1], rise[-1:]))
    return Alive(cell - degree, values.movedim(0, -1))


def splines_at(x: Tensor, knots: Tensor, degree: int) -> Alive:
    """The splines of knots [I, K] alive at x [I, N]; 0 outside the knots."""
    return _alive(x, knots, degree, [x] * degree)


def shares(old: Tensor, new: Tensor, degree: int) -> Alive:
    """Which old coefficients make each coefficient on the knots `new` [I, K'], that contain `old`: N is S' here.

    Cox-de Boor evaluated at p consecutive new knots, one a level (Cohen, Lyche, Riesenfeld 1980: the Oslo algorithm). No share
    is negative, so nothing cancels.
    """
    count = new.shape[1] - degree - 1
    return _alive(new[:, :count], old, degree, [new[:, k : k + count] for k in range(1, degree + 1)])


def combined(alive: Alive, coefficients: Tensor) -> Tensor:
    """sum_s value[i, n, s] coefficients[i, s, o] -> [I, N, O]."""
    degree, outputs = alive.values.shape[-1] - 1, coefficients.shape[2]
    padded = torch.nn.functional.pad(coefficients, (0, 0, degree, degree))
    total = coefficients.new_zeros((*alive.first.shape, outputs))
    for r, value in enumerate(alive.values.unbind(-1)):
        total.addcmul_(value[..., None], padded.gather(1, (alive.first + r)[..., None].expand(-1, -1, outputs)))
    return total


def projected(alive: Alive, weight: Tensor, function: Tensor, splines: int) -> Tensor:
    """sum_n weight[i, n] value[i, n, s] function[i, n, o] -> [I, S, O], the adjoint of `combined`."""
    degree, outputs = alive.values.shape[-1] - 1, function.shape[2]
    total = function.new_zeros((function.shape[0], splines + 2 * degree, outputs))
    for r, value in enumerate((alive.values * weight[..., None]).unbind(-1)):
        total.scatter_add_(1, (alive.first + r)[..., None].expand_as(function), value[..., None] * function)
    return total[:, degree:-degree]


def normal_band(alive: Alive, weight: Tensor, splines: int) -> Tensor:
    """sum_n weight[i, n] value[i, n, s] value[i, n, s + d] -> [I, S, p + 1]: see Banded."""
    inputs, _, count = alive.values.shape
    degree = count - 1
    total = weight.new_zeros((inputs, splines + 2 * degree, count))
    for d in range(count):
        terms = alive.values[..., : count - d] * alive.values[..., d:] * weight[..., None]
        places = alive.first[..., None] + torch.arange(count - d, device=weight.device)
        total[..., d].scatter_add_(1, places.flatten(1), terms.flatten(1))
    return total[:, degree:-degree]
