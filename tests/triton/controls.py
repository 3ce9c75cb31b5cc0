"""Kernels that the compile gate must catch: faulty on purpose, compiled and never run."""

import torch
import triton
import triton.language as tl


@triton.jit
def deep_register_operand(
    x_ptr, w_ptr, y_ptr, I, O, scale, offset, S: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr
):
    """A product of 64 inputs at once whose left operand stays in registers: Triton 3.6 cuts it into four WGMMAs, waits for the
    first only and computes the next operand into registers which the others may still read."""
    b = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    o = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range(0, tl.cdiv(I, INPUTS) * S):
        i = step // S * INPUTS + tl.arange(0, INPUTS)
        m = step % S
        x = tl.load(x_ptr + b[:, None] * I + i[None, :]).to(tl.float32)
        w = tl.load(w_ptr + m * I * O + i[:, None] * O + o[None, :])
        distance = tl.abs(x * scale + (offset - m.to(tl.float32)) - 2.0)
        far, near = tl.maximum(2.0 - distance, 0.0), tl.maximum(1.0 - distance, 0.0)
        value = far * far * far * 0.16666666666666666 - near * near * near * 0.6666666666666666
        total = tl.dot(value.to(w.dtype), w, total)
    for step in range(0, tl.cdiv(I, INPUTS)):
        i = step * INPUTS + tl.arange(0, INPUTS)
        x = tl.load(x_ptr + b[:, None] * I + i[None, :]).to(tl.float32)
        w = tl.load(w_ptr + S * I * O + i[:, None] * O + o[None, :])
        total = tl.dot((x / (1.0 + tl.exp(-x)) * scale).to(w.dtype), w, total)
    mask = (b[:, None] < I) & (o[None, :] < O)
    tl.store(y_ptr + b[:, None] * O + o[None, :], total.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def many_live_values(x_ptr, y_ptr, SIZE: tl.constexpr):
    """More values alive at once than there are registers."""
    at = tl.arange(0, SIZE)
    x = tl.load(x_ptr + at)
    y = tl.load(x_ptr + SIZE + at)
    tl.debug_barrier()
    tl.store(y_ptr + at, tl.cumsum(x * y, 0))
    tl.store(y_ptr + SIZE + at, x + y)


@triton.jit
def product(x_ptr, w_ptr, y_ptr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """One tile product: with large enough tiles it needs more shared memory than a GPU has, and compiles all the same."""
    b, o, i = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    x = tl.load(x_ptr + b[:, None] * DEPTH + i[None, :])
    w = tl.load(w_ptr + i[:, None] * COLUMNS + o[None, :])
    tl.store(y_ptr + b[:, None] * COLUMNS + o[None, :], tl.dot(x, w))


def launch_deep_register_operand() -> None:
    x, w, y = (torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in ((256, 256), (9 * 256, 256), (256, 256)))
    deep_register_operand[(1, 2)](x, w, y, 256, 256, 2.5, 3.0, S=8, ROWS=128, COLUMNS=256, INPUTS=64, num_warps=8, num_stages=3)


def launch_many_live_values() -> None:
    x, y = (torch.empty(2 << 15, dtype=torch.float32, device="meta") for _ in range(2))
    many_live_values[(1,)](x, y, SIZE=1 << 15, num_warps=4)


def launch_product(rows: int, columns: int, depth: int) -> None:
    shapes = ((rows, depth), (depth, columns), (rows, columns))
    x, w, y = (torch.empty(shape, dtype=torch.float16, device="meta") for shape in shapes)
    product[(1,)](x, w, y, ROWS=rows, COLUMNS=columns, DEPTH=depth, num_warps=8)
