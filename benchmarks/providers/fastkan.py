"""fastkan.KANLinear, once for each backend that this machine can run."""

from functools import partial

import torch

import fastkan
from benchmarks.cases import Problem
from benchmarks.providers.interface import Layer, Provider


def build(problem: Problem, backend: str) -> Layer:
    case = problem.case
    layer = fastkan.KANLinear(
        case.in_features,
        case.out_features,
        bias=False,
        grid_size=case.grid_size,
        degree=case.degree,
        device=problem.weight.device,
        dtype=problem.weight.dtype,
        backend=backend,
    )
    with torch.no_grad():
        layer.weight.copy_(problem.weight)
        layer.knots.copy_(problem.knots)
    return Layer(layer, (layer.weight,), lambda gradients: gradients[0])


def providers(device: str) -> list[Provider]:
    return [
        Provider(f"fastkan {backend}", "fastkan", partial(build, backend=backend))
        for backend in fastkan.backends.available(device)
    ]
