"""ONNX: both exporters write plain operators, with a batch of any size."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import fastkan
from fastkan import KAN, KANLinear

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

BATCHES = (5, 1, 8)


def everything():
    """Grids that moved, a bias, product nodes, an edge that is gone and one that is a formula."""
    torch.manual_seed(0)
    net = KAN([3, (2, 1), 2], degree=2, bias=True)
    net.update_grid(torch.randn(50, 3))
    net.layers[0].set_mask(torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]).bool())
    net.layers[1].set_symbolic({(0, 1): ("sin", (3.0, 0, 1, 0))})
    return net


MODELS = {
    "KANLinear": lambda: KANLinear(3, 2),
    "KAN": lambda: KAN([3, 4, 2], degree=2, activation="identity"),
    "Sequential": lambda: nn.Sequential(
        nn.Linear(3, 4), KANLinear(4, 2, activation="relu", degree=1), KAN([2, 2], activation="tanh", degree=1)
    ),
    "gelu": lambda: KANLinear(3, 2, activation="gelu", degree=1),
    "everything": everything,
}


def with_dynamo(model, x, path):
    torch.onnx.export(model, (x,), path, dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), input_names=["x"])


def with_torchscript(model, x, path):
    torch.onnx.export(model, (x,), path, dynamo=False, dynamic_axes={"x": {0: "batch"}}, input_names=["x"])


def from_a_program(model, x, path):
    """Of a program that torch.export has made before, without fastkan's op."""
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.onnx.export(program.run_decompositions(fastkan.export.decompositions()), f=path, input_names=["x"])


QUICK = {("everything", with_dynamo), ("everything", with_torchscript), ("gelu", from_a_program)}
EXPORTS = [
    pytest.param(name, export, marks=[] if (name, export) in QUICK else pytest.mark.proof)
    for name in MODELS
    for export in (with_dynamo, with_torchscript, from_a_program)
    if (name, export) != ("gelu", with_torchscript)  # PyTorch's TorchScript exporter has no erfc
]


@pytest.mark.parametrize("name, export", EXPORTS)
def test_the_exported_model_agrees(name, export, tmp_path, monkeypatch):
    model, path = MODELS[name]().eval(), str(tmp_path / "model.onnx")
    with warnings.catch_warnings(), monkeypatch.context() as patch:
        patch.setattr(fastkan.reference, "forward", None)  # five times as slow there
        warnings.simplefilter("error", torch.jit.TracerWarning)
        export(model, torch.randn(4, 3), path)
    assert {node.domain for node in onnx.load(path).graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows in BATCHES:
        x = 1.5 * torch.randn(rows, 3)
        x[0, 0], x[-1, -1] = -1, 1  # the ends of the grid
        (y,) = session.run(None, {"x": x.numpy()})
        np.testing.assert_allclose(y, model(x).detach().numpy(), rtol=1e-5, atol=1e-5)
