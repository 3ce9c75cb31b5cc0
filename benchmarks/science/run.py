"""`python -m benchmarks science`: errors, CPU seconds and structures over seeds, with the defaults of fastkan, beside pykan."""

import statistics
import time
from collections.abc import Sequence

import torch
import tyro
from torch import nn

import fastkan
from benchmarks.display import grouped
from benchmarks.document import write
from benchmarks.environment import environment, results_folder
from benchmarks.progress import CONSOLE, progress
from benchmarks.science.poisson import solve
from benchmarks.science.targets import Rows, rows
from fastkan.nn import Products
from fastkan.nn.edges import alive

FINE, USUAL = (5, 10, 20, 50, 100), (3, 5, 10, 20, 40)
FITS = [  # target, widths, grids, noise
    ("exp", [2, 1, 1], FINE, 0.0),
    ("exp", [2, 1, 1], USUAL, 0.0),
    ("exp", [2, 5, 1], USUAL, 0.0),
    ("ellipkinc", [2, 5, 1], USUAL, 0.0),
    ("jv", [2, 5, 1], USUAL, 0.0),
    ("four", [4, 4, 2, 1], USUAL, 0.0),
    ("exp", [2, 1, 1], USUAL, 0.05),
    ("ellipkinc", [2, 5, 1], USUAL, 0.05),
]
STRUCTURES = [  # target, widths, and what reads what in the right model, see `structure`
    ("exp", [2, 5, 1], "f(0 1)"),
    ("hypot", [2, 5, 1], "f(0 1)"),
    ("product", [2, (3, 2), 1], "0*1"),
    ("trig", [3, (3, 2), 1], "0 + 1*2"),
]
EQUATION = ("mse", "mse_of_gradient", "cpu_seconds")
EQUATIONS = [(3, (5, 10, 20)), (5, (5, 10, 20)), (5, (5, 10, 20, 30))]  # degree, grids
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
    history = fastkan.fit(model, data.x, data.y, grids=grids, seed=seed, callback=look)
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


def structure(model: fastkan.KAN) -> str:
    """What a model of two layers reads: f(0 1) a function of a sum, 0*1 a product, terms in order."""
    first, last = model.layers[0], model.layers[-1]
    columns = model[0].index.tolist() if model[0] is not first else list(range(first.in_features))
    nodes = next((module for module in model if isinstance(module, Products)), Products(first.out_features, ()))
    factors = [
        " ".join(str(columns[i]) for i in alive(first)[:, o].nonzero().flatten().tolist()) for o in range(first.out_features)
    ]
    terms = [f"f({factor})" if " " in factor else factor for factor in factors[: nodes.sums]]
    at = nodes.sums
    for arity in nodes.arities:
        terms.append("*".join(sorted(factor if " " not in factor else f"({factor})" for factor in factors[at : at + arity])))
        at += arity
    read = alive(last).any(1).tolist()
    return " + ".join(sorted(term for term, is_read in zip(terms, read, strict=True) if is_read))


def find(name: str, widths: list, right: str, seed: int) -> dict:
    data: Rows = rows(name, seed)
    start = time.process_time()
    small, _ = fastkan.sparsify(fastkan.KAN(widths, seed=seed, dtype=torch.float64), data.x, data.y, seed=seed)
    seconds, found = time.process_time() - start, structure(small)
    test = error(small, data.new_x, data.new_y)
    return {"target": name, "seed": seed, "found": found, "right": found == right, "test": test, "cpu_seconds": seconds}


def science(seeds: int = 10, pykan_seeds: int = 2, name: str = "science") -> None:
    """Fits, structures and Poisson's equation over seeds, beside pykan on the first target. Takes 30 minutes of one core.

    Writes JSON to benchmarks/results/<machine>/<name>.

    Args:
        seeds: Of the data and of the start, for each target.
        pykan_seeds: The same for pykan, which takes a minute for each.
        name: Name of the result file.
    """
    torch.set_num_threads(1)
    found = environment("cpu")
    with progress(seeds * (len(FITS) + len(STRUCTURES) + len(EQUATIONS)) + pykan_seeds) as advance:
        fits, structures, equations = [], [], []
        for settings in FITS:
            for seed in range(seeds):
                fits.append(fit(*settings, seed))
                advance(f"{settings[0]}, seed {seed}")
        for seed in range(pykan_seeds):
            fits.append(fit_pykan(*FITS[0], seed))
            advance(f"pykan, seed {seed}")
        for target in STRUCTURES:
            for seed in range(seeds):
                structures.append(find(*target, seed))
                advance(f"structure of {target[0]}, seed {seed}")
        for equation in EQUATIONS:
            for seed in range(seeds):
                equations.append(solve(*equation, seed))
                advance(f"Poisson, degree {equation[0]}, seed {seed}")
    document = {"environment": found, "fits": fits, "structures": structures, "poisson": equations}
    write(document, results_folder(found) / f"{name}.json")
    show(document)


def show(document: dict) -> None:
    """Medians over the seeds, and the worst."""
    for (peer, target, *settings), same in grouped(document["fits"], "peer", "target", "widths", "grids", "noise").items():
        parts = [
            f"{key} {statistics.median(row[key] for row in same):.2g} ({max(row[key] for row in same):.2g})"
            for key in ("train", "test", "cpu_seconds", "test_over_best")
            if key in same[0]
        ]
        CONSOLE.print(f"{peer} {target} {settings}: median (worst) of {len(same)}: " + ", ".join(parts))
    for (target,), same in grouped(document["structures"], "target").items():
        seconds = statistics.median(row["cpu_seconds"] for row in same)
        CONSOLE.print(f"structure of {target}: {sum(row['right'] for row in same)} of {len(same)} right, {seconds:.1f} CPU s")
    for (degree, grids), same in grouped(document["poisson"], "degree", "grids").items():
        parts = [
            f"{key} {statistics.median(row[key] for row in same):.2g} ({max(row[key] for row in same):.2g})" for key in EQUATION
        ]
        CONSOLE.print(f"Poisson, degree {degree}, grids {grids}: median (worst) of {len(same)}: " + ", ".join(parts))


def main(arguments: list[str]) -> int:
    tyro.cli(science, args=arguments, prog="python -m benchmarks science")
    return 0
