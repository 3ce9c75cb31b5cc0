"""The fair opponent: one pointwise kernel writes all slots in the tensors' dtype, cuBLAS multiplies it."""

from collections.abc import Callable
from types import ModuleType

from torch import Tensor

from benchmarks.cases import BACKWARD, FORWARD, GRAD_INPUT, GRAD_WEIGHT, SLOPE, Problem
from benchmarks.peers import formulas

Call = Callable[[], tuple[Tensor, ...]]


class Eager:
    """The kernels of pointwise.py where there is no GPU: to test the rest."""

    @staticmethod
    def expand(x: Tensor, *grid: float, nu: int) -> Tensor:
        return formulas.slots(x, *grid, nu).to(x.dtype)

    @staticmethod
    def contract(x: Tensor, pulled: Tensor, *grid: float) -> Tensor:
        return (formulas.slots(x, *grid, 1) * pulled.float()).sum(-1).to(x.dtype)


def kernels(device: str) -> ModuleType | type[Eager]:
    if device != "cuda":
        return Eager
    from benchmarks.peers import pointwise

    return pointwise


def grid(problem: Problem) -> tuple[float, float, int]:
    """First extended knot, spacing and number of splines; all inputs share one uniform grid."""
    first = problem.knots[0].double()
    return float(first[0]), float(first[-1] - first[0]) / (len(first) - 1), problem.case.splines


def expansion(problem: Problem, nu: int = 0) -> Tensor:
    """[B, I*M], materialised."""
    return kernels(problem.x.device.type).expand(problem.x.detach(), *grid(problem), nu=nu).flatten(1)


def ceiling(problem: Problem, mode: str) -> Call:
    """A product of equal FLOPs for every mode: rows B, columns O, contraction I*M, the expansion given."""
    given, weight = expansion(problem), problem.weight.flatten(0, 1)
    if mode != BACKWARD:
        return lambda: (given.mm(weight),)
    return lambda: (given.mm(weight), given.mm(weight), given.mm(weight))


def unfused(problem: Problem, mode: str) -> Call:
    """Each mode from one or two pointwise kernels and its products; forward+backward keeps the expansion for its backward."""
    pointwise, settings = kernels(problem.x.device.type), grid(problem)
    x, g, weight = problem.x.detach(), problem.cotangent, problem.weight.flatten(0, 1)
    shape = (*x.shape, problem.case.splines + 1)

    def expand(nu: int) -> Tensor:
        return pointwise.expand(x, *settings, nu=nu).flatten(1)

    def grad_input() -> Tensor:
        return pointwise.contract(x, g.mm(weight.T).view(shape), *settings)

    def step() -> tuple[Tensor, ...]:
        kept = expand(0)
        y = kept.mm(weight)
        grad_weight = kept.T.mm(g)
        del kept
        return y, grad_input(), grad_weight.view(problem.weight.shape)

    calls = {
        FORWARD: lambda: (expand(0).mm(weight),),
        SLOPE: lambda: (expand(1).mm(weight),),
        GRAD_INPUT: lambda: (grad_input(),),
        GRAD_WEIGHT: lambda: (expand(0).T.mm(g).view(problem.weight.shape),),
    }
    return calls.get(mode, step)
