"""Errors of fit over seeds, with its defaults, and of pykan's own course."""

import math
import statistics
import time
from collections.abc import Sequence

import torch
from torch import nn

import fastkan
from benchmarks.display import grouped
from benchmarks.progress import CONSOLE
from benchmarks.science.interface import Run
from benchmarks.science.targets import rows

FINE, USUAL = (5, 10, 20, 50, 100), (3, 5, 10, 20, 40)
NOISE = 0.05
FITS = [  # target, widths, grids, noise, and how many seeds pykan fits too
    ("exp", [2, 1, 1], FINE, 0.0, 5),
    ("exp", [2, 1, 1], USUAL, 0.0, 0),
    ("exp", [2, 5, 1], USUAL, 0.0, 5),
    ("ellipkinc", [2, 5, 1], USUAL, 0.0, 2),
    ("jv", [2, 5, 1], USUAL, 0.0, 2),
    ("four", [4, 4, 2, 1], USUAL, 0.0, 2),
    ("exp", [2, 1, 1], USUAL, NOISE, 0),
    ("exp", [2, 5, 1], USUAL, NOISE, 0),
    ("ellipkinc", [2, 5, 1], USUAL, NOISE, 0),
    ("jv", [2, 5, 1], USUAL, NOISE, 0),
    ("four", [4, 4, 2, 1], USUAL, NOISE, 0),
]
PYKAN_STEPS = 50  # of its LBFGS, for each grid


def error(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        return (model(x) - y).square().mean().sqrt().item()


def fit(name: str, widths: list, grids: Sequence[int], noise: float, seed: int) -> dict:
    """One fit with the defaults, and the test error of every grid size on its way."""
    data, tests = rows(name, seed, noise), {}

    def look(history: fastkan.train.History, model: nn.Module) -> None:
        tests[history.rows[-1]["grid_size"]] = error(model, data.new_x, data.new_y)

    start = time.process_time()
    model = fastkan.KAN(widths, grid_size=grids[0], seed=seed, dtype=torch.float64)
    history = model.fit(data.x, data.y, grids=grids, seed=seed, callback=look)
    seconds = time.process_time() - start
    test = error(model, data.new_x, data.new_y)
    return {
        "peer": "fastkan", "target": name, "widths": str(widths), "grids": str(grids), "noise": noise, "seed": seed,
        "train": error(model, data.x, data.y), "test": test, "grid_size": history.grid_size, "cpu_seconds": seconds,
        "test_over_best": test / min(test, *tests.values()), "test_of_grids": tests,
    }  # fmt: skip


def fit_pykan(name: str, widths: list, grids: Sequence[int], noise: float, seed: int) -> dict:
    """pykan's own course: LBFGS on each grid, refined to the next, in float64 and as fast as it can be."""
    import kan

    data = rows(name, seed, noise)
    dataset = {"train_input": data.x, "train_label": data.y, "test_input": data.new_x, "test_label": data.new_y}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        start = time.process_time()
        model = kan.KAN(width=list(widths), grid=grids[0], k=3, seed=seed, auto_save=False)
        for size in grids:
            model = model if size == grids[0] else model.refine(size)
            model.auto_save = False  # refine turns it on
            model.speed()
            model.fit(dataset, opt="LBFGS", steps=PYKAN_STEPS)
            model.save_act = True  # refine needs what a forward pass keeps
            model(data.x)
        seconds = time.process_time() - start
    finally:
        torch.set_default_dtype(before)
    return {
        "peer": "pykan", "target": name, "widths": str(widths), "grids": str(grids), "noise": noise, "seed": seed,
        "train": error(model, data.x, data.y), "test": error(model, data.new_x, data.new_y), "grid_size": grids[-1],
        "cpu_seconds": seconds,
    }  # fmt: skip


def runs(seeds: int) -> list[Run]:
    found = []
    for name, widths, grids, noise, beside in FITS:
        for seed in range(seeds):
            settings = (name, widths, grids, noise, seed)
            found.append(Run(f"{name}, seed {seed}", fit, settings))
            if seed < beside:
                found.append(Run(f"pykan, {name}, seed {seed}", fit_pykan, settings))
    return found


def show(results: list[dict]) -> None:
    """Medians over the seeds, and the worst; then the test error of the chosen grid size over that of the best."""
    for (peer, target, *settings), same in grouped(results, "peer", "target", "widths", "grids", "noise").items():
        parts = [
            f"{key} {statistics.median(row[key] for row in same):.2g} ({max(row[key] for row in same):.2g})"
            for key in ("train", "test", "cpu_seconds")
        ]
        CONSOLE.print(f"{peer} {target} {settings}: median (worst) of {len(same)}: " + ", ".join(parts))
    usual = [row for row in results if row["peer"] == "fastkan" and row["grids"] == str(USUAL)]
    for (noise,), same in grouped(usual, "noise").items():
        ratios = [row["test_over_best"] for row in same]
        mean = math.exp(statistics.mean(map(math.log, ratios)))
        CONSOLE.print(
            f"chosen grid size over the best of {USUAL}, noise {noise:.0%}: test error {mean:.2f} times (geometric mean), "
            f"at most {max(ratios):.2f} times, {len(ratios)} fits"
        )
