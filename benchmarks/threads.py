"""What more threads bring on the CPU, beside nn.Linear: `python -m benchmarks threads`, into benchmarks/results/<machine>/."""

import argparse

import torch

from benchmarks import document, timer
from benchmarks.cases import BACKWARD, FORWARD, Case, Problem
from benchmarks.environment import environment, results_folder
from benchmarks.modes import Step, step
from benchmarks.peers import fastkan, mlp

CASES = (
    Case(1000, 16, 16),
    Case(1024, 64, 64),
    Case(1024, 256, 256),
    Case(1024, 256, 256, grid_size=64),
    Case(65536, 16, 16),
    Case(1024, 256, 256, dtype="float64"),
)


def with_threads(call: Step, threads: int) -> Step:
    def run():
        torch.set_num_threads(threads)
        return call()

    return run


def measure(case: Case, mode: str, counts: list[int]) -> list[dict]:
    """One row for each layer and number of threads; `speedup` is over one thread."""
    problem = Problem.of(case, "cpu")
    layers = {"fastkan cpu": fastkan.build(problem, "cpu"), "nn.Linear": mlp.linear(problem)}
    calls = {(name, n): with_threads(step(layer, problem, mode), n) for name, layer in layers.items() for n in counts}
    for call in calls.values():
        call()
    rounds = timer.interleave(calls, dict.fromkeys(calls, 0.0), "cpu", lambda: None)
    rows = []
    for (name, threads), seconds in rounds.seconds.items():
        speedup = timer.ratio(rounds.seconds[name, 1], seconds)
        row = {"case": case.name, "mode": mode, "peer": name, "threads": threads, "seconds": timer.Spread.of(seconds).p50}
        rows.append(row | {"speedup": round(speedup.p50, 2), "elsewhere": rounds.elsewhere})
    return rows


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="python -m benchmarks threads", description=__doc__).parse_args(arguments)
    found = environment("cpu")  # before the number of threads is changed
    counts = [1]
    while counts[-1] < torch.get_num_threads():
        counts.append(min(2 * counts[-1], torch.get_num_threads()))
    rows = []
    for case in CASES:
        for mode in (FORWARD, BACKWARD):
            rows += measure(case, mode, counts)
            for row in rows[-2 * len(counts) :]:
                print(*row.values(), sep="  ", flush=True)
    document.write({"environment": found, "rows": rows}, results_folder(found) / "threads.json")
    return 0
