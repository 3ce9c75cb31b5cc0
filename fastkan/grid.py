"""Knot vectors: uniform, adapted to samples, refined; and the refit that carries a function from one grid to another.

A grid is kept as extended knots [I, K], K = G + 2p + 1: G + 1 grid points per input and p more at either end. Everything here is
computed in float64 and under no_grad.
"""

import numpy as np
import torch
from torch import Tensor

from fastkan import ops, reference

MIN_CELL = 2.0**-10  # narrowest cell as a share of the mean cell: degenerate cells give finite values and NaN gradients
TINY_CELL = 2.0**-100  # narrowest cell at all: a subnormal one has no finite reciprocal in float32
RIDGE_STEPS = 4  # each multiplies what the ridge costs by ridge / (ridge + eigenvalue): nothing is left where it matters
REFIT_ELEMENTS = 2**23  # the refit expands the basis at its quadrature nodes, at most this many values (64 MB) at a time


def extend(points: Tensor, degree: int) -> Tensor:
    """Grid points [I, G + 1] -> extended knots [I, G + 2p + 1]: p knots more at either end at the mean spacing (as pykan)."""
    spacing = (points[:, -1:] - points[:, :1]) / (points.shape[1] - 1)
    steps = torch.arange(1, degree + 1, dtype=points.dtype, device=points.device)
    return torch.cat((points[:, :1] - spacing * steps.flip(0), points, points[:, -1:] + spacing * steps), dim=1)


def grid_points(knots: Tensor, degree: int) -> Tensor:
    """The G + 1 grid points inside extended knots: [I, K] -> [I, G + 1]."""
    return knots[:, degree : knots.shape[1] - degree]


def uniform(in_features: int, grid_size: int, degree: int, grid_range: tuple[float, float]) -> Tensor:
    """Extended uniform knots [I, G + 2p + 1] over grid_range = (low, high), float64 on the CPU."""
    low, high = grid_range
    j = torch.arange(-degree, grid_size + degree + 1, dtype=torch.float64, device="cpu")
    knots = low + (high - low) * (j / grid_size)
    knots[degree + grid_size] = high  # low + (high - low) may miss it by a rounding
    return knots.expand(in_features, -1).clone()


def greville(knots: Tensor, degree: int) -> Tensor:
    """Greville abscissae [I, S], the means of p consecutive knots: as coefficients they give the function x (de Boor)."""
    windows = knots[:, 1:-1].unfold(1, degree, 1)
    return windows.mean(-1)


def rounded(knots: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """Knots in the dtype that will hold them; ValueError naming the argument they came from where it makes neighbours equal."""
    held = knots.to(dtype)
    if not (held.diff(dim=1) > 0).all():
        raise ValueError(f"{name}: expected grid cells that {dtype} can tell apart, received cells below its resolution")
    return held


def adapt(knots: Tensor, x: Tensor, degree: int, eps: float, resolution: float) -> Tensor:
    """Extended knots for the samples x [B, I]: eps * uniform + (1 - eps) * quantiles, each cell wide enough to be safe.

    resolution: relative spacing of the dtype that will hold the knots (torch.finfo(dtype).eps). A column whose samples do not
    spread keeps its grid if it holds them, else its grid is moved there.
    """
    points = grid_points(knots, degree)
    cells = points.shape[1] - 1
    ordered = x.sort(dim=0).values.T.contiguous()  # [I, B]
    low, high = ordered[:, :1], ordered[:, -1:]
    steps = torch.linspace(0, 1, cells + 1, dtype=x.dtype, device=x.device)
    at = steps * (x.shape[0] - 1)
    below = at.floor().long().clamp(max=x.shape[0] - 1)
    above = (below + 1).clamp(max=x.shape[0] - 1)
    quantiles = torch.lerp(ordered[:, below], ordered[:, above], at - below)
    blended = eps * (low + (high - low) * steps) + (1 - eps) * quantiles

    resolved = (16 * resolution * torch.maximum(low.abs(), high.abs())).clamp(min=TINY_CELL)
    floor = torch.maximum((high - low) / cells * MIN_CELL, resolved)
    widths = torch.maximum(blended.diff(dim=1), floor)
    span = widths.sum(1, keepdim=True)
    adapted = torch.cat((low, low + widths.cumsum(1) * ((high - low) / span)), dim=1)

    held = (low >= points[:, :1]) & (high <= points[:, -1:])
    far = torch.maximum(points.diff(dim=1), resolved)  # a narrow grid moved far out would collapse in rounding
    moved = torch.cat((torch.zeros_like(low), far.cumsum(1)), dim=1) + 0.5 * (low + high - far.sum(1, keepdim=True))
    spread = (high - low) > floor * cells
    return torch.where(spread, extend(adapted, degree), torch.where(held, knots, extend(moved, degree)))


def resample(knots: Tensor, degree: int, grid_size: int) -> Tensor:
    """Extended knots with grid_size intervals over the same range, spread as the old ones are; nested where G divides it."""
    points = grid_points(knots, degree)
    old = points.shape[1] - 1
    at = torch.arange(grid_size + 1, dtype=points.dtype, device=points.device) * old / grid_size
    below = at.floor().long().clamp(max=old - 1)
    return extend(torch.lerp(points[:, below], points[:, below + 1], at - below), degree)


def _quadrature(old: Tensor, points: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights [Q, I] over the grid points' range, exact for products of splines of both grids.

    Every new cell weighs the same, as every cell of a quantile grid holds the same number of samples.
    """
    low, high = points[:, :1], points[:, -1:]
    breaks = torch.cat((old.clamp(low, high), points), dim=1).sort(dim=1).values
    nodes, weights = (torch.from_numpy(a).to(points) for a in np.polynomial.legendre.leggauss(degree + 1))
    width = breaks.diff(dim=1)
    middle = 0.5 * (breaks[:, 1:] + breaks[:, :-1])
    cell = (torch.searchsorted(points.contiguous(), middle.contiguous(), right=True) - 1).clamp(0, points.shape[1] - 2)
    share = width / points.diff(dim=1).gather(1, cell)
    x = middle[..., None] + 0.5 * width[..., None] * nodes
    w = 0.5 * share[..., None] * weights
    return x.flatten(1).T.contiguous(), w.flatten(1).T.contiguous()


def _ridge(degree: int) -> float:
    """Ridge as a share of the normal matrix's mean diagonal: below what every spline of an even grid is seen by."""
    return 10.0 ** (-2 * min(max(degree, 3), 7))


def refit(weight: Tensor, old: Tensor, new: Tensor, degree: int) -> Tensor:
    """Weight [I, M', O] on the knots `new`, in least squares over the new grid nearest to weight [I, M, O] on the knots `old`.

    Where the new spline space holds the old function (nested refinement) that is the same function. The normal matrix comes
    from gram. Splines that the range hardly sees, those past a narrow end cell, would take huge coefficients for the last bit
    of the fit and blow up beside the grid, so a ridge (iterated Tikhonov) holds these at the old values at their Greville
    abscissae. Inputs whose knots stay keep their weight bit for bit. float64 tensors; the base slot is carried over as it is.
    """
    points = grid_points(new, degree)
    x, w = _quadrature(old, points, degree)
    splines = new.shape[1] - degree - 1
    normal = ops.gram(x, w, new, degree, "zero", "", 0, 0)[:, :splines, :splines]
    start = greville(new, degree)
    coefficients = weight[:, :-1]
    fitted = []
    rows = max(1, REFIT_ELEMENTS // (x.shape[0] * (splines + coefficients.shape[1])))
    for i in range(0, weight.shape[0], rows):
        part = slice(i, i + rows)
        here = reference.basis(x[:, part], new[part], degree) * w[:, part, None]
        cross = torch.einsum("qim,qin->imn", here, reference.basis(x[:, part], old[part], degree))
        prior = torch.einsum("sin,ino->iso", reference.basis(start[part].T, old[part], degree), coefficients[part])
        ridge = _ridge(degree) * normal[part].diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        factors = torch.linalg.lu_factor(normal[part] + ridge * torch.eye(splines, dtype=x.dtype, device=x.device))
        fit = prior
        for _ in range(RIDGE_STEPS):
            fit = torch.linalg.lu_solve(*factors, cross @ coefficients[part] + ridge * fit)
        fitted.append(fit)
    refitted = torch.cat(fitted) if fitted else coefficients.new_empty((0, splines, weight.shape[2]))
    if old.shape == new.shape:
        refitted = torch.where((old == new).all(1)[:, None, None], coefficients, refitted)
    return torch.cat((refitted, weight[:, -1:]), dim=1)
