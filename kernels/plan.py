"""What a call launches: the path, its tile, and every kernel with its grid and settings. kernels/launch.py runs the plan.

The choice looks at sizes, dtypes, orders and the GPU; of the numbers only at whether the knots are uniform. Four paths:
fused     both gradients of a small layer in one launch
uniform   cubic splines on a uniform grid with 16-bit or TF32 operands
placed    the forward pass of other large layers with 16-bit operands
general   every other call

Arguments are those of fastkan/reference.py. Letters: docs/design.md, section 2.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastkan.kernels import devices, measured, tiles
from fastkan.kernels.call import TRITON_DTYPE, Call, Product, call_of, ceil_div, product_of, slots_fit
from fastkan.kernels.forward import forward_kernel
from fastkan.kernels.fused_gradients import fused_gradients_kernel
from fastkan.kernels.grad_input import grad_input_kernel
from fastkan.kernels.grad_weight import grad_weight_kernel
from fastkan.kernels.gram import gram_kernel, quadratic_kernel
from fastkan.kernels.grids import uniform_grid
from fastkan.kernels.measured import Tile
from fastkan.kernels.placed import locate_kernel, placed_forward_kernel
from fastkan.kernels.uniform import (
    STEP,
    uniform_forward_kernel,
    uniform_grad_input_kernel,
    uniform_grad_weight_kernel,
)

FUSED = {"enable_fp_fusion": True}  # of multiplications and additions: Triton 3.10 no longer does it unasked
GRAM_SLOTS = 16
LOCATED_ROWS = 32  # per program


class Step(NamedTuple):
    """One launch: a kernel takes the operands, the knots, the answer, then `sizes`, and its constexprs and options by name."""

    kernel: Any
    grid: tuple[int, ...]
    sizes: tuple[int, ...]
    settings: dict[str, Any]


class Parts(NamedTuple):
    """The placed path takes so many rows at a time, and that many 16-bit numbers of memory for its planes and its table."""

    rows: int
    planes: int
    table: int


class Plan(NamedTuple):
    path: str
    knots: tuple[Tensor, ...]  # the knots as they are, or the tables of a uniform grid
    steps: tuple[Step, ...]
    tile: Tile = Tile()
    key: measured.Key | None = None  # under which a measured tile goes before the rule's
    splits: int = 1  # partial sums [splits, *answer] in `wide`, added up in their order
    wide: torch.dtype = torch.float32
    parts: Parts | None = None


# ---- what the operations share


class Grid(NamedTuple):
    """The knots as the kernels of a path take them, with their number or that of the splines, and the path's own constexprs."""

    path: str
    knots: tuple[Tensor, ...]
    size: int
    settings: dict[str, Any]


def _general(call: Call, knots: Tensor) -> Grid:
    settings = {"DEGREE": call.degree, "WIDE": TRITON_DTYPE[call.wide]}
    return Grid("general", (knots.contiguous(),), knots.shape[1], settings)


def _grid(call: Call, knots: Tensor, product: Product, fit: bool = True) -> Grid:
    """The tables of a uniform grid where uniform.py may and should serve.

    From nu = degree on splines jump at the knots, so that the stored knots must decide: such orders are the general kernels'.
    """
    may = fit and call.degree == 3 and call.nu < call.degree and call.wide == torch.float32 and product.on_tensor_cores
    if may and tiles.uniform_serves(call.card, call.B, call.I, call.O):
        tables = uniform_grid(knots)
        if tables is not None:
            return Grid("uniform", tables, call.S, {})
    return _general(call, knots)


def _chosen(kernel: Any, call: Call, dtype: torch.dtype, rule: Tile) -> tuple[measured.Key, Tile]:
    """The measured tile, else the rule's; and the key of a measurement."""
    key = measured.key(kernel.fn.__name__.removesuffix("_kernel"), dtype, (call.B, call.I, call.O))
    return key, call.card.measured.get(key, rule)


def _options(tile: Tile) -> dict[str, Any]:
    return {"num_warps": tile.warps, "num_stages": tile.stages, **FUSED}


def _large(call: Call, product: Product) -> bool:
    return tiles.large(product.on_tensor_cores, call.degree, call.B, call.O)


def _splits(call: Call, programs: int, step: int, answer_size: int) -> tuple[int, int]:
    """(splits, rows of each) of a sum over the rows."""
    splits = tiles.splits(programs, call.B, step, answer_size * call.wide.itemsize, call.card.processors)
    return splits, ceil_div(ceil_div(call.B, splits), step) * step


# ---- the operations


def forward(x: Tensor, weight: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int) -> Plan:
    call, dtype = call_of(x, knots, weight.shape[2], degree, nu), weight.dtype
    fit = slots_fit(dtype, row_weight, nu)
    product = product_of(dtype, fit)
    grid = _grid(call, knots, product, fit)
    common = {"ACTIVATION": activation, "NU": nu, "WEIGHTED": row_weight is not None, **product.settings, **grid.settings}
    if grid.path == "uniform":
        kernel, rule = uniform_forward_kernel, tiles.uniform_forward(call.card, product.bytes, call.O)
    elif fit and tiles.placed_serves(call.card, dtype, degree, nu, call.S + 1, call.B, call.I, call.O):
        return placed_forward(x, weight, row_weight, knots, degree, activation, nu)
    else:
        small = tiles.small(call.B, call.I, call.O)
        kernel, rule = forward_kernel, tiles.forward(dtype, _large(call, product), small)
    key, tile = _chosen(kernel, call, dtype, rule)
    shape = {"ROWS": tile.rows, "COLUMNS": tile.columns}
    if grid.path == "general":
        shape |= {"INPUTS": tile.inputs, "SLOTS": tile.slots}
    programs = ceil_div(call.B, tile.rows) * ceil_div(call.O, tile.columns)
    step = Step(kernel, (programs,), (call.B, call.I, call.O, grid.size), {**common, **shape, **_options(tile)})
    return Plan(grid.path, grid.knots, (step,), tile, key)


def placed_forward(
    x: Tensor, weight: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int
) -> Plan:
    """The grids are those of one tile of rows."""
    call = call_of(x, knots, weight.shape[2], degree, nu)
    tile = tiles.placed_forward(call.card, degree, call.S, call.O)
    columns, row_bytes = ceil_div(call.O, tile.columns), tiles.plane_row_bytes(call.I, degree)
    common = {"DEGREE": degree, "SLOTS": tile.slots}
    locate = Step(
        locate_kernel,
        (ceil_div(call.I, STEP.value) * (tile.rows // LOCATED_ROWS),),
        (call.I, knots.shape[1]),
        {
            **common, "ACTIVATION": activation, "NU": nu, "WEIGHTED": row_weight is not None, "WIDE": TRITON_DTYPE[call.wide],
            "ROWS": LOCATED_ROWS, **FUSED,
        },
    )  # fmt: skip
    shape = {"PACKED": not devices.INTERPRETED, "ROWS": tile.rows, "COLUMNS": tile.columns}
    multiply = Step(placed_forward_kernel, (columns,), (call.I, call.O, call.S), {**common, **shape, **_options(tile)})
    rows = tiles.placed_rows(call.card, row_bytes, columns)
    planes = row_bytes // 2 * min(rows, ceil_div(call.B, tile.rows) * tile.rows)
    parts = Parts(rows, planes, ceil_div(call.S, tile.slots) * STEP.value)
    return Plan("placed", (knots.contiguous(),), (locate, multiply), tile, parts=parts)


def grad_input(x: Tensor, weight: Tensor, grad_output: Tensor, knots: Tensor, degree: int, activation: str, nu: int) -> Plan:
    call, product = call_of(x, knots, weight.shape[2], degree, nu), product_of(weight.dtype)
    grid = _grid(call, knots, product)
    if grid.path == "uniform":
        kernel, rule = uniform_grad_input_kernel, tiles.uniform_grad_input(call.card, product.bytes)
    else:
        kernel, rule = grad_input_kernel, tiles.grad_input(weight.dtype, _large(call, product))
    key, tile = _chosen(kernel, call, weight.dtype, rule)
    settings = {"ACTIVATION": activation, "NU": nu, **product.settings, **grid.settings, **_options(tile)}
    settings |= {"ROWS": tile.rows, "OUTPUTS": tile.depth, "INPUTS": tile.inputs}
    if grid.path == "general":
        settings["SLOTS"] = tile.slots
    programs = ceil_div(call.B, tile.rows) * ceil_div(call.I, tile.inputs)
    step = Step(kernel, (programs,), (call.B, call.I, call.O, grid.size), settings)
    return Plan(grid.path, grid.knots, (step,), tile, key)


def _weight_tiles(call: Call, tile: Tile) -> tuple[int, int]:
    """Tiles of the weight's gradient: of the splines, of the base slots."""
    columns = ceil_div(call.O, tile.columns)
    splines = ceil_div(call.I, tile.inputs) * ceil_div(call.S, tile.slots) * columns
    return splines, ceil_div(call.I, tile.inputs * tile.slots) * columns


def grad_weight(
    x: Tensor, grad_output: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int
) -> Plan:
    """Two steps, the splines and the base slots: in one kernel both spilled."""
    call, dtype = call_of(x, knots, grad_output.shape[1], degree, nu), grad_output.dtype
    fit = slots_fit(dtype, row_weight, nu)
    product = product_of(dtype, fit)
    grid = _grid(call, knots, product, fit)
    if grid.path == "uniform":
        kernel, rule = uniform_grad_weight_kernel, tiles.uniform_grad_weight(call.card, product.bytes, call.O)
    else:
        kernel, rule = grad_weight_kernel, tiles.grad_weight(dtype, _large(call, product))
    key, tile = _chosen(kernel, call, dtype, rule)
    common = {"ACTIVATION": activation, "NU": nu, "WEIGHTED": row_weight is not None, **product.settings, **grid.settings}
    common |= {"COLUMNS": tile.columns, **_options(tile)}
    common |= {"STEPS": tile.depth // STEP.value} if grid.path == "uniform" else {"ROWS": tile.depth}
    splines = {"SPLINES": True, "INPUTS": tile.inputs, "SLOTS": tile.slots}
    base = {"SPLINES": False, "INPUTS": tile.inputs * tile.slots, "SLOTS": 1}
    if grid.path == "general":  # with two stages one group of warps refills what the other still reads: seen in machine code
        base["num_stages"] = 1
    spline_tiles, base_tiles = _weight_tiles(call, tile)
    splits, rows = _splits(call, spline_tiles, tile.depth, call.I * (call.S + 1) * call.O)
    sizes = (call.B, call.I, call.O, grid.size, rows)
    steps = [
        Step(kernel, (programs, splits), sizes, common | part) for programs, part in ((spline_tiles, splines), (base_tiles, base))
    ]
    return Plan(grid.path, grid.knots, tuple(steps), tile, key, splits, call.wide)


def fused_gradients(
    x: Tensor,
    weight: Tensor,
    grad_output: Tensor,
    row_weight: Tensor | None,
    knots: Tensor,
    degree: int,
    activation: str,
    nu: int,
) -> Plan | None:
    """None where the layer is not small."""
    call = call_of(x, knots, weight.shape[2], degree, nu)
    if not tiles.small(call.B, call.I, call.O):
        return None
    product, sums = product_of(weight.dtype), product_of(grad_output.dtype, slots_fit(grad_output.dtype, row_weight, nu))
    key, tile = _chosen(fused_gradients_kernel, call, weight.dtype, tiles.fused_gradients(weight.dtype))
    grid = _general(call, knots)
    input_programs = ceil_div(call.B, tile.rows) * ceil_div(call.I, tile.inputs)
    spline_tiles, base_tiles = _weight_tiles(call, tile)
    splits, rows = _splits(call, spline_tiles, tile.depth, weight.numel())
    settings = {
        "ACTIVATION": activation, "NU": nu, "WEIGHTED": row_weight is not None, **grid.settings, **product.settings,
        "SUM_OPERAND": sums.operand, "SUM_PRECISION": sums.precision, "ROWS": tile.rows, "COLUMNS": tile.columns,
        "INPUTS": tile.inputs, "SLOTS": tile.slots, "DEPTH": tile.depth, **_options(tile),
    }  # fmt: skip
    sizes = (call.B, call.I, call.O, grid.size, rows, splits, input_programs, spline_tiles, base_tiles)
    step = Step(fused_gradients_kernel, (input_programs + splits * (spline_tiles + base_tiles),), sizes, settings)
    return Plan("fused", grid.knots, (step,), tile, key, splits, call.wide)


def _gram_settings(call: Call, activation: str, mu: int) -> dict[str, Any]:
    rows = 32 if call.wide == torch.float64 else 64
    return {"ACTIVATION": activation, "NU": call.nu, "MU": mu, "ROWS": rows, "SLOTS": GRAM_SLOTS, **FUSED}


def gram(x: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, activation: str, nu: int, mu: int) -> Plan:
    call = call_of(x, knots, 0, degree, nu)
    grid, settings = _general(call, knots), _gram_settings(call, activation, mu)
    programs = call.I * ceil_div(call.S + 1, GRAM_SLOTS) ** 2
    splits, rows = _splits(call, programs, settings["ROWS"], call.I * (call.S + 1) ** 2)
    settings |= {"WEIGHTED": row_weight is not None, **grid.settings}
    step = Step(gram_kernel, (programs, splits), (call.B, call.I, grid.size, rows), settings)
    return Plan("general", grid.knots, (step,), splits=splits, wide=call.wide)


def quadratic(x: Tensor, form: Tensor, knots: Tensor, degree: int, activation: str, nu: int, mu: int) -> Plan:
    call = call_of(x, knots, 0, degree, nu)
    grid, settings = _general(call, knots), _gram_settings(call, activation, mu)
    programs = call.I * ceil_div(call.B, settings["ROWS"])
    step = Step(quadratic_kernel, (programs,), (call.B, call.I, grid.size), settings | grid.settings)
    return Plan("general", grid.knots, (step,))
