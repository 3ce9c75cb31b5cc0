"""Which of the grid sizes of a fit to keep: the training error falls with each, the error elsewhere does not."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

WORSE = 2  # grid sizes in a row that do not lower the held-back error by a tenth end a fit


class Done(NamedTuple):
    """A stage that has ended.

    val: the error on the held-back rows, if there are some. errors: theirs one by one, squared, if the loss is one of squares.
    """

    grid_size: int
    smooth: float
    state: dict[str, Tensor]
    val: float | None
    errors: Tensor | None


def gets_worse(done: Sequence[Done]) -> bool:
    """True if the last WORSE grid sizes have not lowered the held-back error by a tenth."""
    vals = [stage.val for stage in done if stage.val is not None]
    return len(vals) > WORSE and min(vals[-WORSE:]) > 0.9 * min(vals[:-WORSE])


def smallest_good(done: Sequence[Done], ended: bool) -> Done | None:
    """The smallest grid whose error on the held-back rows is within one standard error of the best.

    Without such rows it is the last one, if the fit has ended; None keeps the weights as they are. For a loss that is no sum of
    squares it is the best one.
    """
    if not done or done[-1].val is None:
        return done[-1] if done and ended else None
    best = min(done, key=lambda stage: stage.val or 0.0)
    if best.errors is None:
        return best
    best = min(done, key=lambda stage: stage.errors.mean().item())  # type: ignore[union-attr]
    for stage in done:
        more = stage.errors - best.errors  # type: ignore[operator]
        if stage is best or more.mean() <= more.std() / len(more) ** 0.5:
            return stage
    return best
