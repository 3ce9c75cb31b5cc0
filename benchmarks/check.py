"""The gate before the clock: a provider's numbers against fastkan.reference in float64."""

import torch
from torch import Tensor

from benchmarks.cases import BACKWARD, DOUBLE_BACKWARD, FORWARD, Problem
from benchmarks.modes import step
from benchmarks.providers import efficient
from benchmarks.providers.interface import Layer
from fastkan import reference

# Times the error that plain PyTorch makes in the same dtype, and five digits are always enough. fastkan's own tests are
# stricter (2, and 3 for gradients): this gate lets honest peers pass whose formulas lose a digit (inkan's second
# derivatives err 8 to 13 times as much in float32, which is 2.5e-6), and stops whatever computes something else or too roughly
# (the same derivatives in bfloat16, 14 % off).
TOLERANCE, ENOUGH = 10.0, 1e-5


def truth(problem: Problem, mode: str) -> dict[str, Tensor]:
    """Closed forms by the three operations, in float64: nothing here relies on autograd."""
    tensors = (problem.x, problem.weight, problem.knots, problem.cotangent)
    x, weight, knots, g = (tensor.detach().double() for tensor in tensors)
    degree, base = problem.case.degree, "silu"
    if mode == FORWARD:
        return {"y": reference.forward(x, weight, None, knots, degree, base, 0)}
    if mode == BACKWARD:
        return truth(problem, FORWARD) | {
            "grad x": reference.grad_input(x, weight, g, knots, degree, base, 1),
            "grad weight": reference.grad_weight(x, g, None, knots, degree, base, 0),
        }
    ones = torch.ones_like(g)
    slope = reference.grad_input(x, weight, ones, knots, degree, base, 1)
    return {
        "grad x": 2 * slope * reference.grad_input(x, weight, ones, knots, degree, base, 2),
        "grad weight": reference.grad_weight(x, ones, 2 * slope, knots, degree, base, 1),
    }


def errors(layer: Layer, problem: Problem, mode: str, expected: dict[str, Tensor]) -> dict[str, float]:
    """Largest error of each result, relative to the largest value of the truth."""
    found = [None if result is None else result.detach().double() for result in step(layer, problem, mode)()]
    named = {} if mode == DOUBLE_BACKWARD else {"y": found.pop(0)}
    if mode != FORWARD:
        named |= {"grad x": found[0], "grad weight": layer.to_slots(tuple(found[1:]))}
    return {name: float((named[name] - value).abs().max() / value.abs().max()) for name, value in expected.items()}


class Gate:
    """Truth and yardstick of one (problem, mode), computed once for all providers."""

    def __init__(self, problem: Problem, mode: str) -> None:
        self.problem, self.mode = problem, mode
        self.truth = truth(problem, mode)
        self.plain = errors(efficient.build(problem), problem, mode, self.truth)

    def objection(self, layer: Layer) -> str | None:
        """None for a right answer (and for baselines), else what is wrong with it."""
        if layer.to_slots is None:
            return None
        for name, error in errors(layer, self.problem, self.mode, self.truth).items():
            if not error <= max(ENOUGH, TOLERANCE * self.plain[name]):  # NaN objects as well
                return f"{name} is {error:.1e} off, plain PyTorch {self.plain[name]:.1e}"
        return None
