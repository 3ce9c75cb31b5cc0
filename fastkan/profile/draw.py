"""The roofline as a picture: what this machine can do at each arithmetic intensity, and where every operation stands."""

from pathlib import Path
from typing import Any

from fastkan.profile.report import digits, headline, percent

# Okabe and Ito's palette and different marks: told apart by colour-blind readers and in grey
STYLES = {
    "forward": ("#0072B2", "o"),
    "grad_input": ("#D55E00", "s"),
    "grad_weight": ("#009E73", "^"),
    "gradients": ("#CC79A7", "D"),
}
GIGA = 1e9


def roofline(document: dict[str, Any], path: Path) -> None:
    """Draw a document of profile.json; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 6), layout="constrained")
    axes = figure.subplots()
    flops, bandwidth = (document["peaks"][name] / GIGA for name in ("flops", "bandwidth"))
    ridge, rows = flops / bandwidth, document["operations"]
    intensities = [ridge, *(row["intensity"] for row in rows.values())]
    left, right = min(intensities) / 30, max(intensities) * 8
    axes.plot([left, ridge, right], [left * bandwidth, flops, flops], color="black", linewidth=1.8)
    note: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9.5}
    axes.annotate(f"{digits(flops)} GFLOP/s, measured matrix product", (right, flops), xytext=(-4, 6), ha="right", **note)
    axes.annotate(f"{digits(bandwidth)} GB/s, measured copy", (ridge, flops), xytext=(-16, -8), ha="right", **note)
    for name, row in rows.items():
        (colour, mark), reached = STYLES[name], row["flops_per_second"] / GIGA
        label = f"{name}: {digits(reached)} GFLOP/s, {percent(row['fraction'])} of the roofline"
        axes.plot([row["intensity"]] * 2, [reached, reached / row["fraction"]], color=colour, linewidth=1, linestyle=":")
        axes.plot(row["intensity"], reached, mark, color=colour, markersize=9, label=label, zorder=3)
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylabel="GFLOP/s", ymargin=0.12)
    axes.set_xlabel(f"FLOP/byte ({document['count']} FLOPs, compulsory bytes)")
    axes.set_title(headline(document), fontsize=10.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.10g}")
    axes.grid(alpha=0.35, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", fontsize=9.5, frameon=False)
    figure.savefig(path, dpi=150)
