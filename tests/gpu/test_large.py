"""More than 2^31 elements in x, in y (or its gradient) or in the weight (or its gradient), for each of the three operations.

The question is where the kernels read and write, so a few rows or inputs at the ends and about element 2^31 are compared with
float64; rounding is the business of tests/test_backends.py.
"""

import gc

import pytest
import torch

import fastkan
from fastkan import ops, reference

pytestmark = pytest.mark.gpu
LIMIT = 2**31
DEGREE, GRID_SIZE = 3, 5
SLOTS = GRID_SIZE + DEGREE + 1
SIZES = {  # B, I, O: one tensor just past the limit, all others small
    "x": (LIMIT // 256 + 3, 256, 8),
    "y": (LIMIT // 1031 + 3, 2, 1031),
    "weight": (4, LIMIT // (SLOTS * 1024) + 3, 1024),
}
NEEDED = 30 * 2**30  # bytes: the large tensor twice, and float32 copies where a backend makes them


def tensors(sizes, device, dtype):
    """x, weight, g and knots; on [-1, 1] but for some rows outside."""
    B, I, O = sizes
    random = {"device": device, "dtype": dtype}
    x = torch.rand(B, I, **random).mul_(2.4).sub_(1.2)
    weight = torch.randn(I, SLOTS, O, **random).div_(I**0.5)
    g = torch.randn(B, O, **random).div_(max(1, B) ** 0.5)
    knots = fastkan.splines.knots.uniform(I, GRID_SIZE, DEGREE, (-1, 1)).to(device, torch.float32)
    return x, weight, g, knots


def sample(count, elements_each, limit=LIMIT):
    """Indices along an axis: its ends, and those about element `limit` of the tensor."""
    about = limit // elements_each
    wanted = (0, 1, count // 2, about - 1, about, about + 1, count - 2, count - 1)
    return torch.tensor(sorted({k for k in wanted if 0 <= k < count}))


def assert_close(found, exact):
    """Relative to the root mean square of the truth; float16 operands err by 1e-3 at most, a wrong address by 1."""
    assert found.isfinite().all()
    error, scale = (found.double() - exact).square().mean().sqrt(), exact.square().mean().sqrt()
    assert error <= 0.01 * scale, f"error {error:.2g} at values of {scale:.2g}"


def check(operation, sizes, backend, device="cuda", dtype=torch.float16, limit=LIMIT):
    """One operation at one size, its answer compared at some rows (forward, grad_input) or inputs (grad_weight)."""
    x, weight, g, knots = tensors(sizes, device, dtype)
    settings = (DEGREE, "silu", backend)
    rows = sample(sizes[0], max(sizes[1], sizes[2]), limit).to(device)
    inputs = sample(sizes[1], SLOTS * sizes[2], limit).to(device)
    if operation == "forward":
        found = ops.forward(x, weight, None, knots, *settings, 0)[rows]
    elif operation == "grad_input":
        found = ops.grad_input(x, weight, g, knots, *settings, 1)[rows][:, inputs]
    else:
        found = ops.grad_weight(x, g, None, knots, *settings, 0)[inputs]
    if operation != "forward":  # exact for each input on its own
        x, weight, knots = x[:, inputs], weight[inputs], knots[inputs]
    wide = (knots.double(), DEGREE, "silu")
    if operation == "forward":
        exact = torch.zeros(len(rows), sizes[2], dtype=torch.float64, device=device)
        for part in torch.arange(sizes[1], device=device).split(4096):  # a float64 copy of the whole weight would be 17 GB
            exact += reference.forward(x[rows][:, part].double(), weight[part].double(), None, wide[0][part], *wide[1:], 0)
    elif operation == "grad_input":
        exact = reference.grad_input(x[rows].double(), weight.double(), g[rows].double(), *wide, 1)
    else:
        exact = torch.zeros(found.shape, dtype=torch.float64, device=device)
        for some, gradient in zip(x.split(2**17), g.split(2**17), strict=True):
            exact += reference.grad_weight(some.double(), gradient.double(), None, *wide, 0)
    assert_close(found, exact)


@pytest.fixture
def room():
    gc.collect()
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    if free < NEEDED:
        pytest.skip(f"needs {NEEDED / 2**30:.0f} GiB of GPU memory, {free / 2**30:.0f} are free")
    yield
    gc.collect()
    torch.cuda.empty_cache()


@pytest.mark.parametrize("large", SIZES)
@pytest.mark.parametrize("operation", ["forward", "grad_input", "grad_weight"])
def test_past_32_bits(operation, large, fused, room):
    check(operation, SIZES[large], fused)
