"""Equations built in by kanpiler, how exactly, and found again after perturb by fit."""

import contextlib
import io
import statistics
import time

import torch
from torch import Tensor

import fastkan
from benchmarks.display import grouped
from benchmarks.progress import CONSOLE
from benchmarks.science.equations import EQUATIONS, Equation
from benchmarks.science.interface import Run
from fastkan.formulas import kanpiler, perturb

CHECKED, ROWS = 10_000, 1000
SIZE = 0.1  # of the noise
SEEDS = 5  # at most
STEPS = {"present": 400, "absent": 50}  # of lm: numbers of formulas are few, and may take a long way to rounding


def rows(equation: Equation, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """x [count, I] uniform in the ranges and y [count, 1]; float64."""
    low, high = torch.tensor(list(equation.ranges.values()), dtype=torch.float64).unbind(1)
    generator = torch.Generator().manual_seed(seed)
    x = low + (high - low) * torch.rand(count, len(low), dtype=torch.float64, generator=generator)
    return x, equation.function(*x.unbind(1))[:, None]


def error(model: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    """Root mean square, as a share of y's standard deviation."""
    with torch.no_grad():
        return float((model(x) - y).square().mean().sqrt() / y.std())


def exact(name: str) -> dict:
    """The largest error of the model, as a share of the largest value."""
    equation = EQUATIONS[name]
    start = time.process_time()
    model = kanpiler(equation.text, list(equation.ranges), equation.ranges)
    seconds = time.process_time() - start
    x, y = rows(equation, CHECKED, 0)
    with torch.no_grad():
        off = float((model(x) - y).abs().max() / y.abs().max())
    return {"equation": name, "kind": "exact", "widths": str(model.widths), "error": off, "cpu_seconds": seconds}


def exact_pykan(name: str) -> dict:
    """The same of pykan's kanpiler."""
    import sympy
    from kan.compiler import kanpiler as theirs

    equation = EQUATIONS[name]
    symbols = [sympy.Symbol(variable) for variable in equation.ranges]
    x, y = rows(equation, CHECKED, 0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            start = time.process_time()
            model = theirs(symbols, sympy.sympify(equation.text, locals={str(symbol): symbol for symbol in symbols}))
            seconds = time.process_time() - start
            off = float((model(x) - y).abs().max() / y.abs().max())
    finally:
        torch.set_default_dtype(usual)
    return {"equation": name, "kind": "pykan", "widths": str(model.width), "error": off, "cpu_seconds": seconds}


def refit(name: str, where: str, seed: int) -> dict:
    """Errors on new rows after perturb and after fit, and the reason where perturb refuses or fit fails."""
    equation = EQUATIONS[name]
    model = kanpiler(equation.text, list(equation.ranges), equation.ranges)
    row = {"equation": name, "kind": where, "seed": seed, "size": SIZE, "steps": STEPS[where]}
    try:
        moved = perturb(model, SIZE, seed, where)
    except ValueError as refused:
        return row | {"refused": str(refused)}
    x, y = rows(equation, ROWS, seed)
    new = rows(equation, ROWS, seed + 1000)
    before, start = error(moved, *new), time.process_time()
    try:
        fastkan.fit(moved, x, y, optimizer="lm", starts=1, steps=STEPS[where])
    except FloatingPointError as failed:
        return row | {"before": before, "failed": str(failed)}
    return row | {"before": before, "after": error(moved, *new), "cpu_seconds": time.process_time() - start}


def runs(seeds: int) -> list[Run]:
    made = [Run(f"kanpiler on {name}", exact, (name,)) for name in EQUATIONS]
    made += [Run(f"pykan's kanpiler on {name}", exact_pykan, (name,)) for name in EQUATIONS]
    for name in EQUATIONS:
        made += [
            Run(f"{name} perturbed ({where}), seed {seed}", refit, (name, where, seed))
            for where in STEPS
            for seed in range(min(seeds, SEEDS))
        ]
    return made


def show(results: list[dict]) -> None:
    for (name,), same in grouped(results, "equation").items():
        kinds = {kind: group for (kind,), group in grouped(same, "kind").items()}
        text = "".join(f"{row['widths']}, off by {row['error']:.0e}" for row in kinds.pop("exact", ()))
        text += "".join(f"; pykan {row['widths']}, {row['error']:.0e}" for row in kinds.pop("pykan", ()))
        for kind, group in kinds.items():
            done = [row for row in group if "after" in row]
            if done:
                before, after = (statistics.median(row[key] for row in done) for key in ("before", "after"))
                worst = max(row["after"] for row in done)
                text += f"; {kind}, median (worst) of {len(done)}: {before:.1e} -> {after:.1e} ({worst:.1e})"
            if len(done) < len(group):
                text += f", {kind}: {len(group) - len(done)} of {len(group)} refused or failed"
        CONSOLE.print(f"{name}: {text}")
