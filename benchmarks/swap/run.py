"""`python -m benchmarks swap`: swapped models beside the ones they were, with the same optimizer, rate and number of steps."""

import math
import statistics
from pathlib import Path

import torch
import tyro
from rich.table import Table

from benchmarks.display import grouped
from benchmarks.document import read, write
from benchmarks.environment import environment, results_folder
from benchmarks.progress import CONSOLE, progress
from benchmarks.science.interface import Run
from benchmarks.swap.models import CASES
from benchmarks.swap.train import OPTIMIZERS, SLACK, trained

USUAL = "AdamW 0.001"
ADAMW = [optimizer for optimizer in OPTIMIZERS if optimizer.startswith("AdamW")]
EVERY = ("linear", "swapped")  # variants that every optimizer trains
GRIDS = ("swapped, G = 20", "swapped, (-1, 1)")
BY_HEART = ("Llama, text", "Whisper, patterns")  # learn one row too
SETTINGS = ("model", "variant", "optimizer", "seed", "one_batch")  # of a run, as its row has them
BESIDE = ("swapped, plain", "linear, equal parameters", "linear, equal time")


def runs(models: list[str], seeds: int) -> list[Run]:
    found = []
    for name in models:
        for seed in range(seeds):
            pairs = [(variant, optimizer) for optimizer in OPTIMIZERS for variant in EVERY]
            pairs += [(variant, optimizer) for optimizer in (*ADAMW, "SGD 0.3") for variant in GRIDS]
            pairs += [(variant, USUAL) for variant in BESIDE]
            by_heart = EVERY + GRIDS if name in BY_HEART else ()
            one = [(variant, optimizer) for optimizer in (USUAL, "SGD 0.3") for variant in by_heart]
            for (variant, optimizer), one_batch in [(pair, False) for pair in pairs] + [(pair, True) for pair in one]:
                what = f"{name}: {variant}, {optimizer}{', one batch' * one_batch}"
                found.append(Run(what, trained, (name, variant, optimizer, seed, one_batch)))
    return found


def swap(models: tuple[str, ...] = tuple(CASES), seeds: int = 3, name: str = "swap") -> None:
    """Small models trained as they are and swapped. Takes an hour of one core; with transformers installed, seven models more.

    Writes benchmarks/results/<machine>/<name>.json after every run, and a plot. Goes on with a file that is there: a run that it
    holds is not run again.

    Args:
        models: Which of them.
        seeds: Of the start and of the batches.
        name: Of the result files.
    """
    from benchmarks.swap.chart import draw

    torch.set_num_threads(1)
    found = environment("cpu")
    path = results_folder(found) / f"{name}.json"
    results = read(path)["results"] if path.exists() else []
    held = [tuple(row[key] for key in SETTINGS) for row in results]
    todo = [run for run in runs(list(models), seeds) if run.settings not in held]
    with progress(len(todo)) as advance:
        for run in todo:
            results.append(run.call(*run.settings))
            advance(run.what)
            write({"environment": found, "results": results}, path)
    show(path)
    draw(results, path.with_suffix(".png"))


def ratios(results: list[dict], key: str) -> dict[tuple[str, str, str, bool], float]:
    """By model, variant, optimizer and one_batch: (mean loss + SLACK) over that of the model as it was."""
    means = {
        group: statistics.mean(row[key] for row in rows)
        for group, rows in grouped(results, "model", "variant", "optimizer", "one_batch").items()
    }
    return {
        (model, variant, optimizer, one): (mean + SLACK) / (means[model, "linear", optimizer, one] + SLACK)
        for (model, variant, optimizer, one), mean in means.items()
    }


def show(path: Path) -> None:
    """Ratios of each model, training / held-out, then their geometric means and the worst."""
    results = read(path)["results"]
    train, held = ratios(results, "train"), ratios(results, "held")
    for one in (False, True):
        columns = list(dict.fromkeys(key[1:3] for key in train if key[3] is one and key[1] != "linear"))
        table = Table("model", *(f"{variant}\n{optimizer}" for variant, optimizer in columns))
        models = list(dict.fromkeys(key[0] for key in train))
        for model in models:
            keys = [(model, *column, one) for column in columns]
            table.add_row(model, *("" if k not in train else _pair(train[k], held[k], one) for k in keys))
        shares = [[(train[m, *c, one], held[m, *c, one]) for m in models if (m, *c, one) in train] for c in columns]
        table.add_row("geometric mean", *(_pair(*map(_mean, zip(*column, strict=True)), one) for column in shares))
        table.add_row("worst", *(_pair(*map(max, zip(*column, strict=True)), one) for column in shares))
        CONSOLE.print("one batch, 40 steps: loss over linear's" if one else "loss over linear's, training / held-out", table)


def _mean(values: tuple[float, ...]) -> float:
    return math.exp(statistics.mean(map(math.log, values)))


def _pair(train: float, held: float, one: bool) -> str:
    return f"{train:.2f}" if one else f"{train:.2f} / {held:.2f}"


def main(arguments: list[str]) -> int:
    tyro.cli(swap, args=arguments, prog="python -m benchmarks swap")
    return 0
