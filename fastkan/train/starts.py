"""Several starts, of which the best goes on. What is frozen stays, and so do the numbers of formulas: theirs are guesses, not
noise.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fastkan.nn import KAN, KANLinear
from fastkan.nn.edges import present
from fastkan.nn.start import seeded

State = dict[str, Tensor]


def trains_splines(model: nn.Module) -> bool:
    """True if there are splines to draw anew, and to be smooth."""
    layers = [module for module in model.modules() if isinstance(module, KANLinear)]
    return any(layer.weight.requires_grad and bool(present(layer).any()) for layer in layers)


@torch.no_grad()
def restart(model: nn.Module, seed: int) -> None:
    """Draw the splines of a model anew, with biases and grids as at a start."""
    layers = [module for module in model.modules() if isinstance(module, KANLinear)]
    frozen = []
    for layer in layers:
        if not layer.weight.requires_grad:  # a spline is its weight on its grid
            frozen += [(layer.weight, layer.weight.clone()), (layer.knots, layer.knots.clone())]
        if layer.bias is not None and not layer.bias.requires_grad:
            frozen.append((layer.bias, layer.bias.clone()))
    if isinstance(model, KAN):
        model.reset_parameters(seed)
    else:
        with seeded(seed, layers[0].weight.device):
            for layer in layers:
                layer.reset_parameters()
    for tensor, value in frozen:
        tensor.copy_(value)


def best_of(states: list[State], advance: Callable[[State], tuple[float, State]]) -> State:
    """The state with the least loss; half of them go on at each round. advance: some steps; returns (loss, state)."""
    while len(states) > 1:
        scored = sorted((advance(state) for state in states), key=lambda pair: pair[0])
        states = [state for _, state in scored[: max(1, len(scored) // 2)]]
    return states[0]
