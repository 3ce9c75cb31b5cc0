"""How much every edge, node and input matters, and which inputs act together."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastkan.nn.edges import edge_deviations
from fastkan.nn.grid import normal_tensors
from fastkan.nn.kan import KAN
from fastkan.nn.stack import Stage, backward_scores, columns, double, in_features, ratio, rows, spread, walk


class Scores(NamedTuple):
    """What matters in a model, in float64.

    inputs: one score for each column of x
    nodes: one tensor for each layer of nodes: the inputs of the first layer, ..., the outputs
    edges: [I, O] for each KANLinear; 0 where an edge is gone
    """

    inputs: Tensor
    nodes: list[Tensor]
    edges: list[Tensor]


def _forward(traced: list[tuple[Stage, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    edges = [ratio(edge_deviations(stage.layer, x), x.std(0, correction=0)[:, None]) for stage, x in traced]
    into = [
        torch.stack([part.max() for part in edge.amax(0).split(stage.sizes)])
        for edge, (stage, _) in zip(edges, traced, strict=True)
    ]
    out_of = [edge.amax(1) for edge in edges]
    hidden = [torch.minimum(a, b) for a, b in zip(into[:-1], out_of[1:], strict=True)]
    return [out_of[0], *hidden, into[-1]], edges


KINDS: dict[str, Callable[[list[tuple[Stage, Tensor]]], tuple[list[Tensor], list[Tensor]]]] = {
    "backward": backward_scores,
    "forward": _forward,
}


@normal_tensors
def attribute(model: KAN, x: Tensor, kind: str = "backward") -> Scores:
    """Score every input, node and edge of a KAN on samples x [..., I] (Liu et al., arXiv:2408.10205, as in pykan).

    kind: "backward": shares of the outputs. Each output has the score 1 / O. An edge has its node's score times its standard
        deviation over that of the sum it is in, every factor of a product the product's score, and a node the sum over the
        edges out of it. Shares are of standard deviations, so they add up to more than 1.
        "forward": steepness. An edge has its standard deviation over that of its input; a node the smaller of the largest
        score into it and the largest out of it.
    returns: Scores. They come from the second moments of the splines, exactly, and in memory of order B (I + O).
    raises: TypeError for a model that is no KAN; ValueError for another kind, or an x without rows or with NaN or infinity

    >>> import torch, fastkan
    >>> net = fastkan.KAN([2, 1])
    >>> net[0].set_symbolic({(0, 0): ("x", (3, 0, 1, 0)), (1, 0): ("x", (1, 0, 1, 0))})
    >>> corners = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    >>> [round(score, 4) for score in fastkan.explain.attribute(net, corners).inputs.tolist()]
    [0.9487, 0.3162]
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, received {kind!r}")
    samples = rows(model, x)
    copied = double(model)
    nodes, edges = KINDS[kind](list(walk(copied, samples)))
    inputs = samples.new_zeros(in_features(copied))
    inputs[columns(copied)] = nodes[0]
    return Scores(inputs, nodes, edges)


def interaction(model: KAN, x: Tensor) -> Tensor:
    """Which inputs act together on samples x [..., I]: [I, I], the mean |d2y / dx_i dx_j| in standard deviations of x and y.

    The entry of two inputs is 0 where the model is a sum of functions of the one and of the other; the diagonal shows the
    curvature in each input. The derivatives are exact; the mean is over the rows and the outputs that vary.
    raises: as `attribute`; NotImplementedError for an activation without a second derivative

    >>> import torch, fastkan
    >>> net = fastkan.KAN([2, (0, 1)])
    >>> line, nothing = ("x", (1, 0, 1, -1)), ("0", (1, 0, 1, 0))  # the factors' biases are 1
    >>> net[0].set_symbolic({(0, 0): line, (1, 1): line, (0, 1): nothing, (1, 0): nothing})
    >>> corners = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    >>> fastkan.explain.interaction(net, corners)
    tensor([[0., 1.],
            [1., 0.]], dtype=torch.float64)
    """
    with torch.inference_mode(False), torch.enable_grad():
        samples = rows(model, x).clone().requires_grad_()
        y = double(model).requires_grad_(False)(samples)
        total = samples.new_zeros(samples.shape[1], samples.shape[1])
        moving = [(one, deviation) for one, deviation in zip(y.unbind(1), spread(y.detach()), strict=True) if deviation > 0]
        for one, deviation in moving:
            (slope,) = torch.autograd.grad(one.sum(), samples, create_graph=True)
            for i, along in enumerate(slope.unbind(1)):
                if along.requires_grad:
                    (second,) = torch.autograd.grad(along.sum(), samples, retain_graph=True, materialize_grads=True)
                    total[i] += second.abs().mean(0) / deviation
    scale = spread(samples.detach())
    return total * scale * scale[:, None] / max(len(moving), 1)
