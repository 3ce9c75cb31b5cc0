"""KANLinear and KAN under tools that nn.Linear passes: torch.fx, torch.jit, TensorBoard and their like."""

import copy
import io
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import fastkan
from fastkan import KAN, KANLinear
from fastkan.functional import kan_linear

MODELS = {
    "KANLinear": lambda **kwargs: KANLinear(3, 2, **kwargs),
    "KAN": lambda **kwargs: KAN([3, 4, 2], **kwargs),
    "Sequential": lambda **kwargs: nn.Sequential(KANLinear(3, 4, bias=False, **kwargs), nn.Tanh(), KAN([4, 3, 2], **kwargs)),
}
SHAPES = [(5, 3), (1, 3), (7, 3)]


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param](dtype=torch.float64)


def gradients(function, x, parameters):
    return torch.autograd.grad(function(x).square().sum(), (x, *parameters))


def assert_same(function, model, shapes=SHAPES):
    """The same answers and the same gradients, of x and of the model's parameters."""
    parameters = tuple(model.parameters())
    for shape in shapes:
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        torch.testing.assert_close(function(x), model(x))
        for ours, expected in zip(gradients(function, x, parameters), gradients(model, x, parameters), strict=True):
            torch.testing.assert_close(ours, expected)


# ---- torch.fx


def test_symbolic_trace(model):
    traced = torch.fx.symbolic_trace(model)
    calls = [node for node in traced.graph.nodes if node.target is kan_linear]
    assert len(calls) == sum(isinstance(module, KANLinear) for module in model.modules())
    parameters = dict(traced.named_parameters())
    assert parameters.keys() == dict(model.named_parameters()).keys()
    assert_same(traced, model, [*SHAPES, (2, 4, 3)])


def test_a_traced_graph_can_be_copied_and_pickled(model):
    traced = torch.fx.symbolic_trace(model)
    x = torch.randn(5, 3, dtype=torch.float64)
    for again in (copy.deepcopy(traced), pickle.loads(pickle.dumps(traced))):
        assert torch.equal(again(x), model(x))


def test_symbolic_trace_where_kan_linear_was_imported_by_name():
    class Slope(KANLinear):
        def forward(self, x):
            return kan_linear(x, self.weight, self.knots, nu=1)

    layer, x = Slope(3, 2), torch.randn(5, 3)
    assert torch.equal(torch.fx.symbolic_trace(layer)(x), layer(x))


def test_make_fx_sees_one_op_a_layer(model):
    x = torch.randn(5, 3, dtype=torch.float64)
    traced = make_fx(model)(x)
    calls = [node for node in traced.graph.nodes if node.target is torch.ops.fastkan.kan_linear.default]
    assert len(calls) == sum(isinstance(module, KANLinear) for module in model.modules())
    torch.testing.assert_close(traced(x), model(x))


# ---- torch.jit


def trace(model, x):
    """torch.jit.trace without a word of the tracer about sizes that it takes for constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        return torch.jit.trace(model, x)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3)], ids=["2d", "3d"])
def test_jit_trace(model, shape):
    traced = trace(model, torch.randn(shape, dtype=torch.float64))
    assert "PythonOp" not in str(traced.inlined_graph)
    assert_same(traced, model, SHAPES if len(shape) == 2 else [(2, 4, 3), (3, 1, 3)])


def test_jit_trace_without_gradients(model):
    with torch.no_grad():
        traced = trace(model, torch.randn(5, 3, dtype=torch.float64))
    assert_same(traced, model)


def test_a_jit_trace_is_saved_and_loaded(model):
    saved = io.BytesIO()
    torch.jit.save(trace(model, torch.randn(5, 3, dtype=torch.float64)), saved)
    saved.seek(0)
    loaded = torch.jit.load(saved)
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(loaded(x), model(x))
    for ours, expected in zip(gradients(loaded, x, loaded.parameters()), gradients(model, x, model.parameters()), strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_jit_trace_is_loaded_by_another_process(tmp_path):
    layer = KANLinear(3, 2)
    x = torch.ones(4, 3)
    with fastkan.use_backend("reference"):  # an emulated device is of this process only
        trace(layer, x).save(tmp_path / "layer.pt")
    code = "import torch, fastkan\nprint(torch.jit.load('layer.pt')(torch.ones(4, 3)).sum().item())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(layer(x).sum().item())


def test_tensorboard_shows_the_layers(model, tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        writer.add_graph(model, torch.randn(5, 3, dtype=torch.float64))
    assert b"fastkan::kan_linear" in next(tmp_path.iterdir()).read_bytes()


def test_jit_script_names_what_to_use_instead(model):
    with pytest.raises(TypeError, match=r"^KANLinear: torch\.jit\.script cannot .* torch\.jit\.trace"):
        torch.jit.script(model)


# ---- the rest: they passed before there was a line about them


def test_checkpoint(model):
    assert_same(lambda x: checkpoint(model, x, use_reentrant=False), model)


def test_functional_call(model):
    doubled = {name: 2 * value for name, value in model.named_parameters()}
    x = torch.randn(5, 3, dtype=torch.float64)
    again = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(torch.func.functional_call(model, doubled, (x,)), again(x))
