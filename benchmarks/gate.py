"""The gate before the clock: every result against fastkan.reference's slots in float64, whole or by a sample.

y and grad x are independent by rows, grad weight by inputs. So a sample of those is exact at little cost.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.cases import DOUBLE_BACKWARD, RESULTS, SLOPE, Problem
from fastkan import reference

# Times the error that plain PyTorch makes in the same dtype, and five digits are always enough. fastkan's own tests are
# stricter (2, and 3 for gradients): this gate lets honest peers pass whose formulas lose a digit (inkan's second
# derivatives err 8 to 13 times as much in float32, which is 2.5e-6), and stops whatever computes something else or too roughly
# (the same derivatives in bfloat16, 14 % off).
TOLERANCE, ENOUGH = 10.0, 1e-5


def spread(count: int, wanted: int) -> Tensor:
    """About `wanted` indices of `count`: a third at each end, a third in between."""
    third = wanted // 3
    if count <= wanted:
        return torch.arange(count)
    middle = torch.linspace(third, count - third - 1, wanted - 2 * third).long()
    return torch.cat((torch.arange(third), middle, torch.arange(count - third, count))).unique()


@dataclass(frozen=True)
class Formulas:
    """The closed forms of a layer in the dtype of its tensors: nothing here relies on autograd."""

    slots: Callable[[int], Tensor]  # derivative order -> [B, I, M]
    weight: Tensor
    grad_output: Tensor

    def forward(self, nu: int) -> Tensor:
        return self.slots(nu).flatten(1) @ self.weight.flatten(0, 1)

    def grad_input(self, grad_output: Tensor, nu: int) -> Tensor:
        slots = self.slots(nu)
        return (slots * (grad_output @ self.weight.flatten(0, 1).T).unflatten(1, slots.shape[1:])).sum(-1)

    def grad_weight(self, grad_output: Tensor, row_weight: Tensor | None, nu: int) -> Tensor:
        slots = self.slots(nu) if row_weight is None else self.slots(nu) * row_weight[..., None]
        return (slots.flatten(1).T @ grad_output).unflatten(0, slots.shape[1:])

    def result(self, mode: str, name: str) -> Tensor:
        """What a mode of benchmarks/cases.py returns under a name of RESULTS."""
        if name == "y":
            return self.forward(1 if mode == SLOPE else 0)
        if mode != DOUBLE_BACKWARD:
            g = self.grad_output
            return self.grad_input(g, 1) if name == "grad x" else self.grad_weight(g, None, 0)
        ones = torch.ones_like(self.grad_output)  # the loss is the sum of squares of the slopes of y's sum
        slope = self.grad_input(ones, 1)
        return 2 * slope * self.grad_input(ones, 2) if name == "grad x" else self.grad_weight(ones, 2 * slope, 1)


def error(found: Tensor, exact: Tensor) -> float:
    """Largest error relative to the largest value."""
    return float((found.detach().double() - exact.detach()).abs().max() / exact.detach().abs().max())


class Gate:
    """Truth and yardstick of one problem, each computed once for all peers; `rows` and `inputs`: how many to look at."""

    def __init__(self, problem: Problem, rows: int | None = None, inputs: int | None = None) -> None:
        self.problem = problem
        case, device = problem.case, problem.x.device
        self.rows = spread(case.batch, rows or case.batch).to(device)
        self.inputs = spread(case.in_features, inputs or case.in_features).to(device)
        self.known: dict[tuple[str, str], tuple[Tensor, float]] = {}

    def _formulas(self, name: str, exact: bool) -> Formulas:
        """Of the sample that `name` needs: in float64, or as plain PyTorch has it, slots in float32 rounded to the dtype."""
        problem, degree = self.problem, self.problem.case.degree
        x, g, knots, weight = problem.x.detach(), problem.cotangent, problem.knots, problem.weight
        if name == "grad weight":
            x, knots, weight = x[:, self.inputs], knots[self.inputs], weight[self.inputs]
        else:
            x, g = x[self.rows], g[self.rows]
        if exact:
            x, knots, weight, g = x.double(), knots.double(), weight.double(), g.double()
            return Formulas(lambda nu: reference.slots(x, knots, degree, "silu", nu), weight, g)
        wide = x if x.dtype == torch.float64 else x.float()
        return Formulas(lambda nu: reference.slots(wide, knots.to(wide.dtype), degree, "silu", nu).to(weight.dtype), weight, g)

    def truth(self, mode: str, name: str) -> tuple[Tensor, float]:
        """The sample in float64, and the error that plain PyTorch makes there in the same dtype."""
        if (mode, name) not in self.known:
            exact = self._formulas(name, exact=True).result(mode, name)
            self.known[mode, name] = exact, error(self._formulas(name, exact=False).result(mode, name), exact)
        return self.known[mode, name]

    @torch.no_grad()
    def objection(self, mode: str, results: dict[str, Tensor]) -> str | None:
        """None for right answers, else what is wrong with them."""
        for name in RESULTS[mode]:
            found = results[name].detach()
            if not found.isfinite().all():
                return f"{name} has values that are not finite"
            exact, plain = self.truth(mode, name)
            off = error(found[self.inputs if name == "grad weight" else self.rows], exact)
            if not off <= max(ENOUGH, TOLERANCE * plain):
                return f"{name} is {off:.1e} off, plain PyTorch {plain:.1e}"
        return None
