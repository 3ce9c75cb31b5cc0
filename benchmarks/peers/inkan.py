"""inkan: its default (its splines under torch.compile, first order only), and compile_basis=False for PINNs."""

from functools import partial

import torch
from torch import Tensor

from benchmarks.cases import Problem
from benchmarks.peers.interface import Layer, Peer


def build(problem: Problem, compile_basis: bool) -> Layer:
    import inkan

    case, weight = problem.case, problem.weight
    layer = inkan.KANLayer(
        case.in_features,
        case.out_features,
        grid_size=case.grid_size,
        spline_order=case.degree,
        compile_basis=compile_basis,
    ).to(weight.device, weight.dtype)
    packed = torch.cat((weight[:, :-1].permute(2, 0, 1).flatten(1), weight[:, -1].T), dim=1)
    with torch.no_grad():
        layer.weight.copy_(packed)

    def to_slots(gradients: tuple[Tensor, ...]) -> Tensor:
        spline, activation = gradients[0].split((case.in_features * case.splines, case.in_features), dim=1)
        spline = spline.unflatten(1, (case.in_features, case.splines))
        return torch.cat((spline.permute(1, 2, 0), activation.T[:, None]), dim=1)

    return Layer(layer, (layer.weight,), to_slots)


PEERS = (
    Peer("inkan", "inkan", partial(build, compile_basis=True), compiled=True),
    Peer("inkan, eager basis", "inkan", partial(build, compile_basis=False)),
)
