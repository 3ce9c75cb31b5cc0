"""The figure beside the JSON: speed of everyone against the cuBLAS product of equal FLOPs, forward and forward+backward."""

import textwrap
from pathlib import Path

from benchmarks.cases import BACKWARD, FORWARD
from benchmarks.display import COLOURS, by_time, digits, grouped
from benchmarks.gpu.plan import BFLOAT16, GEMM_SHARE, IEEE
from benchmarks.gpu.race import COLD, WARM
from benchmarks.gpu.tables import conditions

LEFT = 1e-3
DRAWN = (BFLOAT16, IEEE)  # the other precisions are in the tables


def _panel(axes, rows: list[dict]) -> None:
    """A bar for every peer with a time, a dot for its cold speed, fastest first; the others' names in grey."""
    peers = {name: found for name, found in by_time(rows).items() if not found[WARM]["reason"].startswith("left out")}
    axes.set_xscale("log")
    for place, (name, metrics) in enumerate(peers.items()):
        time, speed = metrics[WARM], metrics.get(GEMM_SHARE)
        if time["p50"] is None or speed is None:
            label = time["status"] if time["p50"] is None else f"{digits(1e6 * time['p50'])} us"
            axes.annotate(f"{name}: {label}", (LEFT, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)
            continue
        value = end = max(speed["p50"], 1.1 * LEFT)
        axes.barh(place, value - LEFT, left=LEFT, height=0.7, color=COLOURS[time["family"]])
        if cold := metrics.get(GEMM_SHARE + COLD.removeprefix(WARM)):
            axes.plot(max(cold["p50"], LEFT), place, "o", color="black", markersize=2.5)
            end = max(end, cold["p50"])
        label = f"{name}   {speed['p50']:.2g} x, {digits(1e6 * time['p50'])} us"
        axes.annotate(label, (end, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlim(LEFT, 3e3)  # room for the labels
    axes.set_ylim(len(peers) - 0.4, -0.6)
    axes.set_yticks([])
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right", "left"]].set_visible(False)


def draw(document: dict, path: Path) -> None:
    """One row of panels per group in DRAWN that has times; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")  # files only: no display needed
    import matplotlib.pyplot as plt

    timed = {
        (case, dtype): rows
        for (case, dtype), rows in grouped(document["rows"], "case", "dtype").items()
        if dtype in DRAWN and any(row["p50"] and row["mode"] in (FORWARD, BACKWARD) for row in rows)
    }
    if not timed:
        return
    size = (11, 1.9 * len(timed) + 0.8)
    figure, axes = plt.subplots(len(timed), 2, figsize=size, squeeze=False, layout="constrained")
    for pair, ((case, dtype), rows) in zip(axes, timed.items(), strict=True):
        for panel, mode in zip(pair, (FORWARD, BACKWARD), strict=True):
            _panel(panel, [row for row in rows if row["mode"] == mode])
            panel.set_title(f"{case}, {dtype}: {mode}", loc="left", fontsize=9, fontweight="bold")
    for panel in axes[-1]:
        panel.set_xlabel("speed / cuBLAS product of equal FLOPs (log scale; dots: cold L2)", fontsize=8)
    note = "\n".join(textwrap.fill(line, 190) for line in (document["method"], conditions(document)))
    figure.text(0.01, -0.01, note, fontsize=7, va="top", color="#444444")
    figure.savefig(path, dpi=120, bbox_inches="tight", facecolor="white")
    plt.close(figure)
