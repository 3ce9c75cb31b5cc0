"""The experimental path that writes the slots to memory, under the contract."""

import os

import pytest
import torch
from contract.cases import Case, assert_accurate, make_inputs

from fastkan import backends, experimental, ops
from fastkan.ops import OPERATIONS

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="runs the kernels in Triton's interpreter")
CASES = (Case(7, 3, 4), Case(9, 4, 3, degree=5, knots="spread", row_weight=True), Case(33, 5, 17, grid_size=9, activation="gelu"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", ["forward", "grad_input", "grad_weight"])
def test_unfused(name, case, dtype, monkeypatch):
    from fastkan.kernels.experimental import unfused

    assert "triton" in backends.available("cpu")
    calls = []
    original = getattr(unfused, name)
    monkeypatch.setattr(unfused, name, lambda *arguments: calls.append(name) or original(*arguments))
    monkeypatch.setattr(unfused, "CHUNK_BYTES", 5 * case.I * case.slots * dtype.itemsize)  # chunks of five rows
    draws = [make_inputs(case, dtype, seed=seed) for seed in case.draws]
    for nu in (0, 1):
        with experimental.use(unfused=True):
            answers = [
                getattr(ops, name)(
                    *[d[k] for k in OPERATIONS[name].tensors], d["knots"], case.degree, case.activation, "triton", nu
                )
                for d in draws
            ]
        assert_accurate(name, case, list(zip(answers, draws, strict=True)), (nu,))
    assert calls
