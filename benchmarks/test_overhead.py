"""What one call costs beside PyTorch's own, at a size with hardly any arithmetic: `make overhead`.

Not part of the tests: a timing never decides whether they pass.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastkan
from fastkan.functional import kan_linear

ROWS, FEATURES = 4, 8
LAYERS = {"nn.Linear": nn.Linear, "KANLinear": fastkan.KANLinear}


@pytest.fixture
def x() -> Tensor:
    return torch.rand(ROWS, FEATURES, requires_grad=True)


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> nn.Module:
    return LAYERS[request.param](FEATURES, FEATURES)


@pytest.mark.benchmark(group="function, forward")
def test_linear(benchmark, x):
    weight = torch.rand(FEATURES, FEATURES)
    with torch.no_grad():
        benchmark(F.linear, x, weight)


@pytest.mark.benchmark(group="function, forward")
def test_kan_linear(benchmark, x):
    layer = fastkan.KANLinear(FEATURES, FEATURES)
    with torch.no_grad():
        benchmark(kan_linear, x, layer.weight, layer.knots)


@pytest.mark.benchmark(group="module, forward")
def test_forward(benchmark, layer, x):
    with torch.no_grad():
        benchmark(layer, x)


@pytest.mark.benchmark(group="module, forward that records for autograd")
def test_recorded_forward(benchmark, layer, x):
    benchmark(layer, x)


@pytest.mark.benchmark(group="module, forward+backward")
def test_forward_backward(benchmark, layer, x):
    inputs = (x, *layer.parameters())
    cotangent = torch.ones(ROWS, FEATURES)
    benchmark(lambda: torch.autograd.grad(layer(x), inputs, cotangent))
