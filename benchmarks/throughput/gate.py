"""The gate before the clock, at full size: some rows, or some inputs, of every result against float64."""

import torch
from torch import Tensor

from benchmarks.cases import Problem
from benchmarks.check import ENOUGH, TOLERANCE
from benchmarks.throughput.entrants import RESULTS
from benchmarks.throughput.plan import SLOPE
from fastkan import reference

ROWS, INPUTS = 192, 8


def spread(count: int, wanted: int) -> Tensor:
    """About `wanted` indices of `count`: a third at each end, a third in between."""
    third = wanted // 3
    if count <= wanted:
        return torch.arange(count)
    middle = torch.linspace(third, count - third - 1, wanted - 2 * third).long()
    return torch.cat((torch.arange(third), middle, torch.arange(count - third, count))).unique()


class Gate:
    """y and grad x are independent by rows, grad weight by inputs, so a sample of those is exact at little cost."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        case, device = problem.case, problem.x.device
        self.rows = spread(case.batch, ROWS).to(device)
        self.inputs = spread(case.in_features, INPUTS).to(device)
        self.known: dict[tuple[str, int], tuple[Tensor, float]] = {}

    def _sample(self, name: str, result: Tensor) -> Tensor:
        return result.detach()[self.inputs if name == "grad weight" else self.rows].double()

    def truth(self, name: str, nu: int) -> tuple[Tensor, float]:
        """The sample in float64, and the error that plain PyTorch makes there in the same dtype."""
        if (name, nu) not in self.known:
            self.known[name, nu] = self._compute(name, nu)
        return self.known[name, nu]

    def _compute(self, name: str, nu: int) -> tuple[Tensor, float]:
        problem = self.problem
        degree, dtype = problem.case.degree, problem.weight.dtype
        x, g = problem.x.detach(), problem.cotangent
        if name == "grad weight":
            x, knots = x[:, self.inputs], problem.knots[self.inputs]
            exact = reference.grad_weight(x.double(), g.double(), None, knots.double(), degree, "silu", nu)
            slots = reference.slots(x.float(), knots, degree, "silu", nu).to(dtype)
            plain = (slots.flatten(1).T @ g).unflatten(0, slots.shape[1:])
        else:
            x, g, knots, weight = x[self.rows], g[self.rows], problem.knots, problem.weight
            slots = reference.slots(x.float(), knots, degree, "silu", nu).to(dtype)
            wide = (weight.double(), knots.double(), degree, "silu", nu)
            if name == "y":
                exact = reference.forward(x.double(), wide[0], None, *wide[1:])
                plain = slots.flatten(1) @ weight.flatten(0, 1)
            else:
                exact = reference.grad_input(x.double(), wide[0], g.double(), *wide[1:])
                plain = (slots * (g @ weight.flatten(0, 1).T).unflatten(1, slots.shape[1:])).sum(-1)
        return exact, _error(plain.double(), exact)

    @torch.no_grad()
    def objection(self, operation: str, results: dict[str, Tensor]) -> str | None:
        """None for right answers, else what is wrong with them."""
        for name in RESULTS[operation]:
            nu = 1 if name == "grad x" or operation == SLOPE else 0
            if not results[name].isfinite().all():
                return f"{name} has values that are not finite"
            exact, plain = self.truth(name, nu)
            error = _error(self._sample(name, results[name]), exact)
            if not error <= max(ENOUGH, TOLERANCE * plain):
                return f"{name} is {error:.1e} off, plain PyTorch {plain:.1e}"
        return None


def _error(found: Tensor, exact: Tensor) -> float:
    """Largest error relative to the largest value, as in benchmarks/check.py."""
    return float((found - exact).abs().max() / exact.abs().max())
