"""What is kept about a grid: until its knots are written to, and nothing where they have no version counter."""

import os

import pytest
import torch
from contract.cases import Case, assert_accurate, make_inputs

import fastkan
from fastkan import ops

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="runs the kernels in Triton's interpreter")
UNIFORM = Case(70, 20, 72, grid_size=6)  # as large as kernels/uniform.py wants it


def path(tensors):
    from fastkan.kernels import plan

    return plan.forward(tensors["x"], tensors["weight"], None, tensors["knots"], 3, "silu", 0).path


def test_knots_that_are_inference_tensors():
    tensors = make_inputs(UNIFORM, torch.float16)
    with torch.inference_mode():
        tensors["knots"] = tensors["knots"].clone()
    assert tensors["knots"].is_inference() and path(tensors) == "uniform"
    y = ops.forward(tensors["x"], tensors["weight"], None, tensors["knots"], 3, "silu", "triton", 0)
    assert_accurate("forward", UNIFORM, [(y, tensors)], (0,))


def test_a_layer_built_in_inference_mode():
    x = torch.randn(70, 20).half()
    with torch.inference_mode():
        layer = fastkan.KANLinear(20, 72, backend="triton").half()
        y = layer(x)
        layer.backend = "reference"
        expected = layer.float()(x.float())
    torch.testing.assert_close(y.float(), expected, rtol=1e-2, atol=1e-2)


def test_a_grid_that_is_written_to_is_asked_again():
    tensors = make_inputs(UNIFORM, torch.float16)
    assert path(tensors) == "uniform"
    tensors["knots"][3] += tensors["knots"][3].square() / 10
    assert path(tensors) == "general"
