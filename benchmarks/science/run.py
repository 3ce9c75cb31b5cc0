"""`python -m benchmarks science`: errors, CPU seconds and structures over seeds, with the defaults of fastkan, beside pykan."""

from pathlib import Path
from typing import Literal

import torch
import tyro

from benchmarks.document import read, write
from benchmarks.environment import environment, results_folder
from benchmarks.progress import progress
from benchmarks.science import fits, formulas, kanpiler, naming, poisson, speed, structures

PARTS = {
    "fits": fits,
    "structures": structures,
    "formulas": formulas,
    "naming": naming,
    "kanpiler": kanpiler,
    "poisson": poisson,
    "speed": speed,
}
Part = Literal["fits", "structures", "formulas", "naming", "kanpiler", "poisson", "speed"]


def science(parts: tuple[Part, ...] = tuple(PARTS), seeds: int = 10, name: str = "science") -> None:
    """Fits, structures, formulas, Poisson's equation and times over seeds, beside pykan. Takes four hours of one core.

    Writes JSON to benchmarks/results/<machine>/<name>-<part>, and a plot of the errors over time of Poisson's equation.

    Args:
        parts: Which of them.
        seeds: Of the data and of the start, for each target; pykan gets five at most.
        name: First part of the names of the result files.
    """
    torch.set_num_threads(1)
    found = environment("cpu")
    todo = {part: PARTS[part].runs(seeds) for part in parts}
    with progress(sum(map(len, todo.values()))) as advance:
        for part, runs in todo.items():
            results: list[dict] = []
            path = results_folder(found) / f"{name}-{part}.json"
            for run in runs:
                made = run.call(*run.settings)
                results += made if isinstance(made, list) else [made]
                write({"environment": found, "part": part, "results": results}, path)  # after each run: all of them take hours
                advance(run.what)
            show(path)
            if part == "poisson":
                from benchmarks.science.chart import draw

                draw(results, path.with_suffix(".png"))


def show(path: Path) -> None:
    document = read(path)
    PARTS[document["part"]].show(document["results"])


def main(arguments: list[str]) -> int:
    tyro.cli(science, args=arguments, prog="python -m benchmarks science")
    return 0
