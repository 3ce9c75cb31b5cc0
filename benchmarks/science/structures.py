"""Structures that sparsify finds over seeds, with its defaults."""

import statistics
import time

import torch

import fastkan
from benchmarks.display import grouped
from benchmarks.progress import CONSOLE
from benchmarks.science.fits import error
from benchmarks.science.interface import Run
from benchmarks.science.targets import Rows, rows
from fastkan.nn import Products
from fastkan.nn.edges import alive

STRUCTURES = [  # target, widths, and what reads what in the right model, see `structure`
    ("exp", [2, 5, 1], "f(0 1)"),
    ("hypot", [2, 5, 1], "f(0 1)"),
    ("product", [2, (3, 2), 1], "0*1"),
    ("trig", [3, (3, 2), 1], "0 + 1*2"),
]


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


def runs(seeds: int) -> list[Run]:
    return [Run(f"structure of {target[0]}, seed {k}", find, (*target, k)) for target in STRUCTURES for k in range(seeds)]


def show(results: list[dict]) -> None:
    for (target,), same in grouped(results, "target").items():
        seconds = [row["cpu_seconds"] for row in same]
        CONSOLE.print(
            f"structure of {target}: {sum(row['right'] for row in same)} of {len(same)} right, CPU seconds median (worst) of "
            f"{len(same)}: {statistics.median(seconds):.1f} ({max(seconds):.1f})"
        )
