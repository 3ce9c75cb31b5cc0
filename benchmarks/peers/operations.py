"""Everyone who takes part on a GPU, and what each of them calls in every mode: whole layers, and single operations."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.cases import BACKWARD, FORWARD, GRAD_INPUT, GRAD_WEIGHT, RESULTS, SLOPE, Case, Problem
from benchmarks.modes import named, step
from benchmarks.peers import efficient, mlp, pykan
from benchmarks.peers import fastkan as layers
from benchmarks.peers.interface import Peer
from benchmarks.peers.unfused import Call, ceiling, unfused
from fastkan import backends, experimental, ops

CEILING, UNFUSED, LINEAR, EAGER = "cuBLAS, equal FLOPs", "best unfused", "nn.Linear", "efficient-kan style"
OPERATIONS = (FORWARD, BACKWARD, GRAD_INPUT, GRAD_WEIGHT, SLOPE)
PYKAN_ELEMENTS = 2**26  # of a (B, I, O) tensor; pykan holds dozens of them


@dataclass(frozen=True)
class Prepared:
    """A call, and how its results are read for the gate: by the names of RESULTS; None for another function."""

    call: Call
    named: Callable[[tuple[Tensor, ...]], dict[str, Tensor]] | None


@dataclass(frozen=True)
class OperationPeer:
    """A peer by its modes; `declines` gives the reason why a case is left out."""

    name: str
    family: str
    modes: tuple[str, ...]
    prepare: Callable[[Problem, str], Prepared]
    compiled: bool = False
    declines: Callable[[Case], str | None] = lambda case: None


def by_order(mode: str) -> Callable[[tuple[Tensor, ...]], dict[str, Tensor]]:
    return lambda results: dict(zip(RESULTS[mode], results, strict=True))


def layer_step(peer: Peer, problem: Problem, mode: str) -> Prepared:
    """Forward and forward+backward of a module, through its own autograd."""
    layer = peer.build(problem)
    return Prepared(step(layer, problem, mode), partial(named, layer, mode) if layer.to_slots else None)


def backend_operation(peer: Peer, backend: str, problem: Problem, mode: str) -> Prepared:
    """The raw operations of a backend; forward+backward is KANLinear's."""
    if mode == BACKWARD:
        return layer_step(peer, problem, mode)
    x, g, weight, knots = problem.x.detach(), problem.cotangent, problem.weight, problem.knots
    settings = (problem.case.degree, "silu", backend)
    calls = {
        FORWARD: lambda: (ops.forward(x, weight, None, knots, *settings, 0),),
        SLOPE: lambda: (ops.forward(x, weight, None, knots, *settings, 1),),
        GRAD_INPUT: lambda: (ops.grad_input(x, weight, g, knots, *settings, 1),),
        GRAD_WEIGHT: lambda: (ops.grad_weight(x, g, None, knots, *settings, 0),),
    }

    @torch.no_grad()
    def call() -> tuple[Tensor, ...]:
        return calls[mode]()

    return Prepared(call, by_order(mode))


def two_four_forward(tile: str, problem: Problem, mode: str) -> Prepared:
    """Forward of backend cuda on 2:4 sparse tensor cores; its weight is packed once, before the first call that counts."""
    whole = backend_operation(Peer("fastkan cuda", "fastkan", layers.build), "cuda", problem, mode)

    def call() -> tuple[Tensor, ...]:
        with experimental.use(two_four=tile):
            return whole.call()

    return Prepared(call, whole.named)


def _two_four_declines(case: Case) -> str | None:
    return None if case.dtype in ("float16", "bfloat16") else "left out: it multiplies in 16 bit"


def _pykan_declines(case: Case) -> str | None:
    elements = case.batch * case.edges
    return f"left out: its (B, I, O) tensors would have {elements:.1e} elements each" if elements > PYKAN_ELEMENTS else None


def _module(peer: Peer, **settings) -> OperationPeer:
    return OperationPeer(peer.name, peer.family, (FORWARD, BACKWARD), partial(layer_step, peer), peer.compiled, **settings)


def taking_part(device: str) -> list[OperationPeer]:
    """The ceiling first; fastkan's reference is the truth of the tests, and takes part only where it is alone."""
    serving = [name for name in backends.available(device) if name != "reference"] or ["reference"]
    own = []
    for backend in serving:
        peer = Peer(f"fastkan {backend}", "fastkan", partial(layers.build, backend=backend))
        own.append(OperationPeer(peer.name, "fastkan", OPERATIONS, partial(backend_operation, peer, backend)))
    for tile in experimental.TILES if "cuda" in serving else ():
        prepare = partial(two_four_forward, tile)
        own.append(OperationPeer(f"fastkan cuda, 2:4 {tile}", "fastkan", (FORWARD,), prepare, declines=_two_four_declines))
    linear, perceptron = mlp.PEERS[:2]
    eager, compiled = efficient.PEERS
    speed = next(peer for peer in pykan.PEERS if peer.name == "pykan speed()")
    return [
        OperationPeer(CEILING, "cuBLAS", OPERATIONS, lambda problem, mode: Prepared(ceiling(problem, mode), None)),
        *own,
        OperationPeer(UNFUSED, "unfused", OPERATIONS, lambda p, mode: Prepared(unfused(p, mode), by_order(mode))),
        *map(_module, (linear, perceptron, eager, compiled)),
        _module(speed, declines=_pykan_declines),
    ]
