"""c f(a x + b) + d fitted to many edges by many functions, in one batch.

Over a grid of (a, b) with c, d in closed form, and from its best points Gauss-Newton on (a, b) with c, d eliminated (Kaufman's
variable projection). Symmetries of f shorten the grid: where a scale of (a, b) moves only c or d, |a| is 1; for exp b is 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastkan.nn import FUNCTIONS, Function

SPAN = 10.0  # slopes and offsets reach so far, in units of half the range of x
LEAST = 0.05  # the smallest slope
WAVES = 20.0  # the largest slope of a periodic function: three periods over the range of x
NODES = 64  # points of the grid search
FINE = 256  # samples of Gauss-Newton
STARTS, STEPS = 6, 16  # of Gauss-Newton
RISE, FALL = 8.0, 0.2  # of its damping
FLAT = 1e-20  # a share of squares that is rounding


class Fits(NamedTuple):
    """names [F]; r2 [F, E], -1 where nothing is allowed; affine [F, E, 4], the a, b, c, d; beyond [F, E], the r2 that parameters
    with a pole among the samples would reach on the grid, and pole [F, E], where that would be; size [E], the edges' deviations.
    """

    names: list[str]
    r2: Tensor
    affine: Tensor
    beyond: Tensor
    pole: Tensor
    size: Tensor


def explained(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """R^2, c and d of y ~ c z + d over the last dimension. R^2 is -1 where z is not finite, or flat and y is not."""
    bad = ~z.isfinite().all(-1)
    z = torch.where(bad[..., None], 0.0, z)
    middle, mean = z.mean(-1), y.mean(-1)
    away, off = z - middle[..., None], y - mean[..., None]
    zz, zy, yy = away.square().sum(-1), (away * off).sum(-1), off.square().sum(-1)
    flat = zz <= FLAT * z.shape[-1] * (1 + middle.square())
    c = torch.where(flat, 0, zy / torch.where(flat, 1, zz))
    none = yy <= FLAT * z.shape[-1] * (1 + mean.square())
    r2 = torch.where(none, 1, 1 - (off - c[..., None] * away).square().sum(-1) / torch.where(none, 1, yy))
    return torch.where(bad | (flat & ~none), -1, r2), c, mean - c * middle


def _with_signs(a: Tensor, function: Function) -> Tensor:
    return a if function.parity else torch.cat((a, -a))


def grid_of(function: Function, like: Tensor) -> tuple[Tensor, Tensor]:
    """The slopes and offsets [K] each that are tried, for x from -1 to 1."""

    def between(low: float, high: float, count: int) -> Tensor:
        return torch.linspace(low, high, count, dtype=like.dtype, device=like.device)

    def powers(low: float, high: float, count: int) -> Tensor:
        return torch.logspace(low, high, count, dtype=like.dtype, device=like.device)

    one, slopes = like.new_ones(1), powers(-1.3, 1.0, 20)
    if function.shifting == "offset":  # the straight line
        return one, 0 * one
    if function.shifting == "amplitude":
        a = torch.cat((powers(-1.3, 1.0, 40), -powers(-1.3, 1.0, 40)))
        return a, 0 * a
    if function.scaling:
        beside = 1 + powers(-3.0, 1.0, 40)
        a, b = _with_signs(one, function), torch.cat((between(-1, 1, 41), beside, -beside))
    elif function.period and not function.poles:
        a, b = between(0.1, WAVES, 100), between(0, function.period / 2, 7)[:-1]
    elif function.period:
        a, b = powers(-1.3, 0.2, 20), between(0, function.period, 33)[:-1]
    elif function.high - function.low < torch.inf:
        half = (function.high - function.low) / 2
        a, b = _with_signs(half * powers(-1.3, 0.0, 20), function), between(function.low, function.high, 41)
    else:
        a, b = _with_signs(slopes, function), between(-SPAN, SPAN, 83)
    pairs = torch.cartesian_prod(a, b)
    return pairs[:, 0], pairs[:, 1]


def _evenly(x: Tensor, y: Tensor) -> Tensor:
    """y [E, N] over sorted x [E, N] in [-1, 1], at NODES even points [E, NODES], by straight lines."""
    t = torch.linspace(-1, 1, NODES, dtype=x.dtype, device=x.device).expand(len(x), -1).contiguous()
    right = torch.searchsorted(x.contiguous(), t).clamp(1, x.shape[1] - 1)
    x0, x1, y0, y1 = (v.gather(1, right - k) for v in (x, y) for k in (1, 0))
    width = x1 - x0
    return torch.lerp(y0, y1, torch.where(width > 0, (t - x0) / torch.where(width > 0, width, 1), 0).clamp(0, 1))


class _Search(NamedTuple):
    """A function's best points of the grid: a, b [T, E], and what poles kept out [E]."""

    a: Tensor
    b: Tensor
    beyond: Tensor
    pole: Tensor


def _search(function: Function, y: Tensor) -> _Search:
    """y: [E, NODES] at even points."""
    a, b = grid_of(function, y)
    t = torch.linspace(-1, 1, NODES, dtype=y.dtype, device=y.device)
    z = function.call(a[:, None] * t + b[:, None])
    trouble = function.trouble(b - a.abs(), b + a.abs())
    finite = z.isfinite().all(1)
    z = torch.where(finite[:, None], z, 0)
    z = z - z.mean(1, keepdim=True)
    off = y - y.mean(1, keepdim=True)
    zz, yy = z.square().sum(1), off.square().sum(1)
    r2 = (z @ off.T).square() / (zz[:, None] * yy).clamp(min=1e-300)  # [K, E]
    r2 = torch.where((finite & (zz > 0))[:, None], r2, -1)
    allowed = torch.where(trouble[:, None], -1, r2)
    rank = b.argsort(stable=True)  # a start from each range of offsets: the best of all often lie beside each other
    top = torch.stack([part[allowed[part].argmax(0)] for part in rank.chunk(STARTS)])
    best, at = torch.where(trouble[:, None], r2, -1).max(0)
    pole = torch.full_like(best, torch.nan)
    if function.poles and function.period is None:
        pole = (function.poles[0] - b[at]) / a[at]
    elif function.poles and function.period:
        first, low = function.poles[0], b[at] - a[at].abs()
        pole = (first + function.period * ((low - first) / function.period).ceil() - b[at]) / a[at]
    return _Search(a[top], b[top], best, pole)


def _refined(function: Function, start: _Search, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The best a, b [E] after Gauss-Newton from every start on x, y [E, N], x from -1 to 1."""
    a, b = start.a, start.b

    def value(a: Tensor, b: Tensor) -> Tensor:
        r2 = explained(function.call(a[..., None] * x + b[..., None]), y)[0]
        return torch.where(function.trouble(b - a.abs(), b + a.abs()), -1, r2)

    best, damping = value(a, b), torch.full_like(a, 1e-5)
    fixed_a, fixed_b = bool(function.scaling), bool(function.shifting)
    for _ in range(0 if fixed_a and fixed_b else STEPS):
        z = a[..., None] * x + b[..., None]
        f, slope = function.call(z), function.slope(z)
        _, c, d = explained(f, y)
        r = y - c[..., None] * f - d[..., None]
        away = f - f.mean(-1, keepdim=True)
        size = away.square().sum(-1, keepdim=True).clamp(min=1e-300)

        def left(v: Tensor, away: Tensor = away, size: Tensor = size) -> Tensor:  # what is no sum of 1 and f
            v = v - v.mean(-1, keepdim=True)
            return v - away * ((v * away).sum(-1, keepdim=True) / size)

        to_a, to_b = left(c[..., None] * slope * x), left(c[..., None] * slope)
        aa, bb, ab = (to_a * to_a).sum(-1), (to_b * to_b).sum(-1), (to_a * to_b).sum(-1)
        aa, bb = aa * (1 + damping) + 1e-300, bb * (1 + damping) + 1e-300
        ra, rb = (to_a * r).sum(-1), (to_b * r).sum(-1)
        if fixed_a or fixed_b:
            da, db = (0 * ra, rb / bb) if fixed_a else (ra / aa, 0 * rb)
        else:
            det = aa * bb - ab * ab
            da, db = (bb * ra - ab * rb) / det, (aa * rb - ab * ra) / det
        ok = da.isfinite() & db.isfinite()
        next_a, next_b = torch.where(ok, a + da, a), torch.where(ok, b + db, b)
        new = value(next_a, next_b)
        better = new > best
        a, b = torch.where(better, next_a, a), torch.where(better, next_b, b)
        best, damping = torch.where(better, new, best), torch.where(better, damping * FALL, damping * RISE)
    at = best.argmax(0)[None]
    return a.gather(0, at)[0], b.gather(0, at)[0]


@torch.no_grad()
def fits(x: Tensor, y: Tensor, names: Sequence[str] | None = None) -> Fits:
    """Fit c f(a x + b) + d to the samples x, y [E, N] of E edges, for every name; float64.

    Parameters whose function has a pole between the least and the largest x, or leaves its domain there, are not allowed.
    """
    names = list(FUNCTIONS if names is None else names)
    order = x.argsort(1)
    xs, ys = x.gather(1, order), y.gather(1, order)
    low, high = xs[:, :1], xs[:, -1:]
    middle, half = (low + high) / 2, (high - low) / 2
    half = torch.where(half > 0, half, 1)
    xs = (xs - middle) / half
    even = _evenly(xs, ys)
    some = torch.linspace(0, x.shape[1] - 1, min(FINE, x.shape[1]), device=x.device).round().long()
    found = []
    for name in names:
        function = FUNCTIONS[name]
        start = _search(function, even)
        a, b = _refined(function, start, xs[:, some], ys[:, some])
        a, b = a / half[:, 0], b - a * (middle / half)[:, 0]
        if function.scaling and not function.shifting:
            a, b = a.sign(), b / a.abs()
        elif function.scaling:  # the straight line
            a, b = torch.ones_like(a), torch.zeros_like(b)
        elif function.shifting:
            b = torch.zeros_like(b)
        if function.parity and not function.scaling:
            a, b = a.abs(), torch.where(a < 0, -b, b)
        if function.period:
            b = b - function.period * (b / function.period).round()
        r2, c, d = explained(function.call(a[:, None] * x + b[:, None]), y)
        ends = torch.stack((a * low[:, 0] + b, a * high[:, 0] + b))
        r2 = torch.where(function.trouble(ends.amin(0), ends.amax(0)), -1, r2)
        pole = middle[:, 0] + half[:, 0] * start.pole
        found.append((r2, torch.stack((a, b, c, d), -1), start.beyond, pole))
    r2, affine, beyond, pole = map(torch.stack, zip(*found, strict=True))
    return Fits(names, r2, affine, beyond, pole, y.std(1, correction=0))
