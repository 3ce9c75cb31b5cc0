"""Edges that are a formula instead of a spline."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastkan.nn.functions import function


class SymbolicEdges(nn.Module):
    """sum over edges (i, o) of c f(a x[i] + b) + d in output o. What is not listed costs nothing.

    edges: (input, output, name in fastkan.nn.FUNCTIONS) one an edge, each pair once
    Parameter: affine [E, 4], the a, b, c, d of every edge
    """

    affine: Tensor
    inputs: Tensor
    spread: Tensor

    def __init__(self, edges: Sequence[tuple[int, int, str]], affine: Tensor, out_features: int) -> None:
        super().__init__()
        for *_, name in edges:
            function(name)
        self.edges = sorted(edges, key=lambda edge: edge[2])
        order = [list(edges).index(edge) for edge in self.edges]
        self.affine = nn.Parameter(affine[order].clone())
        inputs, outputs = [edge[0] for edge in self.edges], [edge[1] for edge in self.edges]
        self.register_buffer("inputs", torch.tensor(inputs, device=affine.device), persistent=False)
        # a product with zeros and ones adds edges of one output in a fixed order, which index_add does not
        spread = affine.new_zeros(len(edges), out_features)
        spread[torch.arange(len(edges)), torch.tensor(outputs)] = 1
        self.register_buffer("spread", spread, persistent=False)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """x [..., I] -> [..., O]. added: [..., E, 4], what every row adds to affine."""
        a, b, c, d = (self.affine if added is None else self.affine + added).unbind(-1)
        return (c * self.values(x.index_select(-1, self.inputs) * a + b) + d) @ self.spread

    def values(self, z: Tensor) -> Tensor:
        """f(z) of every edge: z [..., E] -> [..., E]."""
        names = [edge[2] for edge in self.edges]
        counts = {name: names.count(name) for name in names}
        parts = z.split(list(counts.values()), dim=-1)
        return torch.cat([function(name).call(part) for name, part in zip(counts, parts, strict=True)], dim=-1)

    def extra_repr(self) -> str:
        return ", ".join(f"{i}->{o}: {name}" for i, o, name in self.edges)
