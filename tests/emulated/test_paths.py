"""Backend cuda where the case table does not reach: several tiles, windows of slots, splits of the rows, TF32, mixed dtypes.

On a GPU, and on the emulated one.
"""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from contract.cases import DTYPES, FACTOR, FORMULAS, Case, assert_accurate, exact, exact_slots, make_inputs, root_mean_square

from fastkan import ops
from fastkan.ops import OPERATIONS

TILES = Case(70, 3, 200, grid_size=6)  # two tiles of outputs and rows; rows of whole vectors
ODD = Case(66, 9, 131, degree=2, row_weight=True)  # the same, but no row starts on a vector's boundary
FINE = Case(20, 2, 24, grid_size=140, knots="spread")  # an input has more slots than a tile of X has columns
LONG = Case(1400, 2, 12, row_weight=True)  # rows in two splits
NARROW = Case(1400, 2, 3, grid_size=40)  # the same by local support, with two windows of slots
LINEAR = ("forward", "grad_input", "grad_weight")


@pytest.fixture(autouse=True)
def only_cuda(backend):
    if backend != "cuda":
        pytest.skip("about backend cuda")


def run(name, case, tensors, nu=1, backend="cuda"):
    operands = [tensors[k] for k in OPERATIONS[name].tensors]
    return getattr(ops, name)(*operands, tensors["knots"], case.degree, case.activation, backend, nu)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("case", [TILES, ODD, FINE, LONG, NARROW], ids=str)
def test_accuracy(name, dtype, case, device, backend):
    nu = int(name == "grad_input")
    tensors = make_inputs(case, dtype, device)
    assert_accurate(name, case, [(run(name, case, tensors, nu), tensors)], (nu,))


def test_gram_in_splits(device, backend):
    tensors = make_inputs(LONG, torch.float32, device)
    answer = ops.gram(tensors["x"], tensors["row_weight"], tensors["knots"], 3, "silu", backend, 0, 1)
    assert_accurate("gram", LONG, [(answer, tensors)], (0, 1))


def to_tf32(values):
    """Rounded to 10 bits of mantissa, ties away from 0."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).view(np.float32).astype(np.float64)


def to_bfloat16(values):
    return torch.from_numpy(values.astype(np.float64)).to(torch.bfloat16).double().numpy()


def rounded_operands(name, case, tensors, nu, rounding):
    """The operation in float64 with both operands of its product rounded."""
    wide = {k: None if t is None else t.double().cpu().numpy() for k, t in tensors.items()}
    slots = exact_slots(wide["x"], wide["knots"], case.degree, case.activation, nu).astype(np.float64)
    if name == "grad_input":
        pulled_back = np.einsum("imo,bo->bim", rounding(wide["weight"]), rounding(wide["grad_output"]))
        return (slots * pulled_back).sum(-1)
    if wide["row_weight"] is not None:
        slots = slots * wide["row_weight"][..., None]
    other = wide["weight" if name == "forward" else "grad_output"]
    letters = FORMULAS[name].removeprefix("bi,")
    return np.einsum(letters, rounding(slots), rounding(other))


def assert_as_good_as(rounding, name, case, tensors, nu, answer):
    truth, _ = exact(name, case, tensors, (nu,))
    yardstick = root_mean_square([rounded_operands(name, case, tensors, nu, rounding) - truth])
    error = root_mean_square([answer.double().cpu().numpy() - truth])
    rounding_unit = torch.finfo(answer.dtype).eps / 2 * root_mean_square([truth])
    assert yardstick > 0
    assert error <= FACTOR[name] * yardstick + 2 * rounding_unit, f"error {error:.3g}, rounded operands {yardstick:.3g}"
    return error


@contextmanager
def tf32_allowed():
    settings = torch.backends.cuda.matmul
    before, settings.fp32_precision = settings.fp32_precision, "tf32"
    try:
        yield
    finally:
        settings.fp32_precision = before


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("case", [TILES, ODD], ids=str)
def test_tf32_where_torch_allows_it(name, case, device, backend):
    tensors = make_inputs(case, torch.float32, device)
    plain = run(name, case, tensors)
    with tf32_allowed():
        fast = run(name, case, tensors)
    error = assert_as_good_as(to_tf32, name, case, tensors, 1, fast)
    truth, _ = exact(name, case, tensors, (1,))
    assert root_mean_square([plain.double().cpu().numpy() - truth]) < error / 100  # and not where it does not


@pytest.mark.parametrize("name", LINEAR)
def test_autocast_keeps_x(name, device, backend):
    """x in float32 beside a weight in bfloat16: x is not rounded on the way."""
    tensors = make_inputs(TILES, torch.bfloat16, device)
    x = tensors["x"].float()
    tensors["x"] = x + torch.linspace(0, 0.01, x.numel(), device=device).view_as(x)
    answer = run(name, TILES, tensors)
    if name == "grad_input":  # in x's dtype, of products that are exact: as good as in float32
        assert answer.dtype == torch.float32
        wide = {k: None if t is None else t.float() for k, t in tensors.items()}
        assert_accurate(name, TILES, [(answer, wide)], (1,))
    else:
        assert answer.dtype == torch.bfloat16
        assert_as_good_as(to_bfloat16, name, TILES, tensors, 1, answer)


@pytest.mark.parametrize("name", LINEAR)
def test_float16_derivatives_past_its_range(name, device, backend):
    """Third derivatives on a fine grid are some 10^6, which float16 does not have; the sums here have room for them."""
    case = Case(12, 2, 16, grid_size=100)
    tensors = make_inputs(case, torch.float16, device)
    tensors["weight"], tensors["grad_output"] = tensors["weight"] * 2**-12, tensors["grad_output"] * 2**-12
    answer = run(name, case, tensors, 3)
    assert answer.isfinite().all()
    assert_as_good_as(to_tf32, name, case, tensors, 3, answer)
