"""How a layer starts: its knots, pykan's initialisation, the function of a linear layer."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastkan.nn.scaled import at_zero, factors, plain_weight, raised, scale_for
from fastkan.ops.torch_private import functorch_active
from fastkan.splines import knots as grids
from fastkan.splines.refit import smallest_through

if TYPE_CHECKING:
    from fastkan.nn.linear import KANLinear

NOISE_SCALE = 0.3  # pykan's KAN default: splines start as noise of U(-1/2, 1/2) * 0.3 / G at the grid points


def check_range(grid_range: tuple[float, float]) -> tuple[float, float]:
    """grid_range as two floats; ValueError unless they are finite and rise."""
    try:
        low, high = (float(end) for end in grid_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"grid_range: expected finite (low, high) with low < high, received {grid_range!r}")
    return low, high


@contextlib.contextmanager
def seeded(seed: int | None, device: torch.device | str | None = None) -> Iterator[None]:
    """Random numbers of a seed; torch's own generators are afterwards as they were. None: torch's own."""
    if seed is None:
        yield
        return
    kind = torch.device(device or "cpu").type
    with torch.random.fork_rng([device] if kind == "cuda" else [], device_type=kind if kind == "cuda" else "cuda"):
        torch.manual_seed(seed)
        yield


# ---- knots


@torch.no_grad()
def write_knots(layer: "KANLinear") -> None:
    """Uniform knots over grid_range, where there is memory for them: a layer on the device `meta` waits for it."""
    points = grids.uniform_points(layer.grid_size, layer.degree, layer.grid_range)
    grids.check_apart(points, layer.knots.dtype, "grid_range")
    layer.unset = layer.knots.is_meta
    if not layer.unset:
        knots = torch.tensor(points, dtype=torch.float64, device="cpu").to(layer.knots.dtype)
        layer.knots.copy_(knots.expand_as(layer.knots))
        if layer.scale is not None and layer.spline_scale is not None:
            layer.scale.copy_(scale_for(layer.knots, layer.degree, layer.spline_scale))


def give_memory(layer: "KANLinear", device: torch.device) -> None:
    """New tensors on a device for a layer on `meta`; the knots are written. (to_empty fails under FakeTensorMode.)"""
    for name, parameter in layer.named_parameters(recurse=False):
        setattr(layer, name, nn.Parameter(torch.empty_like(parameter, device=device)))
    layer.knots = torch.empty_like(layer.knots, device=device)
    layer.scale = None if layer.scale is None else torch.empty_like(layer.scale, device=device)
    write_knots(layer)


def check_knots(layer: "KANLinear", x: Tensor | None = None) -> None:
    """RuntimeError if a layer that was made without values (device `meta`) got memory for its knots that nobody wrote.

    Loaders fill such layers one tensor at a time and leave out what no file holds, so only the values can tell. Inside
    torch.func nobody can ask for them; there, parameters and buffers are arguments.
    """
    knots = layer.knots
    if (knots.is_meta and (x is None or x.is_meta)) or functorch_active():
        return
    apart = not knots.is_meta and knots.isfinite().all() and (knots.diff(dim=1) > 0).all()
    if not apart or not (layer.scale is None or layer.scale.frexp().mantissa == 0.5):
        raise RuntimeError(
            "knots: expected those of reset_parameters() or of a state, received memory that nobody wrote; the layer "
            "was made without values (on device meta), so load a state that holds its knots, or call its reset_parameters() "
            "(in transformers: in the model's _init_weights)"
        )
    layer.unset = False


# ---- weights


@torch.no_grad()
def fill(layer: "KANLinear", init: Callable[[Tensor], Any] | None) -> None:
    """Base weights U(-1, 1) / sqrt(I), or what `init` writes; splines of small noise; bias 0."""
    scale = 1 / math.sqrt(max(layer.in_features, 1))
    # The noise is given at the G + 1 grid points. Of all splines through it, take the one with the smallest coefficients.
    shape = (layer.in_features, layer.grid_size + 1, layer.out_features)
    noise = (
        torch.rand(shape, device=layer.knots.device, dtype=layer.knots.dtype)
        .sub_(0.5)
        .mul_(NOISE_SCALE / layer.grid_size * scale)
    )
    splines = smallest_through(noise, layer.degree)
    layer.weight[:, :-1] = (splines if layer.scale is None else splines / layer.scale).to(layer.weight.dtype)
    base = layer.weight[:, -1]
    base.uniform_(-scale, scale) if init is None else init(base.T)
    if layer.bias is not None:
        layer.bias.zero_()


def _lift(layer: "KANLinear") -> None:
    """Give back what the splines of a linear function are at 0; they are 0 there where the grid holds it."""
    assert layer.scale is not None
    weight, knots, scale = plain_weight(layer).double(), layer.knots.double(), layer.scale.double()
    values = at_zero(weight, knots, layer.degree)
    if layer.bias is not None:
        layer.bias.add_(values.sum(0).to(layer.bias.dtype))
    else:
        layer.weight.copy_(raised(weight, knots, layer.degree, values, 0.0) / factors(scale, weight.shape[1]))


@torch.no_grad()
def hold_linear(layer: "KANLinear", linear: nn.Linear) -> None:
    """Give the layer the linear's function on the knots that it has."""
    layer.weight.zero_()
    if layer.activation == "identity":
        layer.weight[:, -1] = linear.weight.T
    else:
        splines = grids.greville(layer.knots, layer.degree)[..., None] * linear.weight.T[:, None]  # [I, S, O]
        layer.weight[:, :-1] = (splines if layer.scale is None else splines / layer.scale).to(layer.weight.dtype)
    if layer.bias is not None and linear.bias is not None:
        layer.bias.copy_(linear.bias)
    if layer.scale is not None and layer.activation != "identity":
        _lift(layer)
