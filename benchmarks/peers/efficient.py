"""The structure of efficient-kan, written anew: write the splines [B, I, S], then two matrix products.

The splines stay in float32 for every dtype, which is kinder than the original (its knots follow the dtype,
0.9 % off in bfloat16). So the eager layer also serves as the yardstick of plain PyTorch's own rounding.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.cases import Problem
from benchmarks.peers.interface import Layer, Peer


class MaterialisedKAN(nn.Module):
    """base_weight [O, I] for the SiLU slot and spline_weight [O, I, S]."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.degree = problem.case.degree
        self.register_buffer("knots", problem.knots)
        self.base_weight = nn.Parameter(problem.weight[:, -1].T.contiguous())
        self.spline_weight = nn.Parameter(problem.weight[:, :-1].permute(2, 0, 1).contiguous())

    def splines(self, x: Tensor) -> Tensor:
        """Cox-de Boor recursion over the degree: [B, I] -> [B, I, S]."""
        knots, t = self.knots, x[..., None]
        values = ((t >= knots[:, :-1]) & (t < knots[:, 1:])).to(knots.dtype)
        for k in range(1, self.degree + 1):
            left = (t - knots[:, : -k - 1]) / (knots[:, k:-1] - knots[:, : -k - 1])
            right = (knots[:, k + 1 :] - t) / (knots[:, k + 1 :] - knots[:, 1:-k])
            values = left * values[..., :-1] + right * values[..., 1:]
        return values

    def forward(self, x: Tensor) -> Tensor:
        spline = F.linear(self.splines(x).to(x.dtype).flatten(1), self.spline_weight.flatten(1))
        return F.linear(F.silu(x), self.base_weight) + spline


def _to_slots(gradients: tuple[Tensor, ...]) -> Tensor:
    activation, spline = gradients
    return torch.cat((spline.permute(1, 2, 0), activation.T[:, None]), dim=1)


def build(problem: Problem, compiled: bool = False) -> Layer:
    layer = MaterialisedKAN(problem)
    call = torch.compile(layer, dynamic=False) if compiled else layer
    return Layer(call, (layer.base_weight, layer.spline_weight), _to_slots)


PEERS = (
    Peer("efficient-kan style", "efficient-kan", build),
    Peer("efficient-kan style, compiled", "efficient-kan", partial(build, compiled=True), compiled=True),
)
