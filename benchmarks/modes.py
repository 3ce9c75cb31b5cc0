"""What one call does in each mode, and how its results are read, written once for every peer."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.cases import BACKWARD, FORWARD, RESULTS, Problem
from benchmarks.peers.interface import Layer

Step = Callable[[], tuple[Tensor | None, ...]]


def step(layer: Layer, problem: Problem, mode: str) -> Step:
    """A call without arguments, returning y, or y and gradients, or gradients alone (double backward)."""
    inputs = (problem.x, *layer.parameters)

    def forward() -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            return (layer.call(problem.x),)

    def backward() -> tuple[Tensor | None, ...]:
        y = layer.call(problem.x)
        return (y, *torch.autograd.grad(y, inputs, problem.cotangent, allow_unused=True))

    def double_backward() -> tuple[Tensor | None, ...]:
        """As in physics-informed networks: a loss on the derivative of the output by the input."""
        u = layer.call(problem.x).sum()
        (slope,) = torch.autograd.grad(u, problem.x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), inputs, allow_unused=True)

    return {FORWARD: forward, BACKWARD: backward}.get(mode, double_backward)


def named(layer: Layer, mode: str, results: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
    """The results of a checked layer's step by the names of RESULTS; its parameters' gradients become one [I, M, O]."""
    names = RESULTS[mode]
    if "grad weight" in names:
        first = len(names) - 1
        results = (*results[:first], layer.to_slots(results[first:]))
    return dict(zip(names, results, strict=True))
