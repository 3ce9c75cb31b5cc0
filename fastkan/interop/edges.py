"""Layers of any functions on edges (Chebyshev, Fourier, wavelets, radial bases), projected to splines."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastkan.functional import check_degree
from fastkan.interop.assembled import make_layer
from fastkan.nn.linear import KANLinear
from fastkan.splines.activations import check_activation
from fastkan.splines.banded import Banded
from fastkan.splines.knots import grid_points, rounded, uniform
from fastkan.splines.local import combined, normal_band, projected, splines_at

Function = Callable[[Tensor], Tensor]
LARGEST = 1024  # cells
ANYWHERE = 2000  # points over the whole range, that every grid is measured at
INSIDE = 9  # points in every cell, its ends among them, that a fit is measured at; none is one of those that it is made from
ELEMENTS = 2**22  # values of edges at a time (32 MB)
ADDITIVE = 1e-6  # of a layer's largest answer: how much less than a sum of its edges it may be


class Projection(NamedTuple):
    """layer: the KANLinear; error [I, O]: the largest error of every edge inside the range, in float64"""

    layer: KANLinear
    error: Tensor


class _Range(NamedTuple):
    """The range of every input, float64 [I]."""

    low: Tensor
    high: Tensor

    def at(self, share: Tensor) -> Tensor:
        """Points [I, N] at shares [N] or [I, N] of the ranges."""
        return torch.lerp(self.low[:, None], self.high[:, None], share)


def _check_range(grid_range: Any, in_features: int) -> _Range:
    ends = torch.as_tensor(grid_range, dtype=torch.float64, device="cpu")
    if tuple(ends.shape) not in ((2,), (in_features, 2)) or not ends.isfinite().all() or not (ends[..., 0] < ends[..., 1]).all():
        raise ValueError(
            f"grid_range: expected finite (low, high) with low < high, or one such row an input, received {grid_range!r}"
        )
    return _Range(*ends.expand(in_features, 2).unbind(1))


class _Edges:
    """A function of edges that is asked for a part of its points at a time, and whose answers are checked."""

    def __init__(self, function: Function, in_features: int, out_features: int) -> None:
        self.function, self.shape = function, (in_features, out_features)
        self.part = max(1, ELEMENTS // max(1, in_features * out_features))

    def __call__(self, x: Tensor) -> Any:
        """(points [I, T], values [I, T, O]), part by part, for points x [I, N]."""
        for points in x.split(self.part, dim=1):
            t = points.T.contiguous()
            values = self.function(t)
            expected = (len(t), *self.shape)
            if not isinstance(values, Tensor) or tuple(values.shape) != expected or not values.is_floating_point():
                shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                raise ValueError(f"function: expected floating values [T, I, O] = {expected} at t [T, I], received {shape}")
            if not values.isfinite().all():
                row, i, o = (~values.isfinite()).nonzero()[0].tolist()
                raise ValueError(
                    f"function: expected finite values in the range, received {values[row, i, o].item()} on edge ({i}, {o}) at "
                    f"{t[row, i].item():g}"
                )
            yield points, values.detach().double().cpu().transpose(0, 1)


class _Fit(NamedTuple):
    weight: Tensor
    knots: Tensor
    error: Tensor
    scale: Tensor


def _fit(edges: _Edges, ends: _Range, grid_size: int, degree: int, dtype: torch.dtype) -> _Fit:
    """The least-squares fit on so many cells, as a layer of that dtype holds it, and its largest errors and values [I, O]."""
    splines = grid_size + degree
    unit = uniform(1, grid_size, degree, (0.0, 1.0))[0]
    held = rounded(ends.at(unit), torch.float64 if dtype == torch.float64 else torch.float32, "grid_range").double()
    points = grid_points(held, degree)
    low, width = points[:, :-1, None], points.diff(dim=1)[..., None]
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(2 * degree + 2))
    normal, target = torch.zeros(()), torch.zeros(())
    share = weights.repeat(grid_size).split(edges.part)
    for (x, values), w in zip(edges((low + width * (0.5 + 0.5 * nodes)).flatten(1)), share, strict=True):
        alive = splines_at(x, held, degree)
        normal = normal + normal_band(alive, w.expand(x.shape), splines)
        target = target + projected(alive, w.expand(x.shape), values, splines)
    coefficients = Banded(normal).solve(target).to(dtype).double()
    inside = (low + width * torch.linspace(0, 1, INSIDE, dtype=torch.float64)).flatten(1)
    golden = torch.arange(1, ANYWHERE + 1, dtype=torch.float64) * (5**0.5 - 1) / 2 % 1
    error = scale = torch.zeros(edges.shape, dtype=torch.float64)
    for x, values in edges(torch.cat((inside, ends.at(golden)), dim=1)):
        found = combined(splines_at(x, held, degree), coefficients)
        error = torch.maximum(error, (found - values).abs().amax(1))
        scale = torch.maximum(scale, values.abs().amax(1))
    return _Fit(torch.nn.functional.pad(coefficients, (0, 0, 0, 1)), held, error, scale)


def _smallest(make: Callable[[int], _Fit], tolerance: float, first: int, largest: int) -> _Fit:
    """The fit on the smallest grid of `first` cells or more that is near enough, found by doubling and bisection."""

    def allowed(fit: _Fit) -> Tensor:
        return tolerance * torch.maximum(fit.scale, tolerance * fit.scale.max())

    def near(fit: _Fit) -> bool:
        return not fit.error.numel() or bool((fit.error <= allowed(fit)).all())

    failed, size = first - 1, first
    while not near(best := make(size)):
        if size == largest:
            i, o = divmod(int((best.error / allowed(best)).argmax()), best.error.shape[1])
            raise ValueError(
                f"tolerance: expected edges within {tolerance:g} of their largest values on at most {largest} cells (largest), "
                f"received an error of {best.error[i, o]:.3g} on edge ({i}, {o}), whose values reach {best.scale[i, o]:.3g}"
            )
        failed, size = size, min(2 * size, largest)
    while size - failed > 1:
        middle = (size + failed) // 2
        if near(fit := make(middle)):
            best, size = fit, middle
        else:
            failed = middle
    return best


@torch.no_grad()
def from_edges(
    function: Function,
    in_features: int,
    out_features: int,
    grid_range: Any = (-1.0, 1.0),
    tolerance: float = 1e-4,
    degree: int = 3,
    largest: int = LARGEST,
    activation: str = "silu",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Projection:
    """A KANLinear whose edges are the functions of any other layer that sums its edges, by least squares in float64.

    function: the values [T, I, O] of all edges at t [T, I] in float64: column i holds points for the edges of input i
    grid_range: (low, high) for all inputs, or [I, 2]; past it the layer's edges fade to 0 within `degree` cells
    tolerance: the largest error of an edge as a share of its largest value, on points that the fit has not seen: 9 in every cell
        and 2,000 over the range. An edge smaller than tolerance times the largest one counts as if it were so large.
    largest: grid size to try; the layer's is the smallest of at least `degree` that is near enough, by doubling and bisection
    activation: of the base slot, whose weights are 0
    returns: (layer, error), a KANLinear without bias and the largest error of every edge [I, O], in float64
    raises: ValueError with the edge and its error where `largest` cells do not reach the tolerance; for values that are not
        [T, I, O], NaN or infinite; for a wrong argument

    >>> import torch, fastkan
    >>> layer, error = fastkan.interop.from_edges(lambda t: torch.sin(3 * t)[..., None], 2, 1)
    >>> layer.grid_size, error.shape, bool(error.max() < 1e-4)
    (12, torch.Size([2, 1]), True)
    """
    check_degree(degree, largest)
    check_activation(activation)
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance: expected a number between 0 and 1, received {tolerance!r}")
    ends, edges = _check_range(grid_range, in_features), _Edges(function, in_features, out_features)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    first = min(degree, largest)  # of fewer cells the ends go on as steep polynomials
    fit = _smallest(lambda size: _fit(edges, ends, size, degree, dtype), tolerance, first, largest)
    weight, knots = fit.weight.to(device or torch.get_default_device()), fit.knots
    return Projection(make_layer(weight, knots.to(weight.device), activation, dtype=dtype), fit.error)


@torch.no_grad()
def edges_of(layer: nn.Module | Function, in_features: int, grid_range: Any = (-1.0, 1.0)) -> Function:
    """The edges of a layer that is a sum of functions of one input each, for from_edges: found by moving one input at a time.

    layer: a module or function from x [B, I] to [B, O]. A module is copied, and runs in float64 and in eval mode.
    grid_range: as for from_edges; the other inputs rest in its middle, and what the layer gives there is shared by all edges
    returns: a function from t [T, I] to [T, I, O]
    raises: ValueError with the deviation for a layer that is no sum, at random points in the range

    >>> import torch, fastkan
    >>> layer = torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(3, 2, bias=False))
    >>> fastkan.interop.from_edges(fastkan.interop.edges_of(layer, 3), 3, 2).layer
    KANLinear(in_features=3, out_features=2, bias=False, grid_size=7, degree=3, activation='silu')
    """
    run: Function = copy.deepcopy(layer).double().eval() if isinstance(layer, nn.Module) else layer
    tensors = [*run.parameters(), *run.buffers()] if isinstance(run, nn.Module) else []
    device = tensors[0].device if tensors else torch.device("cpu")
    ends = _check_range(grid_range, in_features)
    middle = 0.5 * (ends.low + ends.high)
    base = run(middle[None].to(device)).detach().cpu()
    if in_features == 0 or base.ndim != 2 or len(base) != 1:
        raise ValueError(
            f"layer: expected one of at least one input from [B, I] to [B, O], received {tuple(base.shape)} for B = 1"
        )

    def function(t: Tensor) -> Tensor:
        values = []
        for i in range(in_features):
            x = middle.repeat(len(t), 1)
            x[:, i] = t[:, i]
            values.append(run(x.to(device)).detach().cpu() - base * (1 - 1 / in_features))
        return torch.stack(values, dim=1)

    generator = torch.Generator().manual_seed(0)
    x = ends.at(torch.rand(in_features, 64, generator=generator, dtype=torch.float64)).T.contiguous()
    y = run(x.to(device)).detach().cpu()
    deviation = (function(x).sum(1) - y).abs().max().item()
    if not deviation <= ADDITIVE * y.abs().max().item():
        raise ValueError(
            f"layer: expected a sum of functions of one input each, received one that differs from it by {deviation:.3g}, where "
            f"its answers reach {y.abs().max().item():.3g}"
        )
    return function
