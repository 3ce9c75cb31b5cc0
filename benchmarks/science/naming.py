"""Time and R^2 of naming the edges of a trained [4, 8, 1] with all functions, beside pykan's suggest_symbolic on the same."""

import contextlib
import io
import itertools
import statistics
import time

import torch

from benchmarks.progress import CONSOLE
from benchmarks.science.interface import Run
from fastkan.formulas.fits import fits
from fastkan.nn import FUNCTIONS

WIDTHS, ROWS, STEPS = [4, 8, 1], 1000, 20
SEEDS, EDGES = 5, 2  # of pykan's edges, one in each layer: each takes it 40 s
WITHIN = 1e-4  # of R^2


def _trained(seed: int) -> object:
    """A KAN of pykan, trained on exp(sin(pi x0) + x1^2) + x2 x3."""
    import kan

    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(2 * ROWS, 4, generator=generator, dtype=torch.float64) - 1
    y = (torch.exp(torch.sin(torch.pi * x[:, 0]) + x[:, 1] ** 2) + x[:, 2] * x[:, 3])[:, None]
    parts = {"train_input": x[:ROWS], "train_label": y[:ROWS], "test_input": x[ROWS:], "test_label": y[ROWS:]}
    model = kan.KAN(width=list(WIDTHS), grid=5, k=3, seed=seed, auto_save=False)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        model.fit(parts, opt="LBFGS", steps=STEPS)
        model(x[:ROWS])
    return model


def name(seed: int) -> list[dict]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = _trained(seed)
        places = [(k, i, o) for k, (n, m) in enumerate(itertools.pairwise(WIDTHS)) for i in range(n) for o in range(m)]
        x = torch.stack([model.acts[k][:, i] for k, i, _ in places]).detach()
        y = torch.stack([model.spline_postacts[k][:, o, i] for k, i, o in places]).detach()
        start = time.process_time()
        ours = fits(x, y)
        seconds = (time.process_time() - start) / len(places)
        rows = []
        for e in (seed, len(places) - 1 - seed)[:EDGES]:
            k, i, o = places[e]
            start = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                *_, best, _ = model.suggest_symbolic(k, i, o, verbose=False, topk=100, weight_simple=0.0)
            pykan = time.process_time() - start
            row = {"seed": seed, "edge": [k, i, o], "edges": len(places), "functions": len(FUNCTIONS)}
            rows.append(row | {"cpu_seconds": seconds, "r2": float(ours.r2[:, e].max()), "pykan": pykan, "pykan_r2": float(best)})
        return rows
    finally:
        torch.set_default_dtype(before)


def runs(seeds: int) -> list[Run]:
    return [Run(f"names of [4, 8, 1], seed {seed}", name, (seed,)) for seed in range(min(seeds, SEEDS))]


def show(results: list[dict]) -> None:
    ratios = [row["pykan"] / row["cpu_seconds"] for row in results]
    less = [row["pykan_r2"] - row["r2"] for row in results]
    own, pykan = (statistics.median(row[key] for row in results) for key in ("cpu_seconds", "pykan"))
    near = sum(gap <= WITHIN for gap in less)
    CONSOLE.print(
        f"an edge, all functions, median (worst) of {len(results)}: {own * 1e3:.0f} ms, pykan {pykan:.1f} s, "
        f"{statistics.median(ratios):.0f} times ({min(ratios):.0f}); best R2 at least pykan's less {WITHIN} in {near}, worst "
        f"{max(less):.1e} below it"
    )
