"""Time of a step and of a fit beside pykan's, on the sizes of its users; one thread, turn by turn."""

import statistics
import time

import torch

import fastkan
from benchmarks.display import grouped
from benchmarks.progress import CONSOLE
from benchmarks.science import targets
from benchmarks.science.fits import error
from benchmarks.science.interface import Run

SIZES = [([2, 5, 1], 1000, 400), ([4, 8, 8, 2], 10_000, 200)]  # widths, rows, and steps of Adam; in each, new rows are looked at
PYKAN_STEPS = 50  # of its LBFGS, its own default course on one grid
SEEDS = 5  # at most: a fit of the large one by pykan takes minutes
GRID_SIZE = 5


def data(widths: list[int], rows: int, seed: int) -> tuple[dict, torch.Tensor, torch.Tensor]:
    """pykan's dataset and the same rows: exp(sin(pi x0) + x1^2), and for a second output x2 x3."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(2 * rows, widths[0], generator=generator, dtype=torch.float64) - 1
    y = targets.TARGETS["exp"].function(x[:, 0], x[:, 1])[:, None]
    y = torch.cat((y, x[:, 2:3] * x[:, 3:4]), dim=1) if widths[-1] == 2 else y
    parts = {"train_input": x[:rows], "train_label": y[:rows], "test_input": x[rows:], "test_label": y[rows:]}
    return parts, x, y


def _pykan(widths: list[int], parts: dict, seed: int, **settings: object) -> tuple[float, float, float]:
    import kan

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = kan.KAN(width=list(widths), grid=GRID_SIZE, k=3, seed=seed, auto_save=False).speed()
        start = time.perf_counter()
        model.fit(parts, **settings)
        return time.perf_counter() - start, *_errors(model, parts)
    finally:
        torch.set_default_dtype(before)


def _ours(widths: list[int], parts: dict, seed: int, **settings: object) -> tuple[float, float, float]:
    model = fastkan.KAN(widths, grid_size=GRID_SIZE, seed=seed, dtype=torch.float64)
    start = time.perf_counter()
    model.fit(parts["train_input"], parts["train_label"], seed=seed, **settings)
    return time.perf_counter() - start, *_errors(model, parts)


def _errors(model: torch.nn.Module, parts: dict) -> tuple[float, float]:
    return error(model, parts["train_input"], parts["train_label"]), error(model, parts["test_input"], parts["test_label"])


def _until(widths: list[int], parts: dict, seed: int, goal: float) -> tuple[float, float, float]:
    """Our fit, ended where its error on the training rows is no larger than `goal`."""
    x, y = parts["train_input"], parts["train_label"]
    return _ours(widths, parts, seed, callback=lambda history, model: error(model, x, y) <= goal)


def beside(widths: list[int], rows: int, steps: int, seed: int) -> list[dict]:
    """Rows of a step of Adam, of a fit, and of ours to pykan's error, ours and pykan's after one another."""
    parts = data(widths, rows, seed)[0]
    held = (parts["test_input"], parts["test_label"])
    few = data(widths, 100, seed)[0]
    for optimizer in ("lm", "adamw"):  # the first calls of a program import and compile
        _ours(widths, few, seed, optimizer=optimizer, steps=2)
    _pykan(widths, few, seed, opt="LBFGS", steps=2)
    found = []

    def keep(peer: str, what: str, count: int, figures: tuple[float, float, float]) -> float:
        seconds, train, test = figures
        found.append(
            {"peer": peer, "what": what, "widths": str(widths), "rows": rows, "seed": seed, "seconds": seconds / count,
             "train": train, "test": test}
        )  # fmt: skip
        return train

    keep("fastkan", "step", steps, _ours(widths, parts, seed, optimizer="adamw", steps=steps, val=held))
    keep("pykan", "step", steps, _pykan(widths, parts, seed, opt="Adam", lr=1e-3, steps=steps, update_grid=False))
    keep("fastkan", "fit", 1, _ours(widths, parts, seed))
    goal = keep("pykan", "fit", 1, _pykan(widths, parts, seed, opt="LBFGS", steps=PYKAN_STEPS))
    keep("fastkan", "fit to pykan's error", 1, _until(widths, parts, seed, goal))
    return found


def runs(seeds: int) -> list[Run]:
    seeds = min(seeds, SEEDS)
    return [
        Run(f"{widths} beside pykan, seed {k}", beside, (widths, rows, steps, k))
        for widths, rows, steps in SIZES
        for k in range(seeds)
    ]


def show(results: list[dict]) -> None:
    """Medians over the seeds, and of the ratios of single turns."""
    pykans = {(row["what"], row["widths"], row["seed"]): row for row in results if row["peer"] == "pykan"}
    for (what, widths), same in grouped([row for row in results if row["peer"] == "fastkan"], "what", "widths").items():
        theirs = [pykans[what.split(" to ")[0], widths, row["seed"]] for row in same]
        ratio = statistics.median(b["seconds"] / a["seconds"] for a, b in zip(same, theirs, strict=True))
        figures = [
            f"{rows[0]['peer']} {statistics.median(row['seconds'] for row in rows):.3g} s, "
            f"train {statistics.median(row['train'] for row in rows):.2g}, "
            f"test {statistics.median(row['test'] for row in rows):.2g}"
            for rows in (same, theirs)
        ]
        CONSOLE.print(f"{what} of {widths}: median (worst) of {len(same)}: {'; '.join(figures)}: {ratio:.1f} times as fast")
