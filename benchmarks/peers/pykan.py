"""pykan: as it comes (symbolic branch on, activations kept), speed() and speed(compile=True)."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy
import torch
from torch import Tensor, nn

from benchmarks.cases import FORWARD, Case, Problem
from benchmarks.peers.interface import Layer, Peer


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """pykan's constructor seeds torch, numpy and random for the whole process."""
    states = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(states[0])
    numpy.random.set_state(states[1])


def _load(layer: nn.Module, problem: Problem) -> None:
    """Write our knots and coefficients into a kan.KANLayer; scale_sp = mask = 1 leaves the spline to coef."""
    with torch.no_grad():
        layer.grid.copy_(problem.knots)
        layer.coef.copy_(problem.weight[:, :-1].permute(0, 2, 1))
        layer.scale_base.copy_(problem.weight[:, -1])
        layer.scale_sp.fill_(1)


def _to_slots(gradients: tuple[Tensor, ...]) -> Tensor:
    coef, scale_base = gradients[:2]
    return torch.cat((coef.permute(0, 2, 1), scale_base[:, None]), dim=1)


def build(problem: Problem, variant: str) -> Layer:
    return network([problem], variant)


def network(problems: list[Problem], variant: str) -> Layer:
    """A stack whose layer l computes the function of problems[l]."""
    import kan

    case, weight = problems[0].case, problems[0].weight
    with _random_states_kept():
        model = kan.KAN(
            width=[case.in_features, *(problem.case.out_features for problem in problems)],
            grid=case.grid_size,
            k=case.degree,
            auto_save=False,
            device=str(weight.device),
        )
    nn.Module.to(model, weight.dtype)  # MultKAN's own takes a device, and would record the dtype as one
    checked: list[Tensor] = []
    for layer, problem in zip(model.act_fun, problems, strict=True):
        _load(layer, problem)
        checked += (layer.coef, layer.scale_base)
    others = [p for p in model.parameters() if p.requires_grad and not any(p is q for q in checked)]
    call = model if variant == "default" else model.speed(compile=variant == "compile")
    return Layer(call, (*checked, *others), _to_slots)


def _predict_default(case: Case, mode: str) -> float:
    """The symbolic branch loops over edges in Python; its backward fills an edge-sized tensor per edge."""
    forward = 1e-4 * case.edges
    return forward if mode == FORWARD else forward + 1.8e-4 * case.edges + 4e-9 * case.edges**2


def _predict_speed(case: Case, mode: str, seconds_per_edge_row: float) -> float:
    """Bound by the traffic of the [B, I, O] tensors."""
    return (1 if mode == FORWARD else 2) * seconds_per_edge_row * case.batch * case.edges


# Coefficients measured on 2 cores of a server of 2023; they only have to tell seconds from minutes.
PEERS = (
    Peer("pykan", "pykan", partial(build, variant="default"), predict=_predict_default),
    Peer(
        "pykan speed()",
        "pykan",
        partial(build, variant="speed"),
        predict=partial(_predict_speed, seconds_per_edge_row=1.5e-8),
    ),
    Peer(
        "pykan speed(compile=True)",
        "pykan",
        partial(build, variant="compile"),
        compiled=True,
        predict=partial(_predict_speed, seconds_per_edge_row=4e-9),
    ),
)
