"""plot_history and animate: how a model was trained."""

from collections.abc import Sequence
from itertools import pairwise
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from fastkan.explain.plot import BEFORE, CURVE, INK, PALE, figure, plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class History(Protocol):
    """The part of what fastkan.fit returns that plot_history reads."""

    rows: list[dict[str, Any]]


def plot_history(history: History) -> "Figure":
    """Draws the errors of a training over its steps, and where its grid was refined.

    history: what fastkan.fit returns, or anything whose `rows` are dicts with step, grid_size, train and val, which may be None
    returns: a matplotlib Figure
    raises: ValueError for a history without rows; ImportError without matplotlib

    >>> import types, fastkan
    >>> rows = [{"step": s, "grid_size": 5 if s < 6 else 10, "train": 1 / (1 + s), "val": None} for s in range(10)]
    >>> figure = fastkan.explain.plot_history(types.SimpleNamespace(rows=rows))
    """
    rows = history.rows
    if not rows:
        raise ValueError("history: expected at least one row, received none")
    picture = figure(6.4, 3.8)
    axes = picture.subplots()
    axes.plot([row["step"] for row in rows], [row["train"] for row in rows], color=CURVE, label="train")
    checked = [row for row in rows if row["val"] is not None]
    if checked:
        axes.plot([row["step"] for row in checked], [row["val"] for row in checked], "--", color=BEFORE, label="validation")
    for last, row in pairwise(rows):
        if row["grid_size"] != last["grid_size"]:
            axes.axvline(row["step"], color=PALE, linewidth=0.8, zorder=0)
            text = f" G = {row['grid_size']}"
            axes.text(row["step"], 0.98, text, transform=axes.get_xaxis_transform(), va="top", fontsize=8, color=INK)
    axes.set(xlabel="step", ylabel="root mean square error", yscale="log")
    axes.legend(frameon=False, loc="lower left")
    picture.set_layout_engine("constrained")
    return picture


def animate(
    frames: Sequence["nn.Module | Figure"], path: str | PathLike[str], x: Tensor | None = None, *, frames_per_second: int = 8
) -> None:
    """Writes a GIF of models, as copies taken during training, or of figures of one size.

    x: samples [..., I] for the models' plots
    raises: ValueError for no frames or figures of several sizes; ImportError without matplotlib

    >>> import copy, tempfile, fastkan
    >>> model, path = fastkan.KAN([2, 1]), tempfile.mktemp(".gif")
    >>> fastkan.explain.animate([copy.deepcopy(model), model], path)
    """
    pictures = [plot(frame, x) if isinstance(frame, nn.Module) else frame for frame in frames]
    sizes = {tuple(picture.get_size_inches()) for picture in pictures}
    if len(sizes) != 1:
        raise ValueError(f"frames: expected pictures of one size, received {len(pictures)} of the sizes {sorted(sizes)}")
    from matplotlib.animation import PillowWriter

    writer = PillowWriter(fps=frames_per_second)
    with writer.saving(pictures[0], str(path), dpi=80):
        for picture in pictures:
            writer.fig = picture
            writer.grab_frame()
