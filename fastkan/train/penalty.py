"""pykan's regularisation, for those who compare; sparsify finds structures more often."""

import torch
from torch import Tensor, nn

from fastkan.nn import KAN, KANLinear
from fastkan.nn.edges import edge_deviations
from fastkan.nn.stack import backward_scores, walk
from fastkan.train.checks import check_finite, check_rows

METRICS = ("edge_forward_spline_n", "edge_forward_spline_u", "edge_forward_sum", "edge_backward", "node_backward")
RANGE = 0.1  # pykan adds it to the deviation of an input
INSIDE = 1e-4  # and this to what it takes the logarithm of


class EdgePenalty:
    """lamb times pykan's sum of sizes of edges, of their entropy, and of coefficients; a `penalty` for fit.

    x: rows [B, I] on which the sizes are taken
    lamb: weight of the whole. l1, entropy, coef, coefdiff: weights of its parts (pykan's lamb_l1, ...)
    metric: the size of an edge: edge_forward_spline_n, its standard deviation over that of its input plus 0.1, formulas left
        out; edge_forward_sum, the same with them, and unlike pykan's it has a gradient; edge_forward_spline_u, its standard
        deviation; edge_backward, the scores of edges of fastkan.explain.attribute; node_backward, those of nodes, which are not
        pykan's node_attribute_scores
    raises: ValueError for an unknown metric or a negative weight

    >>> import torch, fastkan
    >>> x = torch.rand(200, 2) * 2 - 1
    >>> model = fastkan.KAN([2, 3, 1], seed=0)
    >>> penalty = fastkan.train.EdgePenalty(x, lamb=1e-2)
    >>> history = fastkan.fit(model, x, x[:, :1] ** 2, optimizer="adamw", steps=20, penalty=penalty)
    """

    def __init__(
        self, x: Tensor, lamb: float, l1: float = 1.0, entropy: float = 2.0, coef: float = 0.0, coefdiff: float = 0.0,
        metric: str = "edge_forward_spline_n",
    ) -> None:  # fmt: skip
        weights = {"lamb": lamb, "l1": l1, "entropy": entropy, "coef": coef, "coefdiff": coefdiff}
        for name, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
                raise ValueError(f"{name}: expected a finite number of at least 0, received {weight!r}")
        if metric not in METRICS:
            raise ValueError(f"metric: expected one of {', '.join(METRICS)}, received {metric!r}")
        if not isinstance(x, Tensor) or x.ndim != 2 or len(x) < 2:
            raise ValueError(f"x: expected at least two rows [B, I], received {getattr(x, 'shape', type(x).__name__)}")
        check_finite("x", x)
        self.x, self.lamb, self.l1, self.entropy, self.coef, self.coefdiff = x, lamb, l1, entropy, coef, coefdiff
        self.metric = metric

    def __call__(self, model: nn.Module) -> Tensor:
        if not isinstance(model, KAN):
            raise TypeError(f"model: expected a fastkan.KAN, received {type(model).__name__}")
        check_rows("x", self.x, model)
        traced = [(stage, x) for stage, x in walk(model, self.x)]
        total = self.x.new_zeros(())
        for sizes in self._sizes(traced):
            total = total + self.l1 * sizes.sum() + self.entropy * _entropies(sizes)
        if self.coef or self.coefdiff:
            for stage, _ in traced:
                splines = stage.layer.weight[:, :-1]
                total = total + self.coef * splines.abs().mean(2).sum() + self.coefdiff * splines.diff(dim=1).abs().mean(2).sum()
        return self.lamb * total

    def _sizes(self, traced: list) -> list[Tensor]:
        """[O, I] a layer, or [1, N] a layer of nodes."""
        if self.metric in ("edge_backward", "node_backward"):
            nodes, edges = backward_scores(traced)
            return [edge.T for edge in edges] if self.metric == "edge_backward" else [node[None] for node in nodes]
        sizes = []
        for stage, x in traced:
            unbiased = (len(x) / (len(x) - 1)) ** 0.5
            size = unbiased * _deviations(stage.layer, x, formulas=self.metric != "edge_forward_spline_n")
            if self.metric != "edge_forward_spline_u":
                size = size / (x.std(0) + RANGE)[:, None]
            sizes.append(size.T)
        return sizes


def _deviations(layer: KANLinear, x: Tensor, formulas: bool) -> Tensor:
    deviations = edge_deviations(layer, x)
    if not formulas and layer.symbolic is not None:
        named = torch.zeros_like(deviations, dtype=torch.bool)
        for i, o, _ in layer.symbolic.edges:
            named[i, o] = True
        deviations = torch.where(named, 0, deviations)
    return deviations


def _entropies(sizes: Tensor) -> Tensor:
    """Of the shares in every row and in every column, each a mean."""
    total = sizes.new_zeros(())
    for dim in (1, 0):
        shares = sizes / (sizes.sum(dim, keepdim=True) + 1)
        total = total - (shares * (shares + INSIDE).log2()).sum(dim).mean()
    return total
