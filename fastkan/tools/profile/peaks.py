"""What this machine does at most, measured: FLOP/s, and bytes/s from every level of its memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import torch

from fastkan import backends
from fastkan.dtypes import DTYPE_NAMES

# Every round gives every loop a turn, so that no disturbance meets all of its runs: RUNS of them, none begun after TURN seconds.
ROUNDS, RUNS, TURN = 12, 5, 5e-3
# What a run does. Short ones find a moment without a disturbance; starting one takes some microseconds.
STEPS = 2**17  # of multiply-adds
GEMM_SIZE = {"cpu": 1024, "cuda": 8192}
READ = {"cpu": 2**26, "cuda": 2**31}  # bytes, of a few again and again
SIZES = {"cpu": [2**k for k in range(14, 29, 2)], "cuda": [2**k for k in range(22, 31, 2)]}  # bytes, the last past every cache


@dataclass(frozen=True)
class Loop:
    """Work that is known in advance; run returns FLOP/s or bytes/s."""

    what: str
    run: Callable[[], float]


@dataclass(frozen=True)
class Peaks:
    """FLOP/s, bytes/s by the bytes that are gone through again and again, and how they were measured."""

    flops: float
    bandwidths: tuple[tuple[int, float], ...]  # small sizes first
    how_flops: str
    how_bandwidths: str
    rounds: int

    def _level(self, traffic: int) -> int:
        sizes = [size for size, _ in self.bandwidths]
        return max((size for size in sizes if size <= traffic), default=sizes[0])

    def bandwidth(self, traffic: int) -> float:
        """For an operation of that traffic: the fastest of the next smaller size and all larger ones.

        Of more than fits into a cache, a part may still stay in it, so an operation may pass what its own size reaches.
        """
        level = self._level(traffic)
        return max(rate for size, rate in self.bandwidths if size >= level)

    def faster_of(self, other: "Peaks") -> "Peaks":
        """Both measurements of one machine together: a peak is a maximum."""
        best = max(self, other, key=lambda peaks: peaks.flops)
        pairs = zip(self.bandwidths, other.bandwidths, strict=True)
        bandwidths = tuple((size, max(rate, again)) for (size, rate), (_, again) in pairs)
        return replace(best, bandwidths=bandwidths, rounds=self.rounds + other.rounds)

    def raised(self, name: str, flops: float, traffic: int, bandwidth: float) -> "Peaks":
        """These, but where the operation of that name reached more: that."""
        peaks, level = self, self._level(traffic)
        if flops > self.flops:
            how = f"reached by {name}; {self.how_flops} reached only {self.flops / 1e9:.4g} GFLOP/s, so something disturbed them"
            peaks = replace(peaks, flops=flops, how_flops=how)
        if bandwidth > self.bandwidth(traffic):
            rates = tuple((size, bandwidth if size == level else rate) for size, rate in self.bandwidths)
            peaks = replace(peaks, bandwidths=rates, how_bandwidths=f"{self.how_bandwidths}; {name} was faster")
        return peaks


def best_rates(loops: Sequence[Loop]) -> list[float]:
    """Of each in its fastest run."""
    best = [0.0] * len(loops)
    for _ in range(ROUNDS):
        for k, loop in enumerate(loops):
            end = perf_counter() + TURN
            for _ in range(RUNS):
                best[k] = max(best[k], loop.run())
                if perf_counter() > end:
                    break
    return best


def _timed(device: str, work: int, function: Callable[[], object]) -> float:
    """Work a second of one call."""
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    start = perf_counter()
    function()
    synchronize()
    return work / (perf_counter() - start)


def _threads() -> int:
    """Those of backend cpu."""
    return torch.get_num_threads() if backends.native.module.build_info()["openmp"] else 1


def _multiply_adds(dtype: torch.dtype) -> Loop:
    """In registers, in the instruction set that backend cpu uses."""
    module, name, threads = backends.native.module, DTYPE_NAMES[dtype], _threads()

    def run() -> float:
        return module.cpu_multiply_add(STEPS, 0.5, 1.0, name, threads)[-1]

    return Loop(f"{name} multiply-adds in registers ({module.cpu_isa()}, {threads} threads)", run)


def _product(device: str, dtype: torch.dtype) -> Loop:
    size = GEMM_SIZE[device]
    a, b, c = (torch.rand(size, size, device=device).to(dtype) for _ in range(3))
    run = partial(_timed, device, 2 * size**3, partial(torch.mm, a, b, out=c))
    return Loop(f"{DTYPE_NAMES[dtype]} matrix product of {size} x {size}", run)


def _reads(sizes: Sequence[int]) -> list[Loop]:
    words, threads = torch.ones(max(sizes) // 4, dtype=torch.int32), _threads()

    def run(size: int) -> float:
        return backends.native.module.cpu_read(words.data_ptr(), size // 4, max(1, READ["cpu"] // size), threads)[-1]

    return [Loop(f"reads by {threads} threads", partial(run, size)) for size in sizes]


def _copies(device: str, sizes: Sequence[int]) -> list[Loop]:
    """Half of the bytes is read and half written."""
    data = torch.zeros(max(sizes), dtype=torch.uint8, device=device)

    def run(size: int) -> float:
        passes, target, source = max(1, READ[device] // size), data[: size // 2], data[size // 2 : size]

        def copies() -> None:
            for _ in range(passes):
                target.copy_(source)

        return _timed(device, size * passes, copies)

    return [Loop("copies, read and write counted once each", partial(run, size)) for size in sizes]


def measure(device: str, dtype: torch.dtype) -> Peaks:
    """Of a device, for multiplications in that dtype; TF32 as PyTorch's own settings say."""
    core = device == "cpu" and backends.native.module is not None
    compute = [_product(device, dtype)]
    if core:
        compute.append(_multiply_adds(dtype))
    sizes = SIZES[device]
    memory = _reads(sizes) if core else _copies(device, sizes)
    rates = best_rates([*compute, *memory])
    flops, best = max(zip(rates, compute, strict=False), key=lambda pair: pair[0])
    bandwidths = tuple(zip(sizes, rates[len(compute) :], strict=True))
    return Peaks(flops, bandwidths, best.what, memory[0].what, ROUNDS)
