"""The figures beside the JSON: time and memory of a training step, and learning curves."""

import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: no display needed

import matplotlib.pyplot as plt
import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.cases import BACKWARD
from benchmarks.cpu.report import METHOD, TRAINING_METHOD, conditions
from benchmarks.cpu.speed import LINEAR
from benchmarks.display import COLOURS, MEBIBYTE, by_time, digits, grouped

CURVES = {"MLP": "#999999", "wider MLP": COLOURS["efficient-kan"], "KAN (replace_linear)": COLOURS["fastkan"]}
SMALLEST_MEBIBYTES = 0.1  # below the resolution of the measurement
Entry = tuple[dict, dict | None, str]  # the peer's time row, the row to draw, its label


def _bars(axes: Axes, entries: list[Entry], unit: float, left: float) -> None:
    """Horizontal bars with their spread on a log axis from `left`; a missing row shows its label alone."""
    axes.set_xscale("log")
    furthest = left
    for place, (time, row, label) in enumerate(entries):
        end = left
        if row is not None:
            value = end = max(row["p50"] / unit, 2 * left)
            axes.barh(place, value - left, left=left, color=COLOURS[time["family"]], height=0.72)
            if row["p80"] is not None:
                end = row["p80"] / unit
                axes.plot([row["p20"] / unit, end], [place, place], color="black", linewidth=1.1)
        furthest = max(furthest, end)
        tone = "#777777" if row is None else "black"
        placed = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(label, (end, place), **placed, fontsize=7.5, color=tone)
    axes.set_xlim(left, 12 * furthest)  # room for the labels
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3, linewidth=0.5)
    axes.set_axisbelow(True)


def _time_entry(metrics: dict[str, dict]) -> Entry:
    time, relative = metrics["time"], metrics.get(f"time / {LINEAR}")
    if relative is None:
        return time, None, textwrap.shorten(f"{time['status']}: {time['reason']}", 70, placeholder=" …")
    return time, relative, f"{digits(relative['p50'])} ×    {digits(1e3 * time['p50'])} ms"


def _memory_entry(metrics: dict[str, dict]) -> Entry:
    time, memory = metrics["time"], metrics.get("peak memory")
    if memory is None:
        return time, None, "not measured"
    mebibytes = memory["p50"] / MEBIBYTE
    small = mebibytes < SMALLEST_MEBIBYTES
    return time, memory, f"below {SMALLEST_MEBIBYTES} MiB" if small else f"{digits(mebibytes)} MiB"


def _case(axes: tuple[Axes, Axes], title: str, rows: list[dict]) -> None:
    peers = list(by_time(rows).values())
    _bars(axes[0], [_time_entry(metrics) for metrics in peers], unit=1, left=0.5)
    _bars(axes[1], [_memory_entry(metrics) for metrics in peers], MEBIBYTE, left=SMALLEST_MEBIBYTES / 2)
    axes[0].axvline(1, color="black", linewidth=0.8, linestyle=":")
    names = [metrics["time"]["peer"] for metrics in peers]
    axes[0].set_yticks(range(len(names)), names, fontsize=8.5)
    for label in axes[0].get_yticklabels():
        label.set_fontweight("bold" if label.get_text().startswith("fastkan") else "normal")
    axes[1].set_yticks([])
    axes[0].set_title(title, loc="left", fontsize=10, fontweight="bold")


def _finish(figure: Figure, lines: list[str], path: Path) -> None:
    """Write the conditions under the panels, and the file."""
    note = "\n".join(textwrap.fill(line, 190) for line in lines)
    figure.text(0.01, -0.01, note, fontsize=7, va="top", color="#444444", linespacing=1.4)
    figure.savefig(path, dpi=160, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def plot_speed(document: dict, path: Path) -> None:
    """One row of panels per case: time and memory of forward+backward."""
    cases = grouped([row for row in document["speed"] if row["mode"] == BACKWARD], "case")
    heights = [len(grouped(rows, "peer")) for rows in cases.values()]
    size = (11, 0.22 * sum(heights) + 0.6 * len(cases) + 0.5)
    settings = {"height_ratios": heights, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(len(cases), 2, figsize=size, **settings)
    for pair, ((case,), rows) in zip(axes, cases.items(), strict=True):
        _case(tuple(pair), case, rows)
    axes[-1][0].set_xlabel("time of forward+backward / nn.Linear of the same size (log scale)", fontsize=9)
    axes[-1][1].set_xlabel("peak memory of forward+backward, MiB (log scale)", fontsize=9)
    there = {row["family"] for row in document["speed"]}
    families = [family for family in COLOURS if family in there]
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[family]) for family in families]
    names = [name if name != "baseline" else "baseline: another function" for name in families]
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=9)
    _finish(figure, [METHOD + " Black lines: 20 % to 80 % quantile.", conditions(document)], path)


def _curves(panel: Axes, records: list[dict]) -> None:
    for (model,), seeds in grouped(records, "model").items():
        curves = numpy.array([record["curves"]["test"] for record in seeds])
        mean, deviation = curves.mean(0), curves.std(0, ddof=1)
        epochs = numpy.arange(1, len(mean) + 1)
        result = numpy.mean([record["result"] for record in seeds])
        name = f"{model}, {seeds[0]['parameters']:,} parameters: {result:.3f}"
        panel.plot(epochs, mean, color=CURVES[model], label=name)
        low, high = mean - deviation, mean + deviation
        panel.fill_between(epochs, low, high, color=CURVES[model], alpha=0.2, linewidth=0)


def plot_training(document: dict, path: Path) -> None:
    """Test metric over epochs, mean and one standard deviation over seeds; the legend gives the result."""
    tasks = grouped(document["training"], "dataset", "metric")
    figure, axes = plt.subplots(1, len(tasks), figsize=(11, 3.8), squeeze=False, layout="constrained")
    for panel, ((dataset, metric), records) in zip(axes[0], tasks.items(), strict=True):
        _curves(panel, records)
        panel.set_title(dataset, loc="left", fontsize=10, fontweight="bold")
        panel.set_xlabel("epoch", fontsize=9)
        panel.set_ylabel(f"{metric} on the test rows", fontsize=9)
        # the first epochs would squeeze the rest
        panel.set_ylim(bottom=numpy.quantile([record["curves"]["test"] for record in records], 0.06))
        panel.legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.16))
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.3, linewidth=0.5)
    _finish(figure, [TRAINING_METHOD, conditions(document)], path)
