"""KAN: a plain stack of KANLinear."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fastkan import ops
from fastkan.nn.grid import GridChange, Plan, change, check_finite, check_samples, normal_tensors, plan_refine, plan_update, take
from fastkan.nn.linear import KANLinear
from fastkan.nn.nodes import Products
from fastkan.nn.start import seeded
from fastkan.splines import knots as grids


def _is_bare(layer: nn.Module) -> bool:
    """True for a KANLinear with the forward of its class and without hooks."""
    if type(layer) is not KANLinear or layer._compiled_call_impl or "forward" in layer.__dict__:
        return False
    if layer.unset or layer._buffers["mask"] is not None or layer._buffers["scale"] is not None or layer.symbolic is not None:
        return False
    return not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def _counts(width: Any) -> tuple[int, int]:
    """(sums, products) of a layer of nodes."""
    pair = (width, 0) if isinstance(width, Integral) else width
    fine = isinstance(pair, Sequence) and len(pair) == 2
    if not fine or any(isinstance(n, bool) or not isinstance(n, int | Integral) or int(n) < 0 for n in pair):
        raise ValueError(f"widths: expected whole numbers of at least 0, or pairs (sums, products) of them, received {width!r}")
    return int(pair[0]), int(pair[1])


class KAN(nn.Sequential):
    """KANLinear layers widths[0] -> widths[1] -> ..., with nothing between them: the splines are the non-linearity.

    widths: at least two whole numbers. A pair (sums, products) gives a layer of nodes product nodes too.
    arity: how many factors a product node has. A factor is a bias that starts at 1 plus a sum of edges, so that one without
        edges drops out.
    seed: of the start; None: torch's global generator
    The other arguments go to every KANLinear; bias is off by default, as in pykan.
    raises: ValueError for fewer than two widths, or products of the inputs

    >>> import fastkan
    >>> fastkan.KAN([2, (5, 1), 1]).widths
    [2, (5, 1), 1]
    """

    def __init__(
        self,
        widths: Sequence[int | Sequence[int]],
        grid_size: int = 5,
        degree: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        activation: str = "silu",
        bias: bool = False,
        backend: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        arity: int = 2,
        seed: int | None = None,
    ) -> None:
        if len(widths) < 2:
            raise ValueError(f"widths: expected at least two layer widths, received {list(widths)}")
        nodes = [_counts(width) for width in widths]
        if nodes[0][1]:
            raise ValueError(f"widths: expected a whole number of inputs, received {widths[0]}")
        if isinstance(arity, bool) or not isinstance(arity, Integral) or arity < 2:
            raise ValueError(f"arity: expected a whole number of at least 2, received {arity!r}")
        modules: list[nn.Module] = []
        with seeded(seed, device):
            for (sums, products), (out_sums, out_products) in pairwise(nodes):
                inputs, outputs = sums + products, out_sums + arity * out_products
                own_bias = bias or out_products > 0
                layer = KANLinear(inputs, outputs, own_bias, grid_size, degree, grid_range, activation, backend, device, dtype)
                modules.append(layer)
                if out_products:
                    modules.append(Products(out_sums, (int(arity),) * out_products))
        super().__init__(*modules)
        self._start_factors()

    @torch.no_grad()
    def _start_factors(self) -> None:
        for layer, nodes in pairwise(self):
            if isinstance(nodes, Products) and layer.bias is not None:
                layer.bias[nodes.sums :] = 1

    def reset_parameters(self, seed: int | None = None) -> None:
        """Start again: every layer's reset_parameters, and factors of products at 1. Gone edges stay gone, and
        formulas keep their numbers.

        seed: None: torch's global generator
        """
        with seeded(seed, self.layers[0].weight.device):
            for layer in self.layers:
                layer.reset_parameters()
        self._start_factors()

    @property
    def layers(self) -> list[KANLinear]:
        """The layers of edges, without what stands between them."""
        return [module for module in self if isinstance(module, KANLinear)]

    @property
    def widths(self) -> list[int | tuple[int, int]]:
        """Inputs, then the nodes of each layer: a number, or (sums, products) where there are products."""
        found: list[int | tuple[int, int]] = [self.layers[0].in_features]
        for module in self:
            if isinstance(module, KANLinear):
                found.append(module.out_features)
            elif isinstance(module, Products):
                found[-1] = (module.sums, len(module.arities))
        return found

    def __getitem__(self, index: int | slice) -> Any:
        """A layer, or for a slice an nn.Sequential of the same layers (Sequential's own would call KAN.__init__ with them)."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    def forward(self, input: Tensor) -> Tensor:
        """x [..., I] -> [..., O]. The layers run one after another, in one call where fastkan.ops.stack can serve them."""
        y = None if torch.compiler.is_compiling() else self._in_one_call(input)
        return super().forward(input) if y is None else y

    def _in_one_call(self, x: Tensor) -> Tensor | None:
        weights: list[Any] = []
        knots: list[Any] = []
        biases: list[Any] = []
        settings: Any = None
        for layer in self._modules.values():
            if not _is_bare(layer) or settings not in (None, settings := (layer.degree, layer.activation, layer.backend)):
                return None
            weights.append(layer._parameters.get("weight"))
            knots.append(layer._buffers.get("knots"))
            biases.append(layer._parameters.get("bias"))
        return None if settings is None else ops.stack(x, weights, knots, biases, *settings)

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[KANLinear]: ...

    @normal_tensors
    def update_grid(self, x: Tensor, eps: float = 0.02, margin: float = 0.01) -> list[GridChange]:
        """Move every layer's grid to where its inputs are for the samples x [..., I], layer by layer (see
        KANLinear.update_grid). All layers change or, where one cannot, none.

        returns: what that changed, one a KANLinear. Modules of other kinds in between are called as they are.
        """
        plans: list[tuple[KANLinear, Plan, GridChange]] = []
        for layer in self:
            if not isinstance(layer, KANLinear):
                x = layer(x)
                continue
            samples = check_samples(x, layer.in_features)
            plan = plan_update(layer, samples, eps, margin)
            plans.append((layer, plan, change(layer, plan, samples)))
            x = functional_call(layer, plan.tensors(), (x.to(layer.weight.dtype),))
        return _take_all(plans)

    @normal_tensors
    def refine(self, grid_size: int, x: Tensor | None = None) -> list[GridChange]:
        """Change every layer's number of grid intervals and refit (see KANLinear.refine). All layers change or, where one cannot,
        none.

        returns: what that changed, one a KANLinear
        """
        plans: list[tuple[KANLinear, Plan, GridChange]] = []
        for layer in self:
            samples = None
            if isinstance(layer, KANLinear):
                samples = None if x is None else check_samples(x, layer.in_features)
                plan = plan_refine(layer, grid_size)
                plans.append((layer, plan, change(layer, plan, samples)))
            if x is not None:
                x = layer(x.to(layer.weight.dtype) if isinstance(layer, KANLinear) else x)
        return _take_all(plans)

    # What stands on this layer is reached by its public name, when it is called: arrows between folders point one way.

    def fit(self, *args: Any, **settings: Any) -> Any:
        """`fastkan.fit` of this model."""
        import fastkan

        return fastkan.fit(self, *args, **settings)

    def sparsify(self, *args: Any, **settings: Any) -> Any:
        """`fastkan.sparsify` of this model, which stays as it is."""
        import fastkan

        return fastkan.sparsify(self, *args, **settings)

    def prune(self, *args: Any, **settings: Any) -> Any:
        """`fastkan.prune` of this model, which stays as it is."""
        import fastkan

        return fastkan.prune(self, *args, **settings)

    def plot(self, *args: Any, **settings: Any) -> Any:
        """`fastkan.plot` of this model."""
        import fastkan

        return fastkan.plot(self, *args, **settings)

    @normal_tensors
    def coverage(self, x: Tensor) -> list[float]:
        """Share of each layer's input values that lie inside its grid, from 0 to 1; outside the splines fade to 0.

        x: samples [..., I]
        returns: one share a KANLinear
        raises: TypeError or ValueError for samples that are none of this model, no rows, NaN or infinity

        >>> import torch, fastkan
        >>> fastkan.KAN([1, 1]).coverage(torch.tensor([[-2.0], [-0.5], [0.5], [1.0]]))
        [0.75]
        """
        shares = []
        for layer in self:
            if isinstance(layer, KANLinear):
                samples = check_samples(x, layer.in_features)
                check_finite(samples)
                shares.append(1 - grids.outside(samples, layer.knots.double(), layer.degree))
                x = x.to(layer.weight.dtype)
            x = layer(x)
        return shares


def _take_all(plans: list[tuple[KANLinear, Plan, GridChange]]) -> list[GridChange]:
    for layer, plan, _ in plans:
        take(layer, plan)
    return [changed for *_, changed in plans]
