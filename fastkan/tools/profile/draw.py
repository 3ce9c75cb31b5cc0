"""The roofline as a picture: what this machine can do at each arithmetic intensity, and where every operation stands."""

from pathlib import Path
from typing import Any

from fastkan.tools.profile.report import digits, headline, percent

# Okabe and Ito's palette and different marks: told apart by colour-blind readers and in grey
STYLES = {
    "forward": ("#0072B2", "o"),
    "fused_gradients": ("#D55E00", "s"),
}
GIGA = 1e9


def _draw_roofs(axes: Any, flops: float, bandwidths: list[float], left: float, right: float) -> None:
    """One slanted line for each level of memory that an operation's tensors are in."""
    note: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9.5}
    for bandwidth in bandwidths:
        ridge = flops / bandwidth
        axes.plot([left, ridge, right], [left * bandwidth, flops, flops], color="black", linewidth=1.8)
        axes.annotate(f"{digits(bandwidth)} GB/s", (ridge, flops), xytext=(-16, -8), ha="right", **note)
    axes.annotate(f"{digits(flops)} GFLOP/s, the measured peak", (right, flops), xytext=(-4, 6), ha="right", **note)


def roofline(document: dict[str, Any], path: Path) -> None:
    """Draw a document of profile.json, with the FLOPs that were done; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 6), layout="constrained")
    axes = figure.subplots()
    flops, rows = document["peaks"]["flops"] / GIGA, document["operations"]
    bandwidths = sorted({row["bandwidth"] / GIGA for row in rows.values()})
    intensities = [*(flops / bandwidth for bandwidth in bandwidths), *(row["done"]["intensity"] for row in rows.values())]
    left, right = min(intensities) / 30, max(intensities) * 8
    _draw_roofs(axes, flops, bandwidths, left, right)
    for name, row in rows.items():
        (colour, mark), work = STYLES[name], row["done"]
        intensity, reached, roof = work["intensity"], work["flops_per_second"] / GIGA, work["roof"] / GIGA
        label = f"{name}: {digits(reached)} GFLOP/s, {percent(work['fraction'])} of the roof"
        label += f" ({percent(row['needed']['fraction'])} needed)"
        axes.plot([intensity] * 2, [reached, roof], color=colour, linewidth=1, linestyle=":")
        axes.plot(intensity, reached, mark, color=colour, markersize=9, label=label, zorder=3)
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylabel="GFLOP/s", ymargin=0.12)
    axes.set_xlabel("FLOP/byte (FLOPs done, compulsory bytes)")
    axes.set_title(headline(document), fontsize=10.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.10g}")
    axes.grid(alpha=0.35, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", fontsize=9.5, frameon=False)
    figure.savefig(path, dpi=150)
