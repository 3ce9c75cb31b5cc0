"""The real kernels under the guards: no stray access, no two programs on one address, no overflow past 2^31 elements."""

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from contract.cases import Case, make_inputs

from fastkan import reference
from fastkan.ops import OPERATIONS

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.skipif(not INTERPRETED, reason="for the run in Triton's interpreter")
if INTERPRETED:
    import guards

    from fastkan import kernels
    from fastkan.kernels import launch, plan, tiles
    from fastkan.kernels.devices import INTERPRETER, Card, on

HERE = Path(__file__).resolve().parent
CASES = (
    Case(1, 1, 1, grid_size=1, degree=1),
    Case(5, 3, 7, grid_size=2, degree=2, knots="spread"),
    Case(67, 5, 35, row_weight=True),
    Case(130, 3, 17, grid_size=16, activation="gelu"),
    Case(600, 2, 65, grid_size=3, degree=5, knots="repeated"),
)
FAST = Case(67, 17, 35, row_weight=True)  # in float16 the kernels for uniform grids serve it
CALLS = [(name, case, torch.float32) for name in OPERATIONS for case in CASES]
CALLS += [(name, FAST, torch.float16) for name in ("forward", "grad_input", "grad_weight")]


def call(name, case, dtype):
    """The kernels' answer: at the second case in first derivatives, elsewhere in values."""
    tensors = make_inputs(case, dtype)
    orders = (int(case.degree == 2), 0)[: len(OPERATIONS[name].orders)]
    return getattr(kernels, name)(
        *(tensors[k] for k in OPERATIONS[name].tensors), tensors["knots"], case.degree, case.activation, *orders
    )


@pytest.fixture(autouse=True)
def many_processors():
    """Sums over rows are split as on a large GPU, so that the kernel which adds the parts runs too."""
    if not INTERPRETED:
        yield
        return
    with on(Card(INTERPRETER, 132)):
        yield


@pytest.mark.parametrize("name, case, dtype", CALLS, ids=str)
def test_no_two_programs_on_one_address_and_no_overflow(name, case, dtype):
    with guards.checked_arithmetic(), guards.Overlap() as overlap:
        answer = call(name, case, dtype)
    assert overlap.conflicts == []
    assert overlap.stored >= answer.numel()
    assert answer.isfinite().all()


# ---- fences: a stray access kills, so they stand in a child


def call_between_fences(side):
    """The child's whole program: names each call before it runs, and compares with the answer without fences."""
    torch.use_deterministic_algorithms(True)  # torch.empty is NaN: what a kernel leaves unwritten shows
    with on(Card(INTERPRETER, 132)):
        for name, case, dtype in CALLS:
            print(name, case, dtype, flush=True)
            free = call(name, case, dtype)
            with guards.fences(side):
                assert torch.equal(call(name, case, dtype), free)
    print("survived")


@pytest.mark.parametrize("side", ["after", "before"])
def test_between_fences(side):
    paths = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-X", "faulthandler", "-c", f"import test_guarded; test_guarded.call_between_fences({side!r})"]
    child = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    last = child.stdout.strip().rpartition("\n")[2]
    assert (child.returncode, last) == (0, "survived"), f"after {last}: return code {child.returncode}\n{child.stderr[-3000:]}"


# ---- more than 2^31 elements: address space only, and of each grid the programs at its end

EVEN_KNOTS = torch.linspace(-1.6, 1.6, 12)
LAST = slice(-3, None)


def last_program(size):
    return [(size[0] - 1, 0, 0)]


def drawn_at_the_end(shape, dtype=torch.float16):
    """A giant tensor of zeros, normal numbers in the last three of its rows and columns."""
    tensor = guards.giant(shape, dtype)
    tensor[LAST] = torch.randn(tensor[LAST].shape).to(dtype)
    return tensor


def close(answer, expected):
    torch.testing.assert_close(answer.double(), expected, rtol=2e-3, atol=2e-3)


@pytest.fixture
def unfilled(monkeypatch):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)


def wide(*tensors):
    return (tensor.double() for tensor in tensors)


@pytest.mark.parametrize("O", [1, 40], ids=["any grid", "uniform grid"])  # few outputs stay with the general kernels
@pytest.mark.usefixtures("unfilled")
def test_giant_x(O):
    I = 64
    knots = EVEN_KNOTS.expand(I, -1).contiguous()
    x, weight, g = drawn_at_the_end((2**25 + 3, I)), torch.randn(I, 9, O).half() / 8, drawn_at_the_end((2**25 + 3, O))
    with guards.programs(last_program), guards.checked_arithmetic():
        y = kernels.forward(x, weight, None, knots, 3, "silu", 0)
        grad = kernels.grad_input(x, weight, g, knots, 3, "silu", 0)
    close(y[LAST, -1], reference.forward(*wide(x[LAST], weight), None, knots.double(), 3, "silu", 0)[:, -1])
    close(grad[LAST, -1], reference.grad_input(*wide(x[LAST], weight, g[LAST], knots), 3, "silu", 0)[:, -1])


@pytest.mark.usefixtures("unfilled")
def test_giant_y():
    x, weight = drawn_at_the_end((2**15 + 3, 1)), torch.randn(1, 9, 2**16 + 3).half()
    with guards.programs(last_program), guards.checked_arithmetic():
        y = kernels.forward(x, weight, None, EVEN_KNOTS[None], 3, "silu", 0)
    close(y[LAST, LAST], reference.forward(*wide(x[LAST], weight[..., LAST]), None, EVEN_KNOTS[None].double(), 3, "silu", 0))


@pytest.mark.usefixtures("unfilled")
def test_giant_weight():
    I = 2**11
    knots = EVEN_KNOTS.expand(I, -1).contiguous()
    x, weight = torch.randn(3, I).half(), guards.giant((I, 9, 2**17 + 3), torch.float16)
    weight[..., LAST] = torch.randn(I, 9, 3).half() / 32
    with guards.programs(last_program), guards.checked_arithmetic():
        y = kernels.forward(x, weight, None, knots, 3, "silu", 0)
    close(y[:, LAST], reference.forward(*wide(x, weight[..., LAST]), None, knots.double(), 3, "silu", 0))


@pytest.mark.parametrize("O", [1, 40], ids=["any grid", "uniform grid"])
@pytest.mark.usefixtures("unfilled")
def test_giant_rows_of_grad_weight(O):
    """The last of many splits; the parts are not summed up, there are too many."""
    I, B, splits = (65 if O == 1 else 68), 2**25, 2**15
    knots = EVEN_KNOTS.expand(I, -1).contiguous()
    x, g = guards.giant((B, I), torch.float16), guards.giant((B, O), torch.float16)
    x[-64:], g[-64:] = torch.randn(64, I).half(), torch.randn(64, O).half() / 8
    module = sys.modules["fastkan.kernels.grad_weight" if O == 1 else "fastkan.kernels.uniform"]
    counted_as_compiled = mock.patch.dict(vars(module), range=guards.compiled_range)
    many_splits = mock.patch.object(tiles, "splits", return_value=splits)
    last_split = guards.programs(lambda size: [(n, size[1] - 1, 0) for n in range(size[0])])
    partial = guards.giant((splits, I, 9, O), torch.float32)
    with counted_as_compiled, many_splits, last_split, guards.checked_arithmetic():
        launch.start(plan.grad_weight(x, g, None, knots, 3, "silu", 0), (x, g, None), partial)
    rows = slice(-(B // splits), None)
    close(partial[-1], reference.grad_weight(*wide(x[rows], g[rows]), None, knots.double(), 3, "silu", 0))
