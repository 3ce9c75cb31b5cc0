"""The tree of sums, products and functions that a function of several columns is, and its picture."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from fastkan.explain.plot import BEFORE, CURVE, FORMULA, INK, figure
from fastkan.formulas.structure import (
    Derivatives,
    added,
    checked_rows,
    derivatives,
    multiplied,
    plain,
    share,
    threshold_of,
    turned,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 10  # columns of one part whose subsets are all tried
SIGNS = {"add": " + ", "multiply": " * ", "sum": " + ", "function": ", "}


class Tree(NamedTuple):
    """A part of a function. Every part stands for an unknown function of what it shows, which is not written for inputs.

    kind: "input": of one column. "add": a sum of its children; "multiply": a product of them, plus a constant. "sum": a function
        of the sum of its children. "function": of its children, of which nothing more was found.
    columns: of x that are in it
    children: its parts
    residual: of the test that it rests on, see is_separable and is_symmetric; 0 for inputs and unknown functions of inputs

    As text, x0 * x1 + f(x2, x3) says g(x0) h(x1) + f(x2, x3).
    """

    kind: str
    columns: tuple[int, ...]
    children: tuple["Tree", ...] = ()
    residual: float = 0.0

    def __str__(self) -> str:
        return self.text([f"x{i}" for i in range(max(self.columns) + 1)])

    def text(self, names: Sequence[str]) -> str:
        """In these names of the columns."""
        if self.kind == "input":
            return names[self.columns[0]]
        parts = [child.text(names) for child in self.children]
        if self.kind == "multiply":
            parts = [f"({part})" if child.kind == "add" else part for part, child in zip(parts, self.children, strict=True)]
        joined = SIGNS[self.kind].join(parts)
        return joined if self.kind in ("add", "multiply") else f"f({joined})"


class _Search:
    """Finds the tree of a function [B, I] -> [B] on rows x."""

    def __init__(self, f: Callable[[Tensor], Tensor], x: Tensor, threshold: float) -> None:
        self.f, self.x, self.threshold = f, x, threshold

    def on(self, columns: tuple[int, ...], at: Tensor) -> Callable[[Tensor], Tensor]:
        """The function of some columns, the others being as in a row."""
        index = torch.tensor(columns, device=at.device)
        return lambda x: self.f(at.expand(len(x), -1).index_copy(1, index, x))

    def tree(self, columns: tuple[int, ...], at: Tensor) -> Tree:
        if len(columns) == 1:
            return Tree("input", columns)
        f = self.on(columns, at)
        d = derivatives(f, self.x[:, columns])
        for kind, parts, residual in (("add", *self._sums(d)), ("multiply", *self._products(d))):
            if len(parts) > 1:
                return self._made(kind, columns, parts, residual, d, at)
        blocks, residual = self._blocks(d)
        if len(blocks) == 2:
            third = self._third(f, self.x[:, columns], d, blocks)
            if third <= self.threshold:
                return self._flat(self._made("sum", columns, blocks, max(third, residual), d, at), columns, d)
        if len(blocks) == len(columns):
            return Tree("function", columns, tuple(Tree("input", (i,)) for i in columns))
        return self._made("function", columns, blocks, residual, d, at)

    def _made(
        self, kind: str, columns: tuple[int, ...], parts: list[list[int]], residual: float, d: Derivatives, at: Tensor
    ) -> Tree:
        """A node over parts, which are places in columns. Each is looked at where the function depends on it well."""
        children = []
        for part in parts:
            size = d.gradient[..., part].square().sum((1, 2))
            row = size.argsort()[int(0.75 * (len(size) - 1))]  # neither where it vanishes nor at a peak
            there = at.clone()
            there[list(columns)] = d.x[row]
            children.append(self.tree(tuple(columns[i] for i in part), there))
        return Tree(kind, columns, tuple(children), residual)

    # ---- tests

    def _parts(self, bound: Tensor) -> list[list[int]]:
        """Connected parts of a graph [I, I]; bool."""
        left, parts = set(range(len(bound))), []
        while left:
            part, new = set(), {min(left)}
            while new:
                part |= new
                new = {j for i in new for j in left if bound[i, j]} - part
            left -= part
            parts.append(sorted(part))
        return parts

    def _matrix(self, d: Derivatives, residual: Callable[[int, int], float]) -> Tensor:
        n = d.gradient.shape[-1]
        made = torch.zeros(n, n, dtype=torch.float64)
        for i, j in combinations(range(n), 2):
            made[i, j] = made[j, i] = residual(i, j)
        return made

    def _cut(self, matrix: Tensor) -> tuple[list[list[int]], float]:
        """The parts between which the residuals are small, and the largest of these."""
        parts = self._parts(matrix > self.threshold)
        between = [float(matrix[i, j]) for a, b in combinations(parts, 2) for i in a for j in b]
        return parts, max(between, default=0.0)

    def _sums(self, d: Derivatives) -> tuple[list[list[int]], float]:
        return self._cut(self._matrix(d, partial(added, d)))

    def _products(self, d: Derivatives) -> tuple[list[list[int]], float]:
        """Of the function less a constant, on which the pairs of different parts have to agree."""
        parts, largest = self._cut(self._matrix(d, lambda i, j: multiplied(d, i, j, self._offset(d, [(i, j)]))))
        count = 0
        while 1 < len(parts) != count:
            count = len(parts)
            offset = self._offset(d, [(i, j) for a, b in combinations(parts, 2) for i in a for j in b])
            parts, largest = self._cut(self._matrix(d, partial(multiplied, d, offset=offset)))
        return parts, largest

    def _offset(self, d: Derivatives, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """The constant c that makes (f - c) f_ij = f_i f_j best; 0 where the f_ij are hardly there."""
        f, second, slope = d.value[:, 0], d.second[:, 0], d.gradient[:, 0]
        mixed = torch.stack([second[:, i, j] for i, j in pairs])
        rest = torch.stack([f * second[:, i, j] - slope[:, i] * slope[:, j] for i, j in pairs])
        there = mixed.abs().mean() > self.threshold * f.std(correction=0)
        return torch.where(there, (mixed * rest).sum() / mixed.square().sum(), 0)

    def _blocks(self, d: Derivatives) -> tuple[list[list[int]], float]:
        """Groups through one number each, the largest first; columns in none are groups of their own."""
        n = d.gradient.shape[-1]
        sizes = range(n - 1, 1, -1) if n <= MOST else (n - 1, n - 2, 3, 2)
        blocks: list[list[int]] = []
        largest = 0.0
        for size in sizes:
            for group in combinations(range(n), size):
                if any(set(group) & set(block) for block in blocks):
                    continue
                residual = self._turned(d, group)
                if residual <= self.threshold:
                    blocks.append(list(group))
                    largest = max(largest, residual)
        taken = {i for block in blocks for i in block}
        return sorted([*blocks, *([i] for i in range(n) if i not in taken)]), largest

    def _turned(self, d: Derivatives, group: Sequence[int]) -> float:
        return turned(d, list(group), [i for i in range(d.gradient.shape[-1]) if i not in group])

    def _third(self, f: Callable[[Tensor], Tensor], x: Tensor, d: Derivatives, blocks: list[list[int]]) -> float:
        """What should vanish for a function of a sum over two blocks: the mixed derivative of log |f_i / f_j|."""
        strength = d.gradient[:, 0].abs().mean(0)
        i, j = (max(block, key=lambda k: float(strength[k])) for block in blocks)
        scale = x.std(0, correction=0)
        with torch.enable_grad():
            at = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(f(at).sum(), at, create_graph=True)
            (of_i,) = torch.autograd.grad(slope[:, i].sum(), at, create_graph=True)
            (of_j,) = torch.autograd.grad(slope[:, j].sum(), at, create_graph=True)
            mixed = of_i[:, j]
            third = torch.zeros_like(x)
            if mixed.requires_grad:
                (third,) = torch.autograd.grad(mixed.sum(), at, materialize_grads=True)
        a, b = scale[i], scale[j]
        f_i, f_j, f_ij = slope[:, i] * a, slope[:, j] * b, mixed * a * b
        f_ii, f_jj, f_iij, f_ijj = of_i[:, i] * a * a, of_j[:, j] * b * b, third[:, i] * a * a * b, third[:, j] * a * b * b
        rest = f_j**2 * (f_iij * f_i - f_ii * f_ij) - f_i**2 * (f_ijj * f_j - f_ij * f_jj)
        size = (f_i * f_j).square()
        finite = rest.isfinite() & size.isfinite()
        return share(rest[finite].detach().abs().mean()[None], size[finite].detach().mean()[None])

    def _flat(self, node: Tree, columns: tuple[int, ...], d: Derivatives) -> Tree:
        """f(f(a + b) + c) is f(a + b + c) where b and c act through one number, too."""
        for child in node.children:
            if child.kind == "sum":
                others = [one for one in node.children if one is not child]
                union = [columns.index(i) for one in (child.children[-1], *others) for i in one.columns]
                if self._turned(d, union) <= self.threshold:
                    return node._replace(children=tuple(sorted([*child.children, *others], key=lambda one: one.columns)))
        return node


# ---- what users call


def tree(f: Callable[[Tensor], Tensor], x: Tensor, noise: float | None = None) -> Tree:
    """The sums, products and inner functions that a function is made of, from samples (Liu et al., arXiv:2408.10205).

    f: a model, or a function of a float64 tensor [B, I] that autograd can differentiate three times, with one output
    x: samples [..., I]; parts are looked at with the other columns as they are in one of the rows
    noise: as for is_separable
    returns: Tree, which prints as a formula. Sums are looked for first, then products, functions of sums, and groups that act
        through one number.
    raises: TypeError, ValueError naming the argument

    >>> import torch, fastkan
    >>> x = 2 * torch.rand(200, 5) - 1
    >>> print(fastkan.formulas.tree(lambda x: x[:, 0] * x[:, 1] + torch.sqrt(2 + x[:, 2] ** 2 + x[:, 3].exp()) + x[:, 4], x))
    x0 * x1 + f(x2 + x3) + x4
    """
    threshold, call = threshold_of(f, noise), plain(f)
    rows = checked_rows(x)
    outputs = call(rows[:2]).shape[1]
    if outputs != 1:
        raise ValueError(f"f: expected one output, received {outputs}; pick one: lambda x: model(x)[:, 0]")
    return _Search(lambda x: call(x), rows, threshold).tree(tuple(range(rows.shape[1])), rows[len(rows) // 2])


COLOURS = {"input": INK, "add": CURVE, "multiply": BEFORE, "sum": FORMULA, "function": FORMULA}
LABELS = {"add": "+", "multiply": "\u00d7", "sum": "f(+)", "function": "f"}


def plot_tree(tree: Tree, names: Sequence[str] | None = None) -> "Figure":
    """Draws a tree: inputs below, + for sums, \u00d7 for products, f for an unknown function, f(+) for one of a sum.

    names: of the columns of x; None: x0, x1, ...
    returns: a matplotlib Figure
    raises: ValueError for too few names; ImportError without matplotlib

    >>> import torch, fastkan
    >>> found = fastkan.formulas.tree(lambda x: x[:, 0] * x[:, 1] + x[:, 2].exp(), torch.rand(100, 3))
    >>> figure = fastkan.formulas.plot_tree(found, ["mass", "speed", "height"])
    """
    count = max(tree.columns) + 1
    shown = [f"x{i}" for i in range(count)] if names is None else list(names)
    if len(shown) < count:
        raise ValueError(f"names: expected {count}, one a column of x, received {len(shown)}")
    leaves, depth = _leaves(tree), _depth(tree)
    widest = max(len(name) for name in shown)
    step = max(0.7, 0.11 * widest)  # inches between inputs
    picture = figure(max(2.4, step * len(leaves) + 0.6), 0.8 * depth + 0.8)
    axes = picture.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(-0.9, len(leaves) - 0.1), ylim=(-0.5, depth + 0.5))

    def draw(node: Tree) -> tuple[float, float]:
        if node.kind == "input":
            at = (float(leaves.index(node.columns[0])), 0.0)
            axes.text(*at, shown[node.columns[0]], ha="center", va="center", fontsize=11, color=INK)
            return at
        ends = [draw(child) for child in node.children]
        at = (sum(x for x, _ in ends) / len(ends), float(_depth(node)))
        for x, y in ends:
            axes.plot([at[0], x], [at[1], y + 0.22 * (y == 0)], color=INK, linewidth=1, zorder=0)
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": COLOURS[node.kind], "linewidth": 1.5}
        axes.text(*at, LABELS[node.kind], ha="center", va="center", fontsize=12, color=COLOURS[node.kind], bbox=box)
        return at

    draw(tree)
    return picture


def _leaves(tree: Tree) -> list[int]:
    """Columns in the order in which they are drawn."""
    return list(tree.columns) if tree.kind == "input" else [i for child in tree.children for i in _leaves(child)]


def _depth(tree: Tree) -> int:
    return 1 + max(map(_depth, tree.children)) if tree.children else 0
