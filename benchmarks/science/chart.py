"""Poisson's equation: errors over CPU seconds, the median of the seeds and their range."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no display needed

import matplotlib.pyplot as plt
import numpy

from benchmarks.display import COLOURS, grouped

STYLES = {  # of a peer and a degree
    ("fastkan", 3): ("#56B4E9", "fastkan, cubic"),
    ("fastkan", 5): (COLOURS["fastkan"], "fastkan, degree 5"),
    ("pykan", 3): (COLOURS["pykan"], "pykan, cubic"),
    ("MLP 4 x 100", 0): ("#999999", "MLP 4 × 100, Adam and L-BFGS"),
}


def draw(results: list[dict], path: Path) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(9.5, 3.8), sharex=True)
    longest = {key: max(same, key=lambda row: len(row["grids"]))["grids"] for key, same in _methods(results).items()}
    for key, same in _methods(results).items():
        curves = [row["curve"] for row in same if row["grids"] == longest[key]]
        colour, label = STYLES[key]
        times = numpy.geomspace(max(curve[0][0] for curve in curves) + 0.05, min(curve[-1][0] for curve in curves), 60)
        for panel, column in zip(panels, (1, 2), strict=True):
            values = numpy.array([_best_so_far(curve, column, times) for curve in curves])
            panel.fill_between(times, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
            panel.plot(times, numpy.median(values, axis=0), color=colour, label=label)
    for panel, title in zip(panels, ("mean square error of u", "mean square error of its gradient"), strict=True):
        panel.set(xscale="log", yscale="log", xlabel="CPU seconds", title=title)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.3, linewidth=0.5)
    panels[0].legend(frameon=False, fontsize=8.5)
    figure.tight_layout()
    figure.savefig(path, dpi=160, facecolor="white")
    plt.close(figure)


def _methods(results: list[dict]) -> dict[tuple, list[dict]]:
    return grouped(results, "peer", "degree")


def _best_so_far(curve: list[list[float]], column: int, times: numpy.ndarray) -> numpy.ndarray:
    seconds, errors = numpy.array(curve)[:, 0], numpy.minimum.accumulate(numpy.array(curve)[:, column])
    return errors[numpy.clip(numpy.searchsorted(seconds, times, side="right") - 1, 0, None)]
