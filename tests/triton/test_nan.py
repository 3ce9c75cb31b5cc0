"""NaN on the uniform path: in forward and grad_input the base slot alone would carry it, in grad_weight every spline must."""

import os

import ahead
import pytest
import torch
from contract.cases import Case, make_inputs

from fastkan import ops

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CASE = Case(70, 20, 72, grid_size=6)  # as large as kernels/uniform.py wants it


@pytest.mark.skipif(not INTERPRETED, reason="runs the kernels in Triton's interpreter")
@pytest.mark.parametrize("nu", [0, 1, 2])
@pytest.mark.parametrize("activation", ["silu", "zero"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_nan_reaches_its_own_answers_only(dtype, activation, nu):
    from fastkan.kernels.grids import uniform_grid

    tensors = make_inputs(CASE, dtype)
    x, weight, g, knots = (tensors[k] for k in ("x", "weight", "grad_output", "knots"))
    assert uniform_grid(knots) is not None
    x[3, 5] = torch.nan
    y = ops.forward(x, weight, None, knots, 3, activation, "triton", nu)
    grad_x = ops.grad_input(x, weight, g, knots, 3, activation, "triton", nu)
    grad_weight = ops.grad_weight(x, g, None, knots, 3, activation, "triton", nu)
    for answer, touched in ((y, 3), (grad_x, (3, 5)), (grad_weight, 5)):
        expected = torch.zeros_like(answer, dtype=torch.bool)
        expected[touched] = True
        assert torch.equal(answer.isnan(), expected)


@pytest.mark.skipif(INTERPRETED, reason="compiled in the run without the interpreter")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_120"])
def test_compiled_splines_keep_nan(architecture):
    """The interpreter's maximum keeps NaN whatever it is asked; a GPU's does so only by its own instruction."""
    from fastkan import kernels
    from fastkan.kernels import devices

    x, g = (torch.empty(65536, 256, dtype=torch.bfloat16, device="meta") for _ in range(2))
    knots = torch.linspace(-1.6, 1.6, 12).repeat(256, 1)
    with devices.on(devices.stand_in(architecture)), ahead.recorded(ahead.target_of(architecture)) as launches:
        kernels.grad_weight(x, g, None, knots, 3, "silu", 0)
    splines = launches[0]
    assert splines.name == "uniform_grad_weight_kernel" and "max.NaN.f32" in splines.compiled.asm["ptx"]
