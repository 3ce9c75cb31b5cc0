"""Formulas that discover finds over seeds, with its one default."""

import statistics
import time

import torch

import fastkan
from benchmarks.display import grouped
from benchmarks.progress import CONSOLE
from benchmarks.science.interface import Run
from benchmarks.science.laws import SETS, data
from fastkan.nn.edges import alive
from fastkan.nn.stack import columns, stages

SEEDS = 5
NOISE = 0.01
BUDGET = 300.0  # seconds: the default of 60 is enough where nothing else runs, and this shares its cores
RIGHT = 1e-10  # of y's deviation, on new rows: the formula
ROUNDING = 1e-13  # and after numbers have snapped: to the last digits
CLOSE = 0.15  # of the noise: an error on new rows


def structure(model: fastkan.KAN) -> str:
    """What reads what in a model of formulas: F(0+1) a function of a sum, 0*1 a product, sums in order."""
    values = [str(column) for column in columns(model)]
    for layer, nodes in stages(model):
        sums = []
        names = {} if layer.symbolic is None else {(i, o): name for i, o, name in layer.symbolic.edges}
        for o in range(layer.out_features):
            terms = []
            for i in alive(layer)[:, o].nonzero().flatten().tolist():
                whole = names.get((i, o)) == "x" or ("+" not in values[i] and "*" not in values[i])
                terms += values[i].split("+") if whole and "(" not in values[i] else [values[i] if whole else f"F({values[i]})"]
            sums.append("+".join(sorted(set(terms))))
        values, at = sums[: nodes.sums], nodes.sums
        for arity in nodes.arities:
            values.append("*".join(sorted(f"({factor})" if "+" in factor else factor for factor in sums[at : at + arity])))
            at += arity
    return values[0]


def find(kind: str, name: str, noise: float, seed: int) -> dict:
    law = SETS[kind][name]
    x, y, new, wanted = data(law, seed, noise)
    start = time.process_time()
    found = fastkan.discover(x, y, names=[f"x{k}" for k in range(x.shape[1])], budget=BUDGET, seed=seed)
    seconds = time.process_time() - start
    row = {"set": kind, "target": name, "formula": law.formula, "noise": noise, "seed": seed, "cpu_seconds": seconds}
    row |= {"splines": found.splines_rmse / float(y.std()), "listed": len(found)}
    if not found:
        return row | {"claimed": False, "found": "", "structure": "", "right": False, "test": None, "complexity": None}
    best = found[0]
    with torch.no_grad():
        test = float((best.model(new)[:, 0] - wanted).square().mean().sqrt() / wanted.std())
    shape = structure(best.model)
    row |= {"claimed": best.claimed, "found": str(best.expression)[:300], "complexity": best.complexity}
    return row | {"structure": shape, "right": shape == law.structure, "test": test if test == test else None}


def runs(seeds: int) -> list[Run]:
    found = []
    for kind, laws in SETS.items():
        for noise in (0.0, NOISE) if kind in ("development", "held out") else (0.0,):
            for name in laws:
                for seed in range(min(seeds, SEEDS)):
                    found.append(Run(f"{kind}: {name}, noise {noise}, seed {seed}", find, (kind, name, noise, seed)))
    return found


def _below(rows: list[dict], limit: float) -> int:
    return sum(row["claimed"] and row["test"] is not None and row["test"] < limit for row in rows)


def show(results: list[dict]) -> None:
    for (kind, noise), rows in grouped(results, "set", "noise").items():
        seconds = [row["cpu_seconds"] for row in rows]
        right = "" if kind not in ("development", "held out") else f"structure {sum(row['right'] for row in rows)}, "
        limit = f"error below {CLOSE} of the noise {_below(rows, CLOSE * noise)}, " if noise else ""
        CONSOLE.print(
            f"{kind}, noise {noise}, of {len(rows)}: {right}{limit}formula below {RIGHT} {_below(rows, RIGHT)}, below {ROUNDING} "
            f"{_below(rows, ROUNDING)}, claimed {sum(row['claimed'] for row in rows)}, CPU seconds, median (worst) of "
            f"{len(rows)}: {statistics.median(seconds):.1f} ({max(seconds):.1f})"
        )
        for (name,), same in grouped(rows, "target").items():
            tests = [row["test"] for row in same if row["test"] is not None]
            CONSOLE.print(
                f"    {name}: {_below(same, RIGHT)} of {len(same)}, claimed {sum(row['claimed'] for row in same)}, test error "
                f"{statistics.median(tests):.1e}, CPU s {max(row['cpu_seconds'] for row in same):.1f}; {same[0]['found'][:110]}"
            )
