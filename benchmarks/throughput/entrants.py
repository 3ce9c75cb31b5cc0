"""Everyone who takes part, and what each of them calls for an operation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

import fastkan
from benchmarks.cases import BACKWARD, FORWARD, Case, Problem
from benchmarks.modes import step
from benchmarks.providers import efficient, mlp, pykan
from benchmarks.providers import fastkan as layers
from benchmarks.providers.interface import Provider
from benchmarks.throughput.plan import OPERATIONS, SLOPE, STEP, A, F, X
from benchmarks.throughput.unfused import Call, ceiling, unfused
from fastkan import ops

CEILING, UNFUSED, LINEAR, EAGER = "cuBLAS, equal FLOPs", "best unfused", "nn.Linear", "efficient-kan style"
RESULTS = {F: ("y",), SLOPE: ("y",), X: ("grad x",), A: ("grad weight",), STEP: ("y", "grad x", "grad weight")}
PYKAN_ELEMENTS = 2**26  # of a (B, I, O) tensor; pykan holds dozens of them


@dataclass(frozen=True)
class Prepared:
    """A call, and how its results are read for the gate: by the names of RESULTS; None for another function."""

    call: Call
    named: Callable[[tuple[Tensor, ...]], dict[str, Tensor]] | None


@dataclass(frozen=True)
class Entrant:
    name: str
    family: str
    operations: tuple[str, ...]
    prepare: Callable[[Problem, str], Prepared]
    compiled: bool = False
    declines: Callable[[Case], str | None] = lambda case: None


def by_order(operation: str) -> Callable[[tuple[Tensor, ...]], dict[str, Tensor]]:
    return lambda results: dict(zip(RESULTS[operation], results, strict=True))


def layer_step(provider: Provider, problem: Problem, operation: str) -> Prepared:
    """F and the training step of a module, through its own autograd."""
    layer = provider.build(problem)

    def named(results: tuple[Tensor, ...]) -> dict[str, Tensor]:
        y, *gradients = results
        if not gradients:
            return {"y": y}
        return {"y": y, "grad x": gradients[0], "grad weight": layer.to_slots(tuple(gradients[1:]))}

    call = step(layer, problem, FORWARD if operation == F else BACKWARD)
    return Prepared(call, None if layer.to_slots is None else named)


def backend_operation(provider: Provider, backend: str, problem: Problem, operation: str) -> Prepared:
    """The raw operations of a backend; the step is KANLinear's."""
    if operation == STEP:
        return layer_step(provider, problem, operation)
    x, g, weight, knots = problem.x.detach(), problem.cotangent, problem.weight, problem.knots
    settings = (problem.case.degree, "silu", backend)
    calls = {
        F: lambda: (ops.forward(x, weight, None, knots, *settings, 0),),
        SLOPE: lambda: (ops.forward(x, weight, None, knots, *settings, 1),),
        X: lambda: (ops.grad_input(x, weight, g, knots, *settings, 1),),
        A: lambda: (ops.grad_weight(x, g, None, knots, *settings, 0),),
    }

    @torch.no_grad()
    def call() -> tuple[Tensor, ...]:
        return calls[operation]()

    return Prepared(call, by_order(operation))


def sparse_forward(tile: str, problem: Problem, operation: str) -> Prepared:
    """F of backend cuda on 2:4 sparse tensor cores; its weight is packed once, before the first call that counts."""
    dense = backend_operation(Provider("fastkan cuda", "fastkan", layers.build), "cuda", problem, operation)

    def call() -> tuple[Tensor, ...]:
        with fastkan.sparse.forced(tile):
            return dense.call()

    return Prepared(call, dense.named)


def _sparse_declines(case: Case) -> str | None:
    return None if case.dtype in ("float16", "bfloat16") else "left out: it multiplies in 16 bit"


def _pykan_declines(case: Case) -> str | None:
    elements = case.batch * case.edges
    return f"left out: its (B, I, O) tensors would have {elements:.1e} elements each" if elements > PYKAN_ELEMENTS else None


def _module(provider: Provider, **settings) -> Entrant:
    return Entrant(provider.name, provider.family, (F, STEP), partial(layer_step, provider), provider.compiled, **settings)


def entrants(device: str) -> list[Entrant]:
    """The ceiling first; fastkan's reference is the truth of the tests, and takes part only where it is alone."""
    backends = [name for name in fastkan.backends.available(device) if name != "reference"] or ["reference"]
    own = []
    for backend in backends:
        provider = Provider(f"fastkan {backend}", "fastkan", partial(layers.build, backend=backend))
        own.append(Entrant(provider.name, "fastkan", OPERATIONS, partial(backend_operation, provider, backend)))
    for tile in fastkan.sparse.TILES if "cuda" in backends else ():
        prepare = partial(sparse_forward, tile)
        own.append(Entrant(f"fastkan cuda, 2:4 {tile}", "fastkan", (F,), prepare, declines=_sparse_declines))
    linear, perceptron = mlp.PROVIDERS[:2]
    eager, compiled = efficient.PROVIDERS
    speed = next(provider for provider in pykan.PROVIDERS if provider.name == "pykan speed()")
    return [
        Entrant(CEILING, "cuBLAS", OPERATIONS, lambda problem, operation: Prepared(ceiling(problem, operation), None)),
        *own,
        Entrant(UNFUSED, "unfused", OPERATIONS, lambda p, operation: Prepared(unfused(p, operation), by_order(operation))),
        *map(_module, (linear, perceptron, eager, compiled)),
        _module(speed, declines=_pykan_declines),
    ]
