"""A plot of the study: every model's loss over the unswapped one's, with the optimizers that people use."""

from pathlib import Path

from benchmarks.display import COLOURS

SHOWN = {
    ("swapped", "AdamW 0.001"): (COLOURS["fastkan"], "o"),
    ("swapped", "AdamW 0.003"): (COLOURS["unfused"], "o"),
    ("swapped", "SGD 0.3"): (COLOURS["inkan"], "s"),
    ("swapped", "Muon 0.02"): (COLOURS["efficient-kan"], "D"),
    ("swapped, plain", "AdamW 0.001"): (COLOURS["pykan"], "x"),
    ("linear, equal parameters", "AdamW 0.001"): (COLOURS["cuBLAS"], "^"),
    ("linear, equal time", "AdamW 0.001"): (COLOURS["baseline"], "v"),
}


def draw(results: list[dict], path: Path) -> None:
    """Ratios of the held-out loss, one row a model; left of 1 is better than the model as it was."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from benchmarks.swap.run import ratios

    held = ratios(results, "held")
    models = list(dict.fromkeys(row["model"] for row in results))
    figure = Figure(figsize=(9, 0.42 * len(models) + 1.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (variant, optimizer), (colour, marker) in SHOWN.items():
        places = [(held[key], -k) for k, model in enumerate(models) if (key := (model, variant, optimizer, False)) in held]
        if places:
            axes.scatter(*zip(*places, strict=True), color=colour, marker=marker, label=f"{variant}, {optimizer}", zorder=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    ticks = [0.25, 0.5, 0.75, 1, 1.5, 2]
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.minorticks_off()
    axes.set_yticks([-k for k in range(len(models))], models)
    axes.grid(axis="x", linewidth=0.5)
    axes.set_xlabel("held-out loss over the linear model's, same optimizer, rate and steps (mean of the seeds)")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
