"""How coefficients go from one grid to another, in float64 and under no_grad."""

import functools

import numpy as np
import torch
from torch import Tensor

from fastkan.splines.banded import Banded
from fastkan.splines.knots import greville
from fastkan.splines.local import combined, normal_band, projected, shares, splines_at

# Each multiplies the error of the ridge by ridge / (ridge + eigenvalue), so nothing of it is left where the fit is well
# determined.
RIDGE_STEPS = 4
ELEMENTS = 2**22  # a refit works on as many inputs at a time as have so many values at its nodes (32 MB)


def _fitted_range(old: Tensor, new: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    """Where the fit looks, [I, 1] each: the new grid, and the cells beside it at an end where they are the old ones.

    Splines that end elsewhere than the old ones did cannot follow them beside the grid, and would trade the grid for it.
    """
    p = degree
    low_kept = (old[:, : p + 1] == new[:, : p + 1]).all(1, keepdim=True)
    high_kept = (old[:, -p - 1 :] == new[:, -p - 1 :]).all(1, keepdim=True)
    return torch.where(low_kept, new[:, :1], new[:, p : p + 1]), torch.where(high_kept, new[:, -1:], new[:, -p - 1 : -p])


@functools.cache
def _gauss(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [-1, 1]; numpy takes 200 us for them."""
    return np.polynomial.legendre.leggauss(points)


def _quadrature(old: Tensor, new: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights [I, Q] over the fitted range, exact for products of splines of both grids.

    Every new cell has the same weight, because every cell of a quantile grid holds the same number of samples.
    """
    breaks = torch.cat((old, new), dim=1).clamp(*_fitted_range(old, new, degree)).sort(dim=1).values
    nodes, weights = (torch.from_numpy(a).to(old) for a in _gauss(degree + 1))
    width, middle = breaks.diff(dim=1), 0.5 * (breaks[:, 1:] + breaks[:, :-1])
    cell = (torch.searchsorted(new.contiguous(), middle.contiguous(), right=True) - 1).clamp(0, new.shape[1] - 2)
    share = width / new.diff(dim=1).gather(1, cell)
    x = middle[..., None] + 0.5 * width[..., None] * nodes
    return x.flatten(1), (0.5 * share[..., None] * weights).flatten(1)


def _ridge(degree: int) -> float:
    """The ridge as a share of the normal matrix's mean diagonal: too small to matter for any spline of an even grid."""
    return 10.0 ** (-2 * min(max(degree, 3), 7))


def _least_squares(old: Tensor, new: Tensor, degree: int, coefficients: Tensor) -> Tensor:
    """The least-squares fit on the new grid [I, S', O].

    Splines that hardly overlap the fitted range (past a narrow end cell) would get huge coefficients for the last bit of the
    fit, and the function would blow up beside the grid. A ridge (iterated Tikhonov) holds them at the old values at their
    Greville abscissae.
    """
    splines = new.shape[1] - degree - 1
    x, w = _quadrature(old, new, degree)
    here = splines_at(x, new, degree)
    held = combined(splines_at(torch.cat((x, greville(new, degree)), dim=1), old, degree), coefficients)
    target = projected(here, w, held[:, : x.shape[1]], splines)
    normal = normal_band(here, w, splines)
    ridge = _ridge(degree) * normal[..., 0].mean(1)[:, None]
    normal[..., 0] += ridge
    system = Banded(normal)
    fit = held[:, x.shape[1] :]
    for _ in range(RIDGE_STEPS):
        fit = system.solve(target + ridge[..., None] * fit)
    return fit


def is_nested(old: Tensor, new: Tensor) -> bool:
    """True if every grid in `new` [I, K'] has all knots of the same one in `old` [I, K], so that its splines can be the old
    ones.
    """
    at = torch.searchsorted(new.contiguous(), old.contiguous()).clamp(max=new.shape[1] - 1)
    return bool((new.gather(1, at) == old).all())


def _refit(coefficients: Tensor, old: Tensor, new: Tensor, degree: int) -> Tensor:
    """Coefficients [I, S, O] on the knots `new`, all float64 on the CPU."""
    if is_nested(old, new):
        return combined(shares(old, new, degree), coefficients)
    inputs, splines, outputs = coefficients.shape
    if outputs < splines:
        fit = _least_squares(old, new, degree, coefficients)
    else:
        fit = _least_squares(old, new, degree, torch.eye(splines, dtype=old.dtype).expand(inputs, -1, -1)) @ coefficients
    if old.shape == new.shape:  # an input whose knots stay keeps its coefficients bit for bit
        fit = torch.where((old == new).all(1)[:, None, None], coefficients, fit)
    return fit


def refit(weight: Tensor, old: Tensor, new: Tensor, degree: int) -> Tensor:
    """Weight [I, M', O] on the knots `new` for weight [I, M, O] on the knots `old`, float64; the base slot is copied.

    Where every old knot is a new one too, the function stays the same on the whole line (knot insertion). Elsewhere it is the
    least-squares fit over the new grid. It is made on the CPU, so that all devices get the same.
    """
    splines = new.shape[1] - degree - 1
    coefficients, old, new = weight[:, :-1].cpu(), old.cpu(), new.cpu()
    nodes = (degree + 1) * (old.shape[1] + new.shape[1])
    part = max(1, ELEMENTS // (nodes * max(min(coefficients.shape[1:]), degree + 1)))
    parts = [slice(i, i + part) for i in range(0, weight.shape[0], part)]
    fitted = [_refit(coefficients[p], old[p], new[p], degree) for p in parts]
    refitted = torch.cat(fitted).to(weight.device) if fitted else weight.new_empty((0, splines, weight.shape[2]))
    return torch.cat((refitted, weight[:, -1:]), dim=1)


def smallest_through(values: Tensor, degree: int) -> Tensor:
    """The smallest coefficients [I, S, O] of splines on a uniform grid that have the values [I, G + 1, O] at its grid points.

    That is V^T (V V^T)^-1 values, where all rows of V hold the same p numbers.
    """
    knots = torch.arange(2.0 * degree + 2, dtype=torch.float64, device=values.device)[None]
    row = splines_at(knots[:, degree : degree + 1], knots, degree).values[0, 0, :degree]
    overlaps = torch.stack([row[d:] @ row[: degree - d] for d in range(degree)])
    points = values.shape[1]
    solved = Banded(overlaps.expand(1, points, degree)).solve(values.double())
    coefficients = solved.new_zeros((values.shape[0], points + degree - 1, values.shape[2]))
    for r, value in enumerate(row):
        coefficients[:, r : r + points] += value * solved
    return coefficients
