"""fastkan.KANLinear, once for each backend that this machine can run, and fastkan.KAN."""

from functools import partial

import torch

import fastkan
from benchmarks.cases import Problem
from benchmarks.peers.interface import Layer, Peer
from fastkan import backends


def network(problems: list[Problem], backend: str) -> fastkan.KAN:
    """A stack whose layer l computes the function of problems[l]."""
    case, weight = problems[0].case, problems[0].weight
    model = fastkan.KAN(
        [case.in_features, *(problem.case.out_features for problem in problems)],
        grid_size=case.grid_size,
        degree=case.degree,
        backend=backend,
        device=weight.device,
        dtype=weight.dtype,
    )
    with torch.no_grad():
        for layer, problem in zip(model, problems, strict=True):
            layer.weight.copy_(problem.weight)
            layer.knots.copy_(problem.knots)
    return model


def build(problem: Problem, backend: str) -> Layer:
    layer = network([problem], backend)[0]
    return Layer(layer, (layer.weight,), lambda gradients: gradients[0])


def peers(device: str) -> list[Peer]:
    return [Peer(f"fastkan {backend}", "fastkan", partial(build, backend=backend)) for backend in backends.available(device)]
