"""Knot vectors: uniform, adapted to samples, refined.

A grid of G intervals for splines of degree p is stored as extended knots [I, K] with K = G + 2p + 1: G + 1 grid points per input,
and p more at each end. Callers compute in float64 and under no_grad.
"""

from array import array
from itertools import pairwise

import torch
from torch import Tensor

MIN_CELL = 2.0**-10  # narrowest cell as a share of the mean cell: a cell of zero width gives finite values and NaN gradients
END_CELL = 0.25  # the same for the first and the last cell, whose cubics go on beside the grid
TINY_CELL = 2.0**-100  # narrowest cell at all: a subnormal one has no finite reciprocal in float32
SMALLEST = 2.0**25  # narrowest cell that a user may ask for, in units of the smallest normal number: 2^-101 in float32
OUTLIERS = 200  # one sample in so many, at either end, may stay outside of the grid; none of 16 or fewer
OUTLIER_REACH = 3  # if it lies so many times the range of the others from them: 18 standard deviations of normal samples


def extend(points: Tensor, degree: int) -> Tensor:
    """Grid points [I, G + 1] -> extended knots [I, G + 2p + 1]: adds p knots at each end, at the mean spacing (as pykan does)."""
    spacing = (points[:, -1:] - points[:, :1]) / (points.shape[1] - 1)
    steps = torch.arange(1, degree + 1, dtype=points.dtype, device=points.device)
    return torch.cat((points[:, :1] - spacing * steps.flip(0), points, points[:, -1:] + spacing * steps), dim=1)


def grid_points(knots: Tensor, degree: int) -> Tensor:
    """The G + 1 grid points inside extended knots: [I, K] -> [I, G + 1]."""
    return knots[:, degree : knots.shape[1] - degree]


def uniform_points(grid_size: int, degree: int, grid_range: tuple[float, float]) -> list[float]:
    """The G + 2p + 1 extended uniform knots of one input over grid_range = (low, high)."""
    low, high = grid_range
    points = [low + (high - low) * (j / grid_size) for j in range(-degree, grid_size + degree + 1)]
    points[degree + grid_size] = high  # low + (high - low) may miss it by a rounding
    return points


def check_apart(points: list[float], dtype: torch.dtype, name: str) -> None:
    """`rounded` for one input without a tensor, whose values nobody could ask for while FakeTensorMode is on."""
    held = array("d" if dtype == torch.float64 else "f", points)
    if not all(high - low > SMALLEST * torch.finfo(dtype).tiny for low, high in pairwise(held)):
        raise _not_apart(name, dtype)


def _not_apart(name: str, dtype: torch.dtype) -> ValueError:
    return ValueError(f"{name}: expected grid cells that {dtype} can tell apart, received cells below its resolution")


def uniform(in_features: int, grid_size: int, degree: int, grid_range: tuple[float, float]) -> Tensor:
    """Extended uniform knots [I, G + 2p + 1] over grid_range = (low, high), float64 on the CPU."""
    points = uniform_points(grid_size, degree, grid_range)
    return torch.tensor(points, dtype=torch.float64, device="cpu").expand(in_features, -1).clone()


def greville(knots: Tensor, degree: int) -> Tensor:
    """Greville abscissae [I, S], the means of p consecutive knots: as coefficients they give the function x (de Boor)."""
    windows = knots[:, 1:-1].unfold(1, degree, 1)
    return windows.mean(-1)


def rounded(knots: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """Knots in the dtype that will hold them. Raises ValueError with the argument's name if rounding makes neighbours equal."""
    held = knots.to(dtype)
    if not (held.diff(dim=1) > SMALLEST * torch.finfo(dtype).tiny).all():
        raise _not_apart(name, dtype)
    return held


def _ends(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the sorted samples [I, B] the grid must reach: the places [I, 1] of the lowest and of the highest.

    All but outliers: at most 1 in OUTLIERS at either end, and only if they lie further out than OUTLIER_REACH times the range
    of the rest.
    """
    count = ordered.shape[1]
    cut = min(-(-count // OUTLIERS), (count - 1) // 16)
    inner_low, inner_high = ordered[:, cut, None], ordered[:, count - 1 - cut, None]
    reach = OUTLIER_REACH * (inner_high - inner_low)
    reach = torch.where(reach > 0, reach, torch.inf)  # where nearly all samples are equal the others are what there is to see
    first = torch.searchsorted(ordered, inner_low - reach)
    last = torch.searchsorted(ordered, inner_high + reach, right=True) - 1
    return first, last


def _with_margin(end: Tensor, margin: Tensor, old_end: Tensor, resolved: Tensor) -> tuple[Tensor, Tensor]:
    """(new end, True where it is the old one) for the highest sample: the margin stops at the old end, if the sample does.

    Past it the function has another shape, which a cell across it could not follow.
    """
    kept = (end <= old_end) & (end + margin >= old_end - resolved)
    return torch.where(kept, old_end, end + margin), kept


def _quantiles(ordered: Tensor, at: Tensor) -> Tensor:
    """The sorted samples [I, B] at the places `at` [I, N], which need not be whole."""
    below = at.floor().long().clamp(max=ordered.shape[1] - 1)
    above = (below + 1).clamp(max=ordered.shape[1] - 1)
    return torch.lerp(ordered.gather(1, below), ordered.gather(1, above), at - below)


def adapt(knots: Tensor, x: Tensor, degree: int, eps: float, margin: float, dtype: torch.dtype, tail: int = 0) -> Tensor:
    """Extended knots for the samples x [B, I]: eps * uniform + (1 - eps) * quantiles, with a minimum width for every
    cell.

    margin: how far the grid goes on past the samples, as a share of their range; for B rows 1 / B is added, the share of it
    that so many samples miss. tail: past either end it goes on further, by the reach of so many samples there. dtype: what
    will hold the knots. A column of (almost) equal samples keeps its grid if the grid covers them. Otherwise its grid is moved
    to them.
    """
    points = grid_points(knots, degree)
    cells = points.shape[1] - 1
    ordered = x.sort(dim=0).values.T.contiguous()  # [I, B]
    first, last = _ends(ordered)
    lowest, highest = ordered.gather(1, first), ordered.gather(1, last)
    steps = torch.linspace(0, 1, cells + 1, dtype=x.dtype, device=x.device)

    resolved = (16 * torch.finfo(dtype).eps * torch.maximum(lowest.abs(), highest.abs())).clamp(min=TINY_CELL)
    room = (highest - lowest) * (margin + 1 / x.shape[0])
    some = min(tail, x.shape[0] // 4)
    reach_low = ordered.gather(1, (first + some).clamp(max=x.shape[0] - 1)) - lowest
    reach_high = highest - ordered.gather(1, (last - some).clamp(min=0))
    high, high_kept = _with_margin(highest, room + reach_high, points[:, -1:], resolved)
    low, low_kept = _with_margin(-lowest, room + reach_low, -points[:, :1], resolved)
    low, high = (end.to(dtype).to(x.dtype) for end in (-low, high))  # so that the same samples give the same grid again
    blended = low + (high - low) * steps
    if eps != 1:
        inner = _quantiles(ordered, first + steps[1:-1] * (last - first))
        blended = eps * blended + (1 - eps) * torch.cat((low, inner, high), dim=1)
    floor = torch.maximum((high - low) / cells * MIN_CELL, resolved)
    widths = torch.maximum(blended.diff(dim=1), floor)
    widths[:, [0, -1]] = torch.maximum(widths[:, [0, -1]], (high - low) / cells * END_CELL)
    span = widths.sum(1, keepdim=True)
    inner = low + widths[:, :-1].cumsum(1) * ((high - low) / span)
    adapted = extend(torch.cat((low, inner, high), dim=1), degree)
    adapted[:, :degree] = torch.where(low_kept, knots[:, :degree], adapted[:, :degree])
    adapted[:, -degree:] = torch.where(high_kept, knots[:, -degree:], adapted[:, -degree:])

    held = (lowest >= points[:, :1]) & (highest <= points[:, -1:])
    far = torch.maximum(points.diff(dim=1), resolved)  # a narrow grid moved far out would collapse in rounding
    middle = 0.5 * (lowest + highest - far.sum(1, keepdim=True))
    moved = extend(torch.cat((torch.zeros_like(low), far.cumsum(1)), dim=1) + middle, degree)
    spread = (highest - lowest) > floor * cells
    return torch.where(spread, adapted, torch.where(held, knots, moved))


def resample(knots: Tensor, degree: int, grid_size: int) -> Tensor:
    """Extended knots with grid_size intervals over the same range, distributed as the old ones are. Those beside the grid stay.

    Nested if the old G divides grid_size: every old knot is a new one.
    """
    points = grid_points(knots, degree)
    old = points.shape[1] - 1
    at = torch.arange(grid_size + 1, dtype=points.dtype, device=points.device) * old / grid_size
    below = at.floor().long().clamp(max=old - 1)
    inside = torch.lerp(points[:, below], points[:, below + 1], at - below)
    return torch.cat((knots[:, :degree], inside, knots[:, -degree:]), dim=1)


def outside(x: Tensor, knots: Tensor, degree: int) -> float:
    """Share of the values x [B, I] outside their grids, where fading splines and the activation are all there is."""
    points = grid_points(knots, degree)
    return float(((x < points[:, 0]) | (x > points[:, -1])).double().mean()) if x.numel() else 0.0
