"""float16 with a scale in the place of TF32: the same error on the same inputs, whatever their magnitude."""

import os

import numpy as np
import pytest
import torch
from contract.cases import Case, exact, make_inputs, root_mean_square

from fastkan import experimental, ops, reference
from fastkan.ops import OPERATIONS

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="runs the kernels in Triton's interpreter")
CASE = Case(70, 20, 72, grid_size=6)


def as_tf32(values):
    """To 11 significant bits, ties to even, as tensor cores take their operands."""
    bits = values.float().numpy().view(np.uint32)
    return torch.from_numpy(((bits + 0xFFF + ((bits >> 13) & 1)) & ~np.uint32(0x1FFF)).view(np.float32)).double()


@pytest.fixture
def tf32():
    kept = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with experimental.use(scaled_float16=True):
        yield
    torch.backends.cuda.matmul.fp32_precision = kept


@pytest.mark.parametrize("magnitude", [1.0, 3e-30, 1e30])
@pytest.mark.parametrize(("name", "nu"), [("forward", 0), ("grad_input", 1), ("grad_weight", 0)])
def test_error_is_that_of_tf32(name, nu, magnitude, tf32, monkeypatch):
    from fastkan.kernels.experimental import scaled

    taken = []
    original = scaled.halved
    monkeypatch.setattr(scaled, "halved", lambda values: taken.append(values) or original(values))
    tensors = make_inputs(CASE, torch.float32)
    tensors["grad_output" if name == "grad_weight" else "weight"] *= magnitude
    operands = [tensors[k] for k in OPERATIONS[name].tensors]
    answer = getattr(ops, name)(*operands, tensors["knots"], CASE.degree, CASE.activation, "triton", nu)
    assert len(taken) == (2 if name == "grad_input" else 1)
    truth, _ = exact(name, CASE, tensors, (nu,))
    slots = reference.slots(tensors["x"].double(), tensors["knots"].double(), CASE.degree, CASE.activation, nu)
    left = as_tf32(slots) if name != "grad_input" else slots
    weight, g = as_tf32(tensors["weight"]), as_tf32(tensors["grad_output"])
    emulated = {
        "forward": lambda: torch.einsum("bim,imo->bo", left, weight),
        "grad_input": lambda: (left * torch.einsum("imo,bo->bim", weight, g)).sum(-1),
        "grad_weight": lambda: torch.einsum("bim,bo->imo", left, g),
    }[name]()
    assert root_mean_square([answer.double().numpy() - truth]) <= 2 * root_mean_square([emulated.numpy() - truth])


def test_zero_infinity_and_nan_stay(tf32):
    from fastkan.kernels.experimental.scaled import halved, restored

    for special in (0.0, float("inf"), float("nan")):
        values = torch.full((3,), special)
        halves, scale = halved(values)
        torch.testing.assert_close(restored(halves.float(), scale), values, equal_nan=True)
