"""Time by interleaved rounds: what else runs on the machine and its clock then fall on everybody alike."""

import gc
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.modes import Step

ROUNDS = 15
FEWEST_ROUNDS = 5
SECONDS_PER_PROVIDER = 2.0
SECONDS_PER_TURN = 2e-3  # short calls repeat within their turn until the clock's own cost is lost in it
PROCESSORS = Path("/proc/stat")


@dataclass(frozen=True)
class Spread:
    """Median with the 20 % and 80 % quantiles of `count` rounds."""

    p20: float
    p50: float
    p80: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        ordered = sorted(values)
        p20, p80 = (ordered[round(q * (len(ordered) - 1))] for q in (0.2, 0.8))
        return cls(p20, statistics.median(ordered), p80, len(ordered))


@dataclass(frozen=True)
class Rounds:
    """Seconds per call of every provider in every round, None where a slow one sat the round out.

    `elsewhere` is the share of all processors that other programs took meanwhile, None where unknown.
    """

    seconds: dict[str, list[float | None]]
    elsewhere: float | None


def timed(call: Step, repeats: int, device: str) -> float:
    """Seconds per call. On CUDA events bracket the calls on the stream, and synchronising parts the turns."""
    if device.startswith("cuda"):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / repeats
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _plan(call: Step, seconds: float, device: str) -> tuple[int, int]:
    """(calls a turn, rounds from turn to turn) for a call of about `seconds`; quick ones are timed again."""
    if seconds < 0.1:
        seconds = min(timed(call, 1, device) for _ in range(3))
    turns = min(ROUNDS, max(FEWEST_ROUNDS, int(SECONDS_PER_PROVIDER / seconds)))
    return max(1, round(SECONDS_PER_TURN / seconds)), math.ceil(ROUNDS / turns)


def _busy_elsewhere() -> float:
    """Processor seconds that everybody but this process has used so far."""
    user, nice, system, _, _, irq, softirq, steal = map(int, PROCESSORS.read_text().split()[1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy - time.process_time()


def interleave(calls: dict[str, Step], seconds: dict[str, float], device: str, advance: Callable[[], None]) -> Rounds:
    """Round r begins with provider r, so that nobody always follows the same neighbour."""
    plan = {name: _plan(call, seconds[name], device) for name, call in calls.items()}
    times: dict[str, list[float | None]] = {name: [None] * ROUNDS for name in calls}
    names = list(calls)
    known = PROCESSORS.exists()
    start, used = time.perf_counter(), _busy_elsewhere() if known else 0.0
    gc.freeze()  # libraries are no garbage, and walking them takes 0.2 s
    gc.disable()
    try:
        for turn in range(ROUNDS):
            first = turn % max(1, len(names))
            for name in names[first:] + names[:first]:
                repeats, stride = plan[name]
                if turn % stride == 0:
                    times[name][turn] = timed(calls[name], repeats, device)
            gc.collect()  # between rounds, where no clock runs
            advance()
    finally:
        gc.enable()
        gc.unfreeze()
    capacity = (time.perf_counter() - start) * (os.cpu_count() or 1)
    return Rounds(times, max(0.0, (_busy_elsewhere() - used) / capacity) if known else None)


def ratio(times: list[float | None], base: list[float | None]) -> Spread | None:
    """Spread of the per-round ratios, over the rounds in which both ran."""
    both = [t / b for t, b in zip(times, base, strict=True) if t is not None and b is not None]
    return Spread.of(both) if both else None
