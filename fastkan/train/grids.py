"""Changes of grid for whole models, with what else is a function on the grid: an optimizer's moments, averages of models."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastkan.nn.edges import present
from fastkan.nn.grid import MANY_OUTSIDE, GridChange, Plan, change, normal_tensors, plan_match, plan_refine, take
from fastkan.nn.linear import KANLinear
from fastkan.splines.knots import outside
from fastkan.splines.refit import refit

# Entries of torch.optim's states that are functions on the grid, with the power of the gradient that they grow with.
POWERS = {"exp_avg": 1, "momentum_buffer": 1, "grad_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2, "square_avg": 2, "sum": 2}


def _layers(model: nn.Module) -> dict[str, KANLinear]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, received {type(model).__name__}")
    return {name: module for name, module in model.named_modules() if isinstance(module, KANLinear)}


def _reach(knots: Tensor, degree: int) -> Tensor:
    """Width of every spline's support [I, S, 1]: the gradient of its coefficient is an integral over it."""
    return (knots[:, degree + 1 :] - knots[:, : -degree - 1])[..., None]


def _carried(entry: Tensor, power: int, layer: KANLinear, plan: Plan) -> Tensor:
    """An entry [I, M, O] of an optimizer's state on other knots, as a density over x: a fine spline sees fewer samples. With a
    scale the gradient is that of plain splines times the scale.
    """
    p, old, new = layer.degree, layer.knots.double(), plan.knots.double()
    density = entry.double().sqrt() if power == 2 else entry.double()
    density[:, :-1] /= _reach(old, p)
    moved = refit(density, old, new, p)
    moved[:, :-1] *= _reach(new, p)
    if layer.scale is not None and plan.scale is not None:
        moved[:, :-1] *= plan.scale.double() / layer.scale.double()
    return (moved.square() if power == 2 else moved).to(entry.dtype)


def carried_state(optimizer: torch.optim.Optimizer, layer: KANLinear, plan: Plan) -> dict[str, Any]:
    """The optimizer's state for the layer's weight, on the plan's knots."""
    carried: dict[str, Any] = {}
    for name, value in optimizer.state.get(layer.weight, {}).items():
        if name in POWERS and isinstance(value, Tensor) and value.shape == layer.weight.shape:
            carried[name] = _carried(value, POWERS[name], layer, plan)
        elif value is None or isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1):
            carried[name] = value
        else:
            raise ValueError(
                f"optimizer: expected moments of every parameter, as Adam's, received {name!r} of {type(optimizer).__name__}; "
                "refine without it and make a new one"
            )
    return carried


@normal_tensors
def refine(model: nn.Module, grid_size: int, optimizer: torch.optim.Optimizer | None = None) -> dict[str, GridChange]:
    """Give every KANLinear in a model grid_size intervals (see KANLinear.refine), and carry an optimizer's state over.

    optimizer: one of torch.optim that steps the model's parameters. Its moments are functions on the grid too: they are refitted
        as densities over x, so that training goes on as it was.
    returns: what it changed, by the layers' names
    raises: ValueError for an optimizer whose state mixes parameters (LBFGS); RuntimeError as KANLinear.refine. Nothing has
        changed then.

    >>> import torch, fastkan
    >>> net = fastkan.KAN([2, 5, 1])
    >>> optimizer = torch.optim.Adam(net.parameters())
    >>> for grid_size in (5, 10, 20):
    ...     changes = fastkan.refine(net, grid_size, optimizer)
    ...     for step in range(3):
    ...         optimizer.zero_grad()
    ...         net(torch.rand(64, 2)).square().mean().backward()
    ...         optimizer.step()
    """
    plans = {name: (layer, plan_refine(layer, grid_size)) for name, layer in _layers(model).items()}
    changes = {name: change(layer, plan, None) for name, (layer, plan) in plans.items()}
    states = [(layer, carried_state(optimizer, layer, plan)) for layer, plan in plans.values()] if optimizer else []
    for layer, plan in plans.values():
        take(layer, plan)
    for layer, state in states:
        if state:
            optimizer.state[layer.weight] = state  # type: ignore[union-attr]
    return changes


@normal_tensors
def match_grids(model: nn.Module, like: nn.Module) -> dict[str, GridChange]:
    """Bring every KANLinear in a model to the grid of the same layer in `like`, and refit.

    Coefficients of different grids have no average. So after update_grid or refine call it on the average of a model (EMA, SWA),
    before the model is averaged in again.

    model, like: modules with KANLinear of the same names, such as `averaged.module` and the model
    returns: what it changed, by the layers' names
    raises: ValueError where the layers differ, before anything has changed

    >>> import torch, fastkan
    >>> net = fastkan.KAN([2, 5, 1])
    >>> averaged = torch.optim.swa_utils.AveragedModel(net)
    >>> changes = net.update_grid(torch.rand(200, 2))
    >>> changes = fastkan.match_grids(averaged.module, net)
    >>> averaged.update_parameters(net)
    """
    layers, others = _layers(model), _layers(like)
    if layers.keys() != others.keys():
        raise ValueError(f"like: expected KANLinear layers {', '.join(layers)}, received {', '.join(others)}")
    for name, layer in layers.items():
        expected, received = (
            (m.in_features, m.out_features, m.degree, m.activation, m.spline_scale) for m in (layer, others[name])
        )
        if expected != received:
            what = "features, degree, activation and spline_scale"
            raise ValueError(f"like: expected {what} {expected} of {name}, received {received}")
    plans = {name: (layer, plan_match(layer, others[name])) for name, layer in layers.items()}
    changes = {name: change(layer, plan, None) for name, (layer, plan) in plans.items()}
    for layer, plan in plans.values():
        take(layer, plan)
    return changes


def warn_outside(model: nn.Module, seen: Mapping[KANLinear, Sequence[Tensor]]) -> None:
    """One warning that names the layers of which many inputs lie outside the grid; formulas alone need none."""
    shares = {}
    for name, layer in _layers(model).items():
        splines = present(layer).any(1)
        if seen.get(layer):
            x = torch.cat(list(seen[layer])).double()
            shares[name] = outside(x[:, splines], layer.knots[splines].double(), layer.degree)
    if far := [f"{share:.0%} in layer {name or 'model'}" for name, share in shares.items() if share > MANY_OUTSIDE]:
        warnings.warn(
            f"fit: values lie outside the grids, where splines fade to 0: {', '.join(far)}; update_grid lays grids over them",
            stacklevel=4,
        )
