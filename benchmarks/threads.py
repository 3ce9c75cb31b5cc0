"""What more threads bring on the CPU, beside nn.Linear: `python benchmarks/threads.py`, into benchmarks/results/<machine>/."""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # at the end: an installed fastkan goes before the source tree

from benchmarks import report, timing  # noqa: E402
from benchmarks.cases import BACKWARD, FORWARD, Case, Problem  # noqa: E402
from benchmarks.environment import environment, machine  # noqa: E402
from benchmarks.modes import Step, step  # noqa: E402
from benchmarks.providers import fastkan, mlp  # noqa: E402

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
    rounds = timing.interleave(calls, dict.fromkeys(calls, 0.0), "cpu", lambda: None)
    rows = []
    for (name, threads), seconds in rounds.seconds.items():
        speedup = timing.ratio(rounds.seconds[name, 1], seconds)
        row = {"case": case.name, "mode": mode, "provider": name, "threads": threads, "seconds": timing.Spread.of(seconds).p50}
        rows.append(row | {"speedup": round(speedup.p50, 2), "elsewhere": rounds.elsewhere})
    return rows


def main() -> None:
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
    report.save_json({"environment": found, "rows": rows}, ROOT / "benchmarks" / "results" / machine(found) / "threads.json")


if __name__ == "__main__":
    main()
