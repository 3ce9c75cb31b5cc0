"""Several starts, of which the best goes on."""

from collections.abc import Callable

from torch import Tensor, nn

from fastkan.nn import KAN, KANLinear
from fastkan.nn.start import seeded

State = dict[str, Tensor]


def start_again(model: nn.Module, seed: int) -> None:
    """Other start values for every layer."""
    if isinstance(model, KAN):
        model.reset_parameters(seed)
        return
    layers = [module for module in model.modules() if isinstance(module, KANLinear)]
    with seeded(seed, layers[0].weight.device):
        for layer in layers:
            layer.reset_parameters()


def best_of(states: list[State], advance: Callable[[State], tuple[float, State]]) -> State:
    """The state with the least loss; half of them go on at each round. advance: some steps; returns (loss, state)."""
    while len(states) > 1:
        scored = sorted((advance(state) for state in states), key=lambda pair: pair[0])
        states = [state for _, state in scored[: max(1, len(scored) // 2)]]
    return states[0]
