"""The two pointwise Triton kernels of the unfused path: expand x, and contract a pulled-back gradient with the slopes."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def _slot(x, m, start, scale, S: tl.constexpr, NU: tl.constexpr):
    """f_m^(nu)(x) as in formulas.py: splines for m < S, then SiLU; scale = 1 / spacing."""
    c = (x - start) * scale - m - 2
    outer = tl.maximum(2 - tl.abs(c), 0.0)
    inner = tl.maximum(1 - tl.abs(c), 0.0)
    s = 1 / (1 + tl.exp(-x))
    if NU == 0:
        spline = (outer * outer * outer - 4 * inner * inner * inner) * (1 / 6)
        activation = x * s
    else:
        rise = 2 * inner * inner - outer * outer * 0.5
        spline = tl.where(c < 0, -rise, rise) * scale
        activation = s * (1 + x * (1 - s))
    return tl.where(m < S, spline, activation)


@triton.jit
def _expand(x_ptr, out_ptr, count, start, scale, M: tl.constexpr, NU: tl.constexpr, SIZE: tl.constexpr):
    n = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    mask = n < count
    x = tl.load(x_ptr + n // M, mask=mask, other=0.0).to(tl.float32)
    value = _slot(x, (n % M).to(tl.float32), start, scale, M - 1, NU)
    tl.store(out_ptr + n, value.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _contract(x_ptr, pulled_ptr, out_ptr, count, start, scale, M: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    n = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    m = tl.arange(0, WIDTH)
    x = tl.load(x_ptr + n, mask=n < count, other=0.0).to(tl.float32)
    mask = (n < count)[:, None] & (m < M)[None, :]
    pulled = tl.load(pulled_ptr + n[:, None] * M + m[None, :], mask=mask, other=0.0).to(tl.float32)
    slope = _slot(x[:, None], m.to(tl.float32)[None, :], start, scale, M - 1, 1)
    tl.store(out_ptr + n, tl.sum(slope * pulled, 1).to(out_ptr.dtype.element_ty), mask=n < count)


def expand(x: Tensor, start: float, spacing: float, splines: int, nu: int) -> Tensor:
    """x [B, I] -> f_m^(nu)(x) [B, I, M] in x's dtype."""
    out = torch.empty((*x.shape, splines + 1), dtype=x.dtype, device=x.device)
    grid = (triton.cdiv(out.numel(), BLOCK),)
    _expand[grid](x, out, out.numel(), start, 1 / spacing, splines + 1, nu, BLOCK)
    return out


def contract(x: Tensor, pulled: Tensor, start: float, spacing: float, splines: int) -> Tensor:
    """sum_m f_m'(x[b,i]) pulled[b,i,m]: [B, I] in x's dtype."""
    out = torch.empty_like(x)
    width = triton.next_power_of_2(splines + 1)
    rows = max(1, 2 * BLOCK // width)
    _contract[(triton.cdiv(out.numel(), rows),)](x, pulled, out, out.numel(), start, 1 / spacing, splines + 1, width, rows)
    return out
