"""The placed path for every degree, kind of knots, activation and 16-bit dtype, under the contract."""

import os

import pytest
import torch
from contract.cases import Case, assert_accurate, make_inputs

from fastkan.kernels import devices, launch, plan, tiles
from fastkan.kernels.devices import Card

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"


def runs_kernels(test):
    """In the interpreter, or on a GPU, which alone does the packed arithmetic."""
    absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="runs the kernels in Triton's interpreter or on a GPU")
    return test if INTERPRETED else pytest.mark.gpu(absent(test))


CASES = (
    Case(20, 17, 19, knots="spread"),
    Case(9, 3, 4, degree=1, knots="spread", activation="gelu"),
    Case(9, 4, 3, degree=2, knots="spread", row_weight=True, activation="tanh"),
    Case(8, 3, 5, grid_size=6, knots="repeated", activation="identity"),
    Case(9, 4, 3, degree=5, knots="spread", row_weight=True, activation="relu"),
    Case(7, 5, 4, degree=8, activation="zero"),
    Case(5, 2, 3, grid_size=16, knots="spread", row_weight=True),
    Case(140, 18, 131, grid_size=9, degree=2, knots="spread", activation="gelu"),
)
BFLOAT16_ORDERS = [(case, torch.bfloat16, nu) for case in CASES for nu in case.orders]


def inputs(case, dtype, nu=0, seed=0):
    if not tiles.placed_serves(devices.card(torch.device(DEVICE)), dtype, case.degree, nu, case.slots, 1024, 16, 128):
        pytest.skip("a GPU that this path does not serve")
    return make_inputs(case, dtype, DEVICE, seed)


def answer(case, tensors, nu, rows=None):
    """At most so many rows at a time."""
    operands = (tensors["x"], tensors["weight"], tensors["row_weight"])
    placed = plan.placed_forward(*operands, tensors["knots"], case.degree, case.activation, nu)
    if rows:
        placed = placed._replace(parts=placed.parts._replace(rows=rows))
    return launch.run(placed, operands, tensors["weight"].new_full((case.B, case.O), torch.nan))


@runs_kernels
@pytest.mark.parametrize("case, dtype, nu", [(case, torch.float16, 0) for case in CASES] + BFLOAT16_ORDERS, ids=str)
def test_accurate(case, dtype, nu):
    draws = [inputs(case, dtype, nu, seed) for seed in case.draws]
    assert_accurate("forward", case, [(answer(case, tensors, nu), tensors) for tensors in draws], (nu,))


@runs_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rows_in_parts(dtype):
    """Planes are made and used for one tile of rows at a time, the last of them shorter."""
    case = Case(260, 18, 5, degree=2, knots="spread", row_weight=True)
    tensors = inputs(case, dtype)
    together = answer(case, tensors, 0)
    assert torch.equal(answer(case, tensors, 0, rows=tiles.PLACED_ROWS), together)
    assert_accurate("forward", case, [(together, tensors)], (0,))


@runs_kernels
@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_nan_fills_its_row_and_infinity_does_not(case):
    tensors = inputs(case, torch.bfloat16)
    tensors["x"][2, 1], tensors["x"][4, 0], tensors["x"][5, 2] = torch.nan, torch.inf, -torch.inf
    y = answer(case, tensors, 1)
    assert torch.equal(y.isnan().any(1), torch.arange(case.B, device=DEVICE) == 2)
    assert y[2].isnan().all()


def test_serves_what_it_can():
    """By the dtype's integers, the order and the size."""
    fits = {"card": Card(90, 132), "dtype": torch.bfloat16, "degree": 3, "nu": 0, "slots": 9, "B": 4096, "I": 256, "O": 256}
    assert tiles.placed_serves(**fits)
    assert tiles.placed_serves(**fits | {"dtype": torch.float16, "slots": 2049})
    assert tiles.placed_serves(**fits | {"nu": 4, "slots": 257})
    refused = [{"slots": 258}, {"B": 64}, {"O": 64}, {"I": 15}, {"I": 60000}, {"dtype": torch.float32}]
    refused += [{"dtype": torch.float16, "nu": 1}, {"dtype": torch.float16, "slots": 2050}]
    for changes in refused:
        assert not tiles.placed_serves(**fits | changes), changes


@pytest.mark.skipif(INTERPRETED, reason="the interpreter has no architecture")
@pytest.mark.parametrize(
    "architecture, bfloat16, float16", [(0, 0, 0), (75, 0, 0), (80, 0, 1), (89, 0, 1), (90, 1, 1), (100, 0, 0), (120, 1, 1)]
)
def test_serves_where_the_instructions_are(architecture, bfloat16, float16):
    for dtype, expected in ((torch.bfloat16, bfloat16), (torch.float16, float16)):
        assert tiles.placed_serves(Card(architecture, 132), dtype, 3, 0, 9, 4096, 256, 256) == bool(expected)
