"""A layer's change of grid: planned for all layers first, then taken, so that a failed call leaves them as they were."""

import functools
import gc
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from fastkan import ops
from fastkan.functional import check_degree, check_tensor
from fastkan.nn import scaled
from fastkan.nn.start import check_knots
from fastkan.splines import knots as grids
from fastkan.splines.refit import refit

if TYPE_CHECKING:
    from fastkan.nn.linear import KANLinear

POINTS = 8  # in every cell, to see what changed where no samples are
FEW = 10  # samples a cell: with fewer, others will fall outside the new grid (32 of 1,000 rows: up to 300 times the loss)
MANY_OUTSIDE = 0.05  # share of values outside the grid past which a refinement warns; an update leaves at most 0.01 there
# Samples at either end. Test errors of six fits of four inputs: geometric mean 5e-5, worst 1.1e-3; with none 4e-4 and 3.9e-3.
TAIL = 16


class GridChange(NamedTuple):
    """What a change of the grid did to a layer's answer y, in units of y.

    largest, rms: largest and root mean square change over the samples and outputs; without samples, over `anywhere`'s points
    outside: share of the samples' values outside the new grid, or None without samples; where torch.distributed runs, of
        this rank's samples
    anywhere: largest change over points that run through all cells of the old and of the new grid, those beside them too. Where
        it is much more than `largest`, the function changed where no sample was.
    """

    largest: float
    rms: float
    outside: float | None
    anywhere: float


class Plan(NamedTuple):
    """A layer's next knots, and the weight, scale and bias that keep its function on them, as the layer will hold them. None: the
    layer has none, or a plain layer's bias, which stays.
    """

    knots: Tensor
    weight: Tensor
    scale: Tensor | None = None
    bias: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Those that there are, by the layer's names."""
        return {name: tensor for name, tensor in self._asdict().items() if tensor is not None}


def normal_tensors(method: Callable) -> Callable:
    """Run a method without a graph, and outside torch.inference_mode(), whose tensors could never be trained again."""

    @functools.wraps(method)
    def run(*arguments: Any, **settings: Any) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return method(*arguments, **settings)

    return run


# ---- samples


def check_samples(x: Tensor, in_features: int) -> Tensor:
    """Samples x [..., I] as float64 [B, I]; TypeError or ValueError if they are none of this layer."""
    check_tensor("x", x)
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise ValueError(f"x: expected last dimension {in_features}, received shape {tuple(x.shape)}")
    return x.detach().reshape(x.shape[:-1].numel(), in_features).double()


def check_finite(samples: Tensor) -> None:
    """Raise ValueError unless samples [B, I] have rows and all are finite."""
    if not len(samples):
        raise ValueError("x: expected at least one row, received none")
    if bad := int((~samples.isfinite()).any(1).sum()):
        raise ValueError(f"x: expected finite samples, received {bad} of {len(samples)} rows with NaN or infinity")


def ranks() -> int:
    """How many processes torch.distributed joins; 0 where it does not run."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 0


def _every_rank(samples: Tensor, knots: Tensor) -> Tensor:
    """The samples of all ranks [B, I], the same on each, where torch.distributed runs; RuntimeError if they hold other grids.

    Every rank must call it, those without rows too.
    """
    world = ranks()
    if world < 2:
        return samples
    mine = torch.tensor([samples.shape[0], *knots.shape], device=samples.device)
    sizes = [torch.empty_like(mine) for _ in range(world)]
    distributed.all_gather(sizes, mine)
    if any(not torch.equal(size[1:], mine[1:]) for size in sizes):
        shapes = ", ".join(str(tuple(size[1:].tolist())) for size in sizes)
        raise RuntimeError(f"update_grid: expected copies of one layer on all ranks, received knots of shapes {shapes}")
    most = max(int(size[0]) for size in sizes)
    own = torch.cat((knots.to(samples), samples.T, samples.new_zeros(knots.shape[0], most - len(samples))), dim=1)
    received = [torch.empty_like(own) for _ in range(world)]
    distributed.all_gather(received, own)
    count = knots.shape[1]
    if any(not torch.equal(other[:, :count], own[:, :count]) for other in received):
        raise RuntimeError("update_grid: expected copies of one layer on all ranks, received different knots")
    return torch.cat([other[:, count : count + int(size[0])].T for other, size in zip(received, sizes, strict=True)])


# ---- plans


def _check_weight(layer: "KANLinear") -> None:
    if "weight" not in layer._parameters:  # a parametrized weight is computed at every access, so a refit would be lost
        raise RuntimeError("weight: expected a plain parameter, received one that is parametrized or pruned")
    if layer.unset:
        check_knots(layer)
    if type(layer.weight) is not nn.Parameter:
        raise RuntimeError(f"weight: expected a plain parameter, received a {type(layer.weight).__name__}; gather it first")


def _plan(layer: "KANLinear", knots: Tensor, origin: str, scale: Tensor | None = None) -> Plan:
    rounded = grids.rounded(knots, layer.knots.dtype, origin)
    if layer.scale is None:
        weight = refit(layer.weight.double(), layer.knots.double(), rounded.double(), layer.degree)
        return Plan(rounded, weight.to(layer.weight.dtype))
    assert layer.spline_scale is not None
    scale = scaled.scale_for(rounded, layer.degree, layer.spline_scale) if scale is None else scale
    return Plan(rounded, *scaled.refitted(layer, rounded, scale))


def plan_spline_scale(layer: "KANLinear", spline_scale: float | None) -> Plan:
    """The plan that holds a layer's splines by another spline_scale, or by none."""
    _check_weight(layer)
    scale = None if spline_scale is None else scaled.scale_for(layer.knots, layer.degree, spline_scale)
    return Plan(layer.knots, *scaled.held_by(layer, scale))


def plan_update(layer: "KANLinear", samples: Tensor, eps: float, margin: float) -> Plan:
    """The plan of KANLinear.update_grid for samples [B, I] of this rank. Warns of few samples."""
    _check_weight(layer)
    for name, value in (("eps", eps), ("margin", margin)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a number from 0 to 1, received {value!r}")
    everywhere = _every_rank(samples, layer.knots)
    check_finite(everywhere)
    if len(everywhere) < FEW * layer.grid_size:
        warnings.warn(
            f"update_grid: {len(everywhere)} samples for {layer.grid_size} grid cells say little of the others, which may fall "
            f"outside the new grid; give it at least {FEW * layer.grid_size}",
            stacklevel=4,
        )
    return _plan(layer, grids.adapt(layer.knots.double(), everywhere, layer.degree, eps, margin, layer.knots.dtype), "x")


def plan_refine(layer: "KANLinear", grid_size: int) -> Plan:
    """The plan of KANLinear.refine."""
    _check_weight(layer)
    check_degree(layer.degree, grid_size)
    weight = layer.weight
    if weight._backward_hooks or weight._post_accumulate_grad_hooks:
        raise RuntimeError("weight: expected a parameter without hooks, which a change of its shape would lose; remove them")
    if in_ddp(weight):
        raise RuntimeError(
            "weight: expected a layer outside DistributedDataParallel, which keeps the old shapes; "
            "refine its `.module` on every rank before it is wrapped, and wrap it again"
        )
    return _plan(layer, grids.resample(layer.knots.double(), layer.degree, grid_size), "grid_size")


def plan_cover(layer: "KANLinear", samples: Tensor, grid_size: int, margin: float, used: float) -> Plan | None:
    """The plan that gives a layer grid_size cells, and a uniform grid over the samples [B, I] for every input whose samples have
    left its grid or need less than the share `used` of it; None where nothing would change.

    The cells beside a grid get its own width: no sample is there, and a penalty on differences of coefficients asks for it.
    New rows lie past the samples where those thin out, so the grid goes on by the reach of the TAIL outermost.
    """
    _check_weight(layer)
    p, knots = layer.degree, layer.knots.double()
    if grid_size != layer.grid_size:
        knots = grids.extend(grids.grid_points(grids.resample(knots, p, grid_size), p), p)
    everywhere = _every_rank(samples, layer.knots)
    points = grids.grid_points(knots, p)
    low, high = everywhere.min(0).values, everywhere.max(0).values
    left, there = (low < points[:, 0]) | (high > points[:, -1]), points[:, -1] - points[:, 0]
    if bool((left | (high - low < used * there)).any()):  # adapt takes longer than all the rest
        adapted = grids.adapt(knots, everywhere, p, 1.0, margin, layer.knots.dtype, TAIL)
        ends = grids.grid_points(adapted, p)
        knots = torch.where((left | (ends[:, -1] - ends[:, 0] < used * there))[:, None], adapted, knots)
    return None if knots.shape == layer.knots.shape and torch.equal(knots, layer.knots.double()) else _plan(layer, knots, "x")


def plan_match(layer: "KANLinear", like: "KANLinear") -> Plan:
    """The plan that brings a layer to another one's knots and scale."""
    _check_weight(layer)
    scale = None if like.scale is None else like.scale.to(layer.knots)
    return _plan(layer, like.knots.to(layer.knots), "like", scale)


def _wrapped(weight: Tensor) -> bool:
    """True if the parameter is one of a DistributedDataParallel. It leaves no mark on it, so its wrappers are looked for."""
    wrappers = [o for o in gc.get_objects() if type(o) is DistributedDataParallel]
    return any(parameter is weight for wrapper in wrappers for parameter in wrapper.module.parameters())


def in_ddp(weight: Tensor) -> bool:
    """True if the parameter is one that a DistributedDataParallel averages."""
    if not ranks() or not _wrapped(weight):
        return False
    gc.collect()  # a wrapper that was dropped may have lived on in a cycle
    return _wrapped(weight)


def _difference(layer: "KANLinear", plan: Plan, x: Tensor) -> Tensor:
    """What a plan changes in y at x [B, I], in float64."""
    held = Plan(layer.knots, layer.weight, layer.scale, None if plan.bias is None else layer.bias)
    y, moved = (scaled.splines(x, *one, layer.degree) for one in (held, plan))
    return moved - y


def change(layer: "KANLinear", plan: Plan, samples: Tensor | None) -> GridChange:
    """What a plan changes; samples [B, I] in float64. Warns where many of them lie outside the new grid."""
    knots = torch.cat((layer.knots, plan.knots), dim=1).double().sort(dim=1).values
    places = torch.arange(POINTS, dtype=knots.dtype, device=knots.device) / POINTS
    everywhere = torch.lerp(knots[:, :-1, None], knots[:, 1:, None], places).flatten(1).T
    anywhere = _difference(layer, plan, everywhere)
    seen = anywhere if samples is None else _difference(layer, plan, samples)
    outside = None if samples is None else grids.outside(samples, plan.knots.double(), layer.degree)
    if outside is not None and outside > MANY_OUTSIDE:
        warnings.warn(
            f"{outside:.0%} of the samples' values lie outside the grid of a layer, where its splines fade to 0; "
            "update_grid lays the grid over them",
            stacklevel=4,
        )
    if not seen.numel():
        return GridChange(0.0, 0.0, outside, 0.0)
    largest, rms = float(seen.abs().max()), float(seen.square().mean().sqrt())
    return GridChange(largest, rms, outside, float(anywhere.abs().max()))


# ---- taking a plan


def take(layer: "KANLinear", plan: Plan) -> None:
    """Give the layer what is planned. The weight's gradient is cleared, and a bias's that changes.

    Tensors that keep their shape are written in place, so that autograd refuses graphs from before. For another shape the
    Parameter gets a new tensor inside: an optimizer still holds it, and graphs from before hold the old tensor.
    """
    weight, knots = layer.weight, layer.knots
    if plan.weight.shape == weight.shape and not weight.is_inference():
        weight.copy_(plan.weight)
    else:
        ops.swap_tensor(weight, nn.Parameter(plan.weight, weight.requires_grad))
    weight.grad = None
    if plan.knots.shape == knots.shape and not knots.is_inference():
        knots.copy_(plan.knots)
    else:
        layer.knots = plan.knots
    if layer.scale is None or plan.scale is None or layer.scale.is_inference():
        layer.scale = plan.scale
    else:
        layer.scale.copy_(plan.scale)
    if plan.bias is not None and layer.bias is not None:
        layer.bias.copy_(plan.bias)
        layer.bias.grad = None
