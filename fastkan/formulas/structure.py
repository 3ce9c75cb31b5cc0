"""Whether a function is a sum or a product of functions of fewer columns, or depends on some of them through one number."""

import copy
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fastkan.nn.grid import check_samples

NOISE = 1e-3  # of a model, which is a good fit
FACTOR = 50.0  # from a fit's error to a residual: 1 to 62 were measured on 5 and 10 cells, more on 20 (where errors were 1e-5)
ROUNDING = 1e-9
MODES = ("add", "multiply")
THROUGH: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda x: x.sum(1),
    "difference": lambda x: x[:, 0] - x[:, 1],
    "product": lambda x: x.prod(1),
    "quotient": lambda x: x[:, 0] / x[:, 1],
    "norm": lambda x: x.square().sum(1).sqrt(),
}


class Structure(NamedTuple):
    """An answer, true or false as its `found` is, and what it rests on.

    residual: what should vanish, relative to the function's size; found: whether it is at most the threshold
    rows: how many samples counted; those where the function or its derivatives are not finite do not
    """

    found: bool
    residual: float
    threshold: float
    rows: int

    def __bool__(self) -> bool:
        return self.found


class Derivatives(NamedTuple):
    """At rows x [B, I]: value [B, O], gradient [B, O, I] and second derivatives [B, O, I, I], in the columns' deviations."""

    x: Tensor
    value: Tensor
    gradient: Tensor
    second: Tensor


# ---- derivatives


def plain(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function [B, I] -> [B, O] in float64 of a model or a function, whose answer may be [B]."""
    if isinstance(f, nn.Module):
        f = copy.deepcopy(f).double().eval().requires_grad_(False)
    if not callable(f):
        raise TypeError(f"f: expected a model or a function of a tensor, received {type(f).__name__}")
    call = f

    def made(x: Tensor) -> Tensor:
        y = call(x)
        if not isinstance(y, Tensor) or y.shape[:1] != x.shape[:1] or y.ndim > 2:
            raise ValueError(f"f: expected one that maps {list(x.shape)} to [{len(x)}] or [{len(x)}, O], received {y!r:.60}")
        return y[:, None] if y.ndim == 1 else y

    return made


def checked_rows(x: Tensor, used: Sequence[int] | None = None) -> Tensor:
    """Samples [..., I] as float64 [B, I] without rows of NaN or infinity; ValueError if a column that is used does not vary."""
    if not isinstance(x, Tensor) or not x.ndim:
        raise TypeError(f"x: expected a tensor [..., I], received {type(x).__name__}")
    samples = check_samples(x, x.shape[-1])
    samples = samples[samples.isfinite().all(1)]
    if len(samples) < 2:
        raise ValueError(f"x: expected at least two finite rows, received {len(samples)}")
    still = [i for i in used or range(samples.shape[1]) if not samples[:, i].std() > 0]
    if still:
        raise ValueError(f"x: expected columns that vary, received the same number throughout in {still}")
    return samples


def derivatives(f: Callable[[Tensor], Tensor], x: Tensor) -> Derivatives:
    """Of a function [B, I] -> [B, O], exact, at the rows of x where all of it is finite; ValueError for fewer than two."""
    scale = x.std(0, correction=0)
    with torch.inference_mode(False), torch.enable_grad():
        at = x.clone().requires_grad_()
        y = f(at)
        gradients, seconds = [], []
        for one in y.unbind(1):
            slope = _grad(one, at, True)
            gradients.append(slope)
            seconds.append(torch.stack([_grad(along, at, False) for along in slope.unbind(1)], dim=1))
    value = y.detach()
    gradient = torch.stack(gradients, dim=1).detach() * scale
    second = torch.stack(seconds, dim=1) * scale[:, None] * scale
    finite = torch.cat([value, gradient.flatten(1), second.flatten(1)], dim=1).isfinite().all(1)
    if int(finite.sum()) < 2:
        raise ValueError(f"x: expected at least two rows with finite derivatives, received {int(finite.sum())}")
    return Derivatives(x[finite], value[finite], gradient[finite], second[finite])


def _grad(y: Tensor, x: Tensor, again: bool) -> Tensor:
    """The derivatives of y [B], whose rows depend on their own rows of x; 0 where it does not depend on x."""
    if not y.requires_grad:
        return torch.zeros_like(x)
    (made,) = torch.autograd.grad(y.sum(), x, create_graph=again, retain_graph=True, materialize_grads=True)
    return made if again else made.detach()


# ---- what should vanish


def share(part: Tensor, whole: Tensor) -> float:
    """The largest of the ratios of two tensors [O]; 0 for 0 / 0."""
    return float(torch.where(part > 0, part / whole, 0).max())


def added(d: Derivatives, i: int, j: int) -> float:
    """The mean |f_ij| relative to f's standard deviation."""
    return share(d.second[..., i, j].abs().mean(0), d.value.std(0, correction=0))


def multiplied(d: Derivatives, i: int, j: int, offset: Tensor | float = 0.0) -> float:
    """The mean |f f_ij - f_i f_j| of f less an offset, relative to its root mean square times its standard deviation."""
    f = d.value - offset
    rest = f * d.second[..., i, j] - d.gradient[..., i] * d.gradient[..., j]
    return share(rest.abs().mean(0), f.square().mean(0).sqrt() * d.value.std(0, correction=0))


def wedge(u: Tensor, v: Tensor) -> Tensor:
    """The area between vectors [..., n] -> [...]; 0 where they are parallel."""
    outer = u[..., :, None] * v[..., None, :]
    return (outer - outer.mT).square().sum((-2, -1)).div(2).sqrt()


def turned(d: Derivatives, group: Sequence[int], others: Sequence[int]) -> float:
    """How much the gradient towards a group turns with the other columns, at most; where it is small it counts little."""
    u = d.gradient[..., group]
    size = u.square().sum(-1).mean(0)
    return max(share(wedge(u, d.second[..., group, r]).mean(0), size) for r in others)


# ---- what users call


def threshold_of(f: object, noise: float | None) -> float:
    """What a residual may be for a function that is known up to this noise."""
    if noise is None:
        noise = NOISE if isinstance(f, nn.Module) else 0.0
    if isinstance(noise, bool) or not isinstance(noise, Real) or not 0 <= float(noise) < 1:
        raise ValueError(f"noise: expected a share from 0 to 1, received {noise!r}")
    return ROUNDING + FACTOR * float(noise)


def _columns(name: str, group: Sequence[int], width: int) -> list[int]:
    fine = all(isinstance(i, Integral) and not isinstance(i, bool) and 0 <= i < width for i in group)
    if not fine or not len(group) or len(set(group)) < len(group):
        raise ValueError(f"{name}: expected columns of x from 0 to {width - 1}, each once, received {list(group)}")
    return [int(i) for i in group]


def is_separable(
    f: Callable[[Tensor], Tensor], x: Tensor, groups: Sequence[Sequence[int]], mode: str = "add", noise: float | None = None
) -> Structure:
    """Whether a function is a sum or a product of functions of groups of columns (Liu et al., arXiv:2408.10205).

    f: a model, or a function of a float64 tensor [B, I] that autograd can differentiate twice, to [B] or [B, O]
    x: samples [..., I]
    groups: of columns, at least two. Columns that are in none may be in any factor or term.
    mode: "add": f_ij = 0 for columns i and j of different groups. "multiply": f f_ij = f_i f_j, which holds where f is 0, too.
    noise: the error of f relative to its standard deviation, as of a fit. The threshold is 50 noise + 1e-9, because second
        derivatives are that much less exact. None: 1e-3 for a model, 0 for a function. Fine grids make derivatives worse: test
        before you refine.
    returns: Structure. The residual is the mean over rows of what should be 0, in standard deviations of the columns, relative
        to f's standard deviation (for "multiply" times f's root mean square); the largest over pairs and outputs.
    raises: TypeError, ValueError naming the argument

    >>> import torch, fastkan
    >>> x = torch.rand(100, 3)
    >>> fastkan.formulas.is_separable(lambda x: x[:, 0] * x[:, 1] + x[:, 2].exp(), x, [[0, 1], [2]]).found
    True
    >>> fastkan.formulas.is_separable(lambda x: x[:, 0] * x[:, 1] + x[:, 2].exp(), x, [[0], [1]]).found
    False
    """
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, received {mode!r}")
    threshold, width = threshold_of(f, noise), x.shape[-1]
    parts = [_columns("groups", group, width) for group in groups]
    used = [i for part in parts for i in part]
    if len(parts) < 2 or len(set(used)) < len(used):
        raise ValueError(f"groups: expected at least two without a column in common, received {groups!r}")
    d = derivatives(plain(f), checked_rows(x, used))
    residual = added if mode == "add" else multiplied
    pairs = [(i, j) for k, part in enumerate(parts) for other in parts[k + 1 :] for i in part for j in other]
    largest = max(residual(d, i, j) for i, j in pairs)
    return Structure(largest <= threshold, largest, threshold, len(d.value))


def is_symmetric(
    f: Callable[[Tensor], Tensor],
    x: Tensor,
    group: Sequence[int],
    through: str | Callable[[Tensor], Tensor] | None = None,
    noise: float | None = None,
) -> Structure:
    """Whether a function depends on a group of columns only through one number h (Liu et al., arXiv:2408.10205).

    f, x, noise: as for is_separable
    group: at least two columns
    through: h itself: "sum", "product", "norm" (of the group), "difference", "quotient" (of two), or a function of a tensor
        [B, columns of the group] to [B]. None: any h, whatever the other columns are; the group must leave some.
    returns: Structure. Without h the residual is how much the direction of the gradient towards the group turns with each other
        column, in its standard deviations; with h the angle between that gradient and h's. Rows count by the gradient's size.
    raises: TypeError, ValueError naming the argument

    >>> import torch, fastkan
    >>> x = torch.rand(100, 3)
    >>> fastkan.formulas.is_symmetric(lambda x: torch.sin(x[:, 0] - x[:, 1]) * x[:, 2], x, [0, 1]).found
    True
    >>> fastkan.formulas.is_symmetric(lambda x: torch.sin(x[:, 0] - x[:, 1]) * x[:, 2], x, [0, 1], through="sum").found
    False
    """
    threshold, width = threshold_of(f, noise), x.shape[-1]
    columns = _columns("group", group, width)
    others = [i for i in range(width) if i not in columns]
    if len(columns) < 2:
        raise ValueError(f"group: expected at least two columns, received {columns}")
    if through is None and not others:
        raise ValueError("group: expected one that leaves other columns, or through=, received all columns")
    if through is not None and not callable(through) and through not in THROUGH:
        raise ValueError(f"through: expected one of {', '.join(THROUGH)} or a function, received {through!r}")
    if through in ("difference", "quotient") and len(columns) != 2:
        raise ValueError(f"group: expected two columns with through={through!r}, received {columns}")
    rows = checked_rows(x, columns)
    if through is None:
        moving = [i for i in others if rows[:, i].std() > 0]
        d = derivatives(plain(f), rows)
        residual = turned(d, columns, moving) if moving else 0.0
        return Structure(residual <= threshold, residual, threshold, len(d.value))
    h = plain(through if callable(through) else THROUGH[through])
    f = plain(f)
    both = derivatives(lambda x: torch.cat([h(x[:, columns]), f(x)], dim=1), rows)
    w, u = both.gradient[:, :1, columns], both.gradient[:, 1:, columns]
    residual = share(wedge(u, w).mean(0), (u.norm(dim=-1) * w.norm(dim=-1)).mean(0))
    return Structure(residual <= threshold, residual, threshold, len(both.value))
