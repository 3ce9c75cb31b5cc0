"""Times of a call with warm and with cold caches, launched from a CUDA graph where launching would be what is measured."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from benchmarks import timer
from benchmarks.modes import Step
from benchmarks.timer import ROUNDS, repeats, stride, take_turns, timed

CAPTURED_BELOW = 1e-3  # seconds: longer calls hide their launches
SECONDS_PER_GRAPH = 2e-4  # short calls repeat within their graph until its own launch is lost in it
SECONDS_PER_PEER = 0.4
COLD_SAMPLES = 3  # short calls: events tell no less than about a microsecond
SPIN_SECONDS = 0.05  # so that the clock has risen before the first turn
DEFAULT_CACHE = 4 * 2**20  # without a GPU only the machinery is tried
WARM, COLD, LAUNCHED = "time", "time, cold L2", "time, launched from Python"


class Flush:
    """Overwrites the last-level cache by a buffer twice its size."""

    def __init__(self, device: str) -> None:
        size = torch.cuda.get_device_properties(device).L2_cache_size if device == "cuda" else 0
        self.buffer = torch.empty(2 * (size or DEFAULT_CACHE), dtype=torch.uint8, device=device)

    def __call__(self) -> None:
        self.buffer.zero_()


@functools.cache
def _side_stream() -> torch.cuda.Stream:
    """One for all captures: cuBLAS keeps a workspace for every stream it has seen."""
    return torch.cuda.Stream()


def capture(call: Step, copies: int) -> Callable[[], None]:
    """A CUDA graph of `copies` calls, as its replay. torch.cuda.graph itself would collect garbage for 0.1 s each time."""
    stream = _side_stream()
    stream.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        call()  # what a call sets up on its first use of a stream
        stream.synchronize()
        graph.capture_begin()
        try:
            for _ in range(copies):
                call()
        finally:
            graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)
    return graph.replay


@dataclass
class Racer:
    """One peer ready to be timed: the call itself, and replays of one and of `copies` calls where it was captured."""

    call: Step
    seconds: float
    single: Callable[[], object]
    several: Callable[[], object]
    copies: int = 1
    captured: bool = False
    note: str = ""
    peak: float | None = None  # bytes
    times: dict[str, list[float | None]] = field(default_factory=dict)


def ready(call: Step, device: str) -> Racer:
    """Estimate the call's time, and capture it if it is short."""
    seconds = min(timed(call, 1, device) for _ in range(3))
    if device != "cuda" or seconds > CAPTURED_BELOW:
        return Racer(call, seconds, call, call)
    try:
        single = capture(call, 1)
        seconds = min(timed(single, 5, device) for _ in range(3))
        copies = max(1, round(SECONDS_PER_GRAPH / seconds))
        several = capture(call, copies) if copies > 1 else single
        seconds = min(timed(several, 1, device) for _ in range(3)) / copies
    except RuntimeError as error:
        torch.cuda.synchronize()
        return Racer(call, seconds, call, call, note=f"launched from Python, not captured: {str(error).splitlines()[0]}")
    return Racer(call, seconds, single, several, copies, captured=True)


def _cold(racer: Racer, flush: Flush, device: str) -> float:
    """One call at a time, each after a flush that hides its launch."""
    if device != "cuda":
        flush()
        return timed(racer.single, 1, device)
    samples = []
    torch.cuda.synchronize()
    for _ in range(COLD_SAMPLES if racer.seconds < CAPTURED_BELOW else 1):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush()
        begin.record()
        racer.single()
        end.record()
        samples.append((begin, end))
    torch.cuda.synchronize()
    times = sorted(begin.elapsed_time(end) / 1e3 for begin, end in samples)
    return times[len(times) // 2]


def _turn(racer: Racer, turn: int, flush: Flush, device: str) -> None:
    racer.several()  # fills the cache again
    racer.times[WARM][turn] = timed(racer.several, repeats(racer.seconds * racer.copies), device) / racer.copies
    racer.times[COLD][turn] = _cold(racer, flush, device)
    if racer.captured:
        racer.times[LAUNCHED][turn] = timed(racer.call, repeats(max(racer.seconds, 5e-5)), device)


def race(racers: dict[str, Racer], flush: Flush, device: str, beat: Callable[[str], bool]) -> None:
    """Interleaved rounds; `beat` hears whose turn it is, and says if time is left."""
    for racer in racers.values():
        metrics = (WARM, COLD, LAUNCHED) if racer.captured else (WARM, COLD)
        racer.times = {metric: [None] * ROUNDS for metric in metrics}
    if not racers:
        return
    first, until = next(iter(racers.values())), timer.clock() + (SPIN_SECONDS if device == "cuda" else 0)
    while timer.clock() < until:
        timed(first.several, 1, device)
    more = True

    def turn(name: str, number: int) -> None:
        nonlocal more
        more = beat(name)
        _turn(racers[name], number, flush, device)

    # A turn is three measurements: warm, cold, and launched from Python.
    strides = {name: stride(3 * racer.seconds, SECONDS_PER_PEER) for name, racer in racers.items()}
    take_turns(strides, turn, after_round=lambda: more)
