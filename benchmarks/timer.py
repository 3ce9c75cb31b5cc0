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
SECONDS_PER_PEER = 2.0
SECONDS_PER_TURN = 2e-3  # short calls repeat within their turn until the clock's own cost is lost in it
PROCESSORS = Path("/proc/stat")
clock = time.perf_counter  # of every time taken on the CPU


@dataclass(frozen=True)
class Spread:
    """Median with the 20 % and 80 % quantiles of `count` rounds."""

    p20: float
    p50: float
    p80: float
    count: int

    @classmethod
    def of(cls, values: list[float | None]) -> "Spread":
        """Rounds that were sat out do not count."""
        ordered = sorted(value for value in values if value is not None)
        p20, p80 = (ordered[round(q * (len(ordered) - 1))] for q in (0.2, 0.8))
        return cls(p20, statistics.median(ordered), p80, len(ordered))


@dataclass(frozen=True)
class Rounds:
    """Seconds per call of every peer in every round, None where a slow one sat the round out.

    `elsewhere` is the share of all processors that other programs took meanwhile, None where unknown.
    """

    seconds: dict[str, list[float | None]]
    elsewhere: float | None


def timed(call: Callable[[], object], repeats: int, device: str) -> float:
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
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def repeats(seconds: float) -> int:
    """How many calls of so many seconds make a turn."""
    return max(1, round(SECONDS_PER_TURN / seconds))


def stride(seconds: float, budget: float) -> int:
    """Rounds from turn to turn of a peer whose turn takes `seconds`, so that it keeps to its budget: a slow one sits out some."""
    turns = min(ROUNDS, max(FEWEST_ROUNDS, int(budget / seconds)))
    return math.ceil(ROUNDS / turns)


def take_turns(strides: dict[str, int], turn: Callable[[str, int], None], after_round: Callable[[], bool]) -> None:
    """turn(name, round) for everybody in ROUNDS rounds, until after_round() says no.

    Round r begins with peer r, so that nobody always follows the same neighbour. No garbage is collected within a round.
    """
    names = list(strides)
    gc.disable()
    try:
        for number in range(ROUNDS):
            first = number % max(1, len(names))
            for name in names[first:] + names[:first]:
                if number % strides[name] == 0:
                    turn(name, number)
            if not after_round():
                break
    finally:
        gc.enable()


def _busy_elsewhere() -> float:
    """Processor seconds that everybody but this process has used so far."""
    user, nice, system, _, _, irq, softirq, steal = map(int, PROCESSORS.read_text().split()[1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy - time.process_time()


def interleave(calls: dict[str, Step], seconds: dict[str, float], device: str, advance: Callable[[], None]) -> Rounds:
    """Time calls of about so many `seconds`; quick ones are timed again first. `advance` hears of every round."""
    about = {
        name: seconds[name] if seconds[name] >= 0.1 else min(timed(call, 1, device) for _ in range(3))
        for name, call in calls.items()
    }
    times: dict[str, list[float | None]] = {name: [None] * ROUNDS for name in calls}

    def turn(name: str, number: int) -> None:
        times[name][number] = timed(calls[name], repeats(about[name]), device)

    def after_round() -> bool:
        gc.collect()  # between rounds, where no clock runs
        advance()
        return True

    known = PROCESSORS.exists()
    start, used = clock(), _busy_elsewhere() if known else 0.0
    gc.freeze()  # libraries are no garbage, and walking them takes 0.2 s
    try:
        take_turns({name: stride(about[name], SECONDS_PER_PEER) for name in calls}, turn, after_round)
    finally:
        gc.unfreeze()
    capacity = (clock() - start) * (os.cpu_count() or 1)
    return Rounds(times, max(0.0, (_busy_elsewhere() - used) / capacity) if known else None)


def ratio(times: list[float | None], base: list[float | None]) -> Spread | None:
    """Spread of the per-round ratios, over the rounds in which both ran."""
    both = [t / b for t, b in zip(times, base, strict=True) if t is not None and b is not None]
    return Spread.of(both) if both else None
