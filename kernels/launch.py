"""The five operations on Triton: arguments of fastkan/reference.py in, kernel, sizes and tiles chosen, kernels launched."""

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkan.kernels import placed, scaled, tiles, unfused
from fastkan.kernels.forward import forward_kernel
from fastkan.kernels.grad_input import grad_input_kernel
from fastkan.kernels.grad_weight import grad_weight_kernel, sum_kernel
from fastkan.kernels.gradients import gradients_kernel
from fastkan.kernels.gram import gram_kernel, quadratic_kernel
from fastkan.kernels.grids import UniformGrid, uniform_grid
from fastkan.kernels.uniform import (
    STEP,
    uniform_forward_kernel,
    uniform_grad_input_kernel,
    uniform_grad_weight_kernel,
)
from fastkan.reference import EMPTY_RESULT

TRITON_DTYPE = {torch.float64: tl.float64, torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
SUM_BLOCK = 1024
GRAM_SLOTS = 16
WIDEST = 2**24  # inputs or outputs: row offsets within a tile of 128 rows are 32-bit


def _wide(x: Tensor) -> torch.dtype:
    """What x, slots and sums are computed in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _slots_fit(values: Tensor, row_weight: Tensor | None, nu: int) -> bool:
    """False where slots times row weights may leave the range of `values`: float16, and h^-nu or a float32 row weight."""
    return values.dtype != torch.float16 or (nu == 0 and (row_weight is None or row_weight.dtype == values.dtype))


def _product(values: Tensor, slots_fit: bool = True) -> dict[str, Any]:
    """Operands and precision of the matrix product of slots with `values`, that is W or g.

    Slots that do not fit into float16 are multiplied in TF32, which has float16's mantissa.
    """
    if not slots_fit:
        return {"OPERAND": tl.float32, "PRECISION": "tf32"}
    tf32 = values.dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32"
    return {"OPERAND": TRITON_DTYPE[values.dtype], "PRECISION": "tf32" if tf32 else "ieee"}


def _options(tile: tiles.Tile) -> dict[str, Any]:
    return {"num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": True}  # Triton 3.10 no longer fuses unasked


def _check_widths(I: int, O: int) -> None:
    if max(I, O) > WIDEST:
        raise RuntimeError(f"backend 'triton' serves up to {WIDEST} inputs and outputs, received {I} and {O}")


def _gram_rows(x: Tensor) -> int:
    return 32 if x.dtype == torch.float64 else 64


def _dense(*tensors: Tensor | None) -> list[Any]:
    return [None if t is None else t.contiguous() for t in tensors]


def _on_tensor_cores(product: dict[str, Any]) -> bool:
    return product["OPERAND"].primitive_bitwidth == 16 or product["PRECISION"] == "tf32"


def _uniform(x: Tensor, knots: Tensor, O: int, degree: int, nu: int, product: dict[str, Any]) -> UniformGrid | None:
    """The grid's tables where kernels/uniform.py may and should serve.

    From nu = degree on splines jump at the knots, so that the stored knots must decide: they are the general kernels' only.
    """
    if degree != 3 or nu >= degree or _wide(x) != torch.float32 or not _on_tensor_cores(product):
        return None
    if not tiles.uniform_serves(tiles.architecture(x.device), x.shape[0], x.shape[1], O):
        return None
    return uniform_grid(knots)


def _bytes(product: dict[str, Any]) -> int:
    return product["OPERAND"].primitive_bitwidth // 8


def forward(x: Tensor, weight: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, base: str, nu: int) -> Tensor:
    y = EMPTY_RESULT["forward"](x, weight, row_weight, knots, degree)
    (B, I), (_, M, O) = x.shape, weight.shape
    _check_widths(I, O)
    if not y.numel():
        return y
    slots_fit = _slots_fit(weight, row_weight, nu)
    product = _product(weight, slots_fit)
    uniform = _uniform(x, knots, O, degree, nu, product) if slots_fit else None
    x, weight, row_weight, knots = _dense(x, weight, row_weight, knots)
    if tiles.unfused(x.device, O) and slots_fit:
        return unfused.forward(y, x, weight, row_weight, knots, degree, base, nu)
    if not uniform and slots_fit and placed.serves(tiles.architecture(x.device), weight.dtype, degree, nu, M, B, I, O):
        return placed.forward(y, x, weight, row_weight, knots, degree, base, nu)
    scales = []
    if uniform and nu == 0 and row_weight is None and scaled.wanted(weight):
        weight, *scales = scaled.halved(weight)
        product = _product(weight)
    common = {"BASE": base, "NU": nu, "WEIGHTED": row_weight is not None, **product}
    if uniform:
        rule = tiles.uniform_forward(tiles.architecture(x.device), _bytes(product), O)
        tile = tiles.chosen("uniform_forward", x.device, weight.dtype, (B, I, O), rule)
        grid = (triton.cdiv(B, tile.rows) * triton.cdiv(O, tile.columns),)
        uniform_forward_kernel[grid](
            x, weight, row_weight, uniform.grid, uniform.offset, y, B, I, O, M - 1,
            **common, ROWS=tile.rows, COLUMNS=tile.columns, **_options(tile),
        )  # fmt: skip
    else:
        rule = tiles.forward(weight.dtype, tiles.large(_on_tensor_cores(product), degree, B, O), tiles.small(B, I, O))
        tile = tiles.chosen("forward", x.device, weight.dtype, (B, I, O), rule)
        grid = (triton.cdiv(B, tile.rows) * triton.cdiv(O, tile.columns),)
        forward_kernel[grid](
            x, weight, row_weight, knots, y, B, I, O, knots.shape[1],
            DEGREE=degree, **common, WIDE=TRITON_DTYPE[_wide(x)],
            ROWS=tile.rows, COLUMNS=tile.columns, INPUTS=tile.inputs, SLOTS=tile.slots, **_options(tile),
        )  # fmt: skip
    return scaled.restored(y, *scales)


def grad_input(x: Tensor, weight: Tensor, grad_output: Tensor, knots: Tensor, degree: int, base: str, nu: int) -> Tensor:
    grad = EMPTY_RESULT["grad_input"](x, weight, grad_output, knots, degree)
    (B, I), (_, M, O) = x.shape, weight.shape
    _check_widths(I, O)
    if not grad.numel():
        return grad
    product = _product(weight)
    uniform = _uniform(x, knots, O, degree, nu, product)
    x, weight, grad_output, knots = _dense(x, weight, grad_output, knots)
    if tiles.unfused(x.device, O):
        return unfused.grad_input(grad, x, weight, grad_output, knots, degree, base, nu)
    scales = []
    if uniform and scaled.wanted(weight):
        (weight, *scales), (grad_output, *more) = scaled.halved(weight), scaled.halved(grad_output)
        scales += more
        product = _product(weight)
    if uniform:
        rule = tiles.uniform_grad_input(tiles.architecture(x.device), _bytes(product))
        tile = tiles.chosen("uniform_grad_input", x.device, weight.dtype, (B, I, O), rule)
        grid = (triton.cdiv(B, tile.rows) * triton.cdiv(I, tile.inputs),)
        uniform_grad_input_kernel[grid](
            x, weight, grad_output, uniform.grid, uniform.offset, grad, B, I, O, M - 1,
            BASE=base, NU=nu, **product, ROWS=tile.rows, OUTPUTS=tile.depth, INPUTS=tile.inputs, **_options(tile),
        )  # fmt: skip
    else:
        rule = tiles.grad_input(weight.dtype, tiles.large(_on_tensor_cores(product), degree, B, O))
        tile = tiles.chosen("grad_input", x.device, weight.dtype, (B, I, O), rule)
        grid = (triton.cdiv(B, tile.rows) * triton.cdiv(I, tile.inputs),)
        grad_input_kernel[grid](
            x, weight, grad_output, knots, grad, B, I, O, knots.shape[1],
            DEGREE=degree, BASE=base, NU=nu, WIDE=TRITON_DTYPE[_wide(x)], **product,
            ROWS=tile.rows, OUTPUTS=tile.depth, INPUTS=tile.inputs, SLOTS=tile.slots, **_options(tile),
        )  # fmt: skip
    return scaled.restored(grad, *scales)


def _over_splits(answer: Tensor, wide: torch.dtype, programs: int, rows: int, step: int, part: Callable[..., None]) -> Tensor:
    """Let part(partial, splits, rows_per_split) write partial sums [splits, *answer], and add them up in their order.

    With a single split the partial sum is the answer itself.
    """
    processors = tiles.card(answer.device).processors
    splits = tiles.splits(programs, rows, step, answer.numel() * wide.itemsize, processors)
    rows_per_split = triton.cdiv(triton.cdiv(rows, splits), step) * step
    partial = answer if splits == 1 else answer.new_empty((splits, *answer.shape), dtype=wide)
    part(partial, splits, rows_per_split)
    if splits > 1:
        size = answer.numel()
        sum_kernel[(triton.cdiv(size, SUM_BLOCK),)](partial, answer, size, splits, BLOCK=SUM_BLOCK)
    return answer


def grad_weight(
    x: Tensor, grad_output: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, base: str, nu: int
) -> Tensor:
    grad = EMPTY_RESULT["grad_weight"](x, grad_output, row_weight, knots, degree)
    (B, I), (_, M, O) = x.shape, grad.shape
    _check_widths(I, O)
    if not grad.numel():
        return grad
    slots_fit = _slots_fit(grad, row_weight, nu)
    product = _product(grad_output, slots_fit)
    uniform = _uniform(x, knots, O, degree, nu, product) if slots_fit else None
    x, grad_output, row_weight, knots = _dense(x, grad_output, row_weight, knots)
    if tiles.unfused(x.device, O) and slots_fit:
        return unfused.grad_weight(grad, x, grad_output, row_weight, knots, degree, base, nu)
    scales = []
    if uniform and nu == 0 and row_weight is None and scaled.wanted(grad_output):
        grad_output, *scales = scaled.halved(grad_output)
        product = _product(grad_output)
    common = {"BASE": base, "NU": nu, "WEIGHTED": row_weight is not None, **product}
    if uniform:
        rule = tiles.uniform_grad_weight(tiles.architecture(x.device), _bytes(product), O)
        tile = tiles.chosen("uniform_grad_weight", x.device, grad_output.dtype, (B, I, O), rule)
    else:
        rule = tiles.grad_weight(grad.dtype, tiles.large(_on_tensor_cores(product), degree, B, O))
        tile = tiles.chosen("grad_weight", x.device, grad_output.dtype, (B, I, O), rule)
    column_tiles = triton.cdiv(O, tile.columns)
    spline_tiles = triton.cdiv(I, tile.inputs) * triton.cdiv(M - 1, tile.slots) * column_tiles
    base_tiles = triton.cdiv(I, tile.inputs * tile.slots) * column_tiles
    common |= {"COLUMNS": tile.columns, **_options(tile)}
    # One stage for the base slots: with two, one group of warps refills what the other still reads (found in the machine code).
    base_options = {} if uniform else {"num_stages": 1}

    def part(partial: Tensor, splits: int, rows_per_split: int) -> None:
        for programs, shape in (
            (spline_tiles, {"SPLINES": True, "INPUTS": tile.inputs, "SLOTS": tile.slots}),
            (base_tiles, {"SPLINES": False, "INPUTS": tile.inputs * tile.slots, "SLOTS": 1, **base_options}),
        ):
            if uniform:
                uniform_grad_weight_kernel[(programs, splits)](
                    x, grad_output, row_weight, uniform.grid, uniform.offset, partial, B, I, O, M - 1, rows_per_split,
                    STEPS=tile.depth // STEP.value, **(common | shape),
                )  # fmt: skip
            else:
                grad_weight_kernel[(programs, splits)](
                    x, grad_output, row_weight, knots, partial, B, I, O, knots.shape[1], rows_per_split,
                    DEGREE=degree, WIDE=TRITON_DTYPE[_wide(x)], ROWS=tile.depth, **(common | shape),
                )  # fmt: skip

    return scaled.restored(_over_splits(grad, _wide(x), spline_tiles, B, tile.depth, part), *scales)


def gradients(
    x: Tensor, weight: Tensor, grad_output: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, base: str, nu: int
) -> tuple[Tensor, Tensor]:
    """(grad_input of order nu + 1, grad_weight of order nu), of small layers in one launch."""
    (B, I), (_, M, O) = x.shape, weight.shape
    if not (x.numel() and weight.numel() and tiles.small(B, I, O)):
        return (
            grad_input(x, weight, grad_output, knots, degree, base, nu + 1),
            grad_weight(x, grad_output, row_weight, knots, degree, base, nu),
        )
    x, weight, grad_output, row_weight, knots = _dense(x, weight, grad_output, row_weight, knots)
    pulled, product = _product(weight), _product(grad_output, _slots_fit(grad_output, row_weight, nu))
    tile = tiles.chosen("gradients", x.device, weight.dtype, (B, I, O), tiles.gradients(weight.dtype))
    grad = torch.empty_like(x)
    column_tiles = triton.cdiv(O, tile.columns)
    input_programs = triton.cdiv(B, tile.rows) * triton.cdiv(I, tile.inputs)
    spline_tiles = triton.cdiv(I, tile.inputs) * triton.cdiv(M - 1, tile.slots) * column_tiles
    base_tiles = triton.cdiv(I, tile.inputs * tile.slots) * column_tiles

    def part(partial: Tensor, splits: int, rows_per_split: int) -> None:
        gradients_kernel[(input_programs + splits * (spline_tiles + base_tiles),)](
            x, weight, grad_output, row_weight, knots, grad, partial,
            B, I, O, knots.shape[1], rows_per_split, splits, input_programs, spline_tiles, base_tiles,
            DEGREE=degree, BASE=base, NU=nu, WEIGHTED=row_weight is not None, WIDE=TRITON_DTYPE[_wide(x)],
            **pulled, SUM_OPERAND=product["OPERAND"], SUM_PRECISION=product["PRECISION"],
            ROWS=tile.rows, COLUMNS=tile.columns, INPUTS=tile.inputs, SLOTS=tile.slots, DEPTH=tile.depth, **_options(tile),
        )  # fmt: skip

    return grad, _over_splits(torch.empty_like(weight), _wide(x), spline_tiles, B, tile.depth, part)


def gram(x: Tensor, row_weight: Tensor | None, knots: Tensor, degree: int, base: str, nu: int, mu: int) -> Tensor:
    total = EMPTY_RESULT["gram"](x, row_weight, knots, degree)
    (B, I), M = x.shape, total.shape[1]
    if not total.numel():
        return total
    by_input, weight_by_input, knots = _dense(x.T, None if row_weight is None else row_weight.T, knots)
    programs, step = I * triton.cdiv(M, GRAM_SLOTS) ** 2, _gram_rows(x)

    def part(partial: Tensor, splits: int, rows_per_split: int) -> None:
        gram_kernel[(programs, splits)](
            by_input, weight_by_input, knots, partial, B, I, knots.shape[1], rows_per_split,
            DEGREE=degree, BASE=base, NU=nu, MU=mu, WEIGHTED=row_weight is not None, WIDE=TRITON_DTYPE[_wide(x)],
            ROWS=step, SLOTS=GRAM_SLOTS, enable_fp_fusion=True,
        )  # fmt: skip

    return _over_splits(total, _wide(x), programs, B, step, part)


def quadratic(x: Tensor, form: Tensor, knots: Tensor, degree: int, base: str, nu: int, mu: int) -> Tensor:
    answer = EMPTY_RESULT["quadratic"](x, form, knots, degree)
    B, I = x.shape
    if not answer.numel():
        return answer
    by_input, form, knots = _dense(x.T, form, knots)
    answer_by_input = torch.empty_like(by_input)
    step = _gram_rows(x)
    quadratic_kernel[(I * triton.cdiv(B, step),)](
        by_input, form, knots, answer_by_input, B, I, knots.shape[1],
        DEGREE=degree, BASE=base, NU=nu, MU=mu, WIDE=TRITON_DTYPE[_wide(x)],
        ROWS=step, SLOTS=GRAM_SLOTS, enable_fp_fusion=True,
    )  # fmt: skip
    return answer.copy_(answer_by_input.T)
