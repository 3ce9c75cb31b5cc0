"""What stands between the layers of a KAN: product nodes, and the choice of input columns. No parameters."""

import functools
import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Products(nn.Module):
    """Nodes from a layer's outputs: the first `sums` are passed on, and each product node multiplies the next of its `arities`
    (Liu et al., arXiv:2408.10205).

    >>> import torch
    >>> from fastkan.nn import Products
    >>> Products(1, (2,))(torch.tensor([[5.0, 2.0, 3.0]]))
    tensor([[5., 6.]])
    """

    def __init__(self, sums: int, arities: Sequence[int]) -> None:
        super().__init__()
        self.sums, self.arities = sums, tuple(arities)

    @property
    def in_features(self) -> int:
        return self.sums + sum(self.arities)

    @property
    def out_features(self) -> int:
        return self.sums + len(self.arities)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., sums + sum(arities)] -> [..., sums + products]."""
        sums, *factors = x.split([self.sums, *self.arities], dim=-1)
        # not torch.prod, whose second derivative sorts out zeros one by one
        products = [functools.reduce(operator.mul, factor.unbind(-1)) for factor in factors]
        return torch.cat((sums, torch.stack(products, dim=-1)), dim=-1) if products else sums

    def extra_repr(self) -> str:
        return f"sums={self.sums}, arities={self.arities}"


class Columns(nn.Module):
    """Picks columns of x, so that a model without some inputs still takes what it took before.

    index: which of in_features columns, in order
    """

    index: Tensor

    def __init__(self, index: Sequence[int] | Tensor, in_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.register_buffer("index", torch.as_tensor(index, dtype=torch.long))

    @property
    def out_features(self) -> int:
        return len(self.index)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] -> [..., len(index)]."""
        return x.index_select(-1, self.index)

    def extra_repr(self) -> str:
        return f"index={self.index.tolist()}, in_features={self.in_features}"
