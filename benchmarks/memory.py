"""Peak memory of one call beyond parameters, input and results; also the first contact with a peer.

On the CPU every probe is a fresh process, so that one peer's caches and fragments never count for another,
and a crash, a hang or the system's out-of-memory killer ends a child and becomes a row of the table. On CUDA the
allocator knows.
"""

import ctypes
import gc
import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarks.cases import Case, Problem
from benchmarks.modes import Step, step
from benchmarks.peers.interface import Peer

M_MMAP_THRESHOLD = -3
PROCESS = Path("/proc/self")
WARM_UP_ROWS = 8
READY_SECONDS = 90.0  # for building and compiling


@dataclass(frozen=True)
class Probe:
    """status: ok, out of memory, unsupported, skipped or wrong, and why; rough seconds and peak bytes."""

    status: str
    reason: str = ""
    seconds: float | None = None
    peak: float | None = None


def failed(error: BaseException) -> Probe:
    """The row that an exception becomes. The CPU allocator raises a plain RuntimeError, told by its text."""
    text = f"{type(error).__name__}: {error}"
    exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text
    return Probe("out of memory" if exhausted else "unsupported", text.splitlines()[0])


def prepare(peer: Peer, case: Case, mode: str, device: str) -> Step:
    """Build the layer and load libraries by one small call, which leaves small activations behind.

    Compiled layers specialise on the batch size, so theirs is a full call; they keep no activations.
    """
    problem = Problem.of(case, device)
    layer = peer.build(problem)
    small = problem if peer.compiled else Problem.of(case, device, batch=min(WARM_UP_ROWS, case.batch))
    step(layer, small, mode)()
    return step(layer, problem, mode)


def _glibc(function: str, *arguments: int) -> None:
    """Tune the allocator; other C libraries lack these functions."""
    if hasattr(ctypes.CDLL(None), function):
        getattr(ctypes.CDLL(None), function)(*arguments)


def _resident(field: str) -> int:
    """VmRSS (now) or VmHWM (the most since the last reset), in bytes."""
    line = next(line for line in (PROCESS / "status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _returned_bytes(results: tuple) -> int:
    return sum(t.nbytes for t in results if isinstance(t, torch.Tensor))


def resident_growth(call: Step) -> Probe:
    """Run the call once in this process: its peak over the resident size before, less what it returned."""
    gc.collect()
    known = (PROCESS / "clear_refs").exists()
    if known:
        _glibc("malloc_trim", 0)
        (PROCESS / "clear_refs").write_text("5")  # 5 resets VmHWM to the present size
        before = _resident("VmRSS")
    start = time.perf_counter()
    results = call()
    seconds = time.perf_counter() - start
    peak = max(0, _resident("VmHWM") - before - _returned_bytes(results)) if known else None
    return Probe("ok", seconds=seconds, peak=peak)


def _child(ready: Callable[[], Step], threads: int, answer: Connection) -> None:
    gc.freeze()  # what the server imported is no garbage; walking it would touch, and so copy, all its pages
    torch.set_num_threads(threads)
    if PROCESS.exists():
        # if memory runs out, the system ends this process first
        (PROCESS / "oom_score_adj").write_text("1000")
        # a large block freed in the warm-up goes back to the system, else it would hide a later need
        _glibc("mallopt", M_MMAP_THRESHOLD, 65536)
    try:
        call = ready()
        answer.send(None)  # from here on the time counts
        answer.send(resident_growth(call))
    except Exception as error:
        answer.send(failed(error))


def _await(answer: Connection, limit: float) -> Probe:
    """What the child reports: None once it is ready, then its probe; or a probe alone if that failed."""
    for stage, seconds in (("ready", READY_SECONDS), ("done", limit)):
        if not answer.poll(seconds):
            return Probe("skipped", f"not {stage} after {seconds:.0f} s")
        if found := answer.recv():
            break
    return found


def in_fresh_process(ready: Callable[[], Step], limit: float) -> Probe:
    """resident_growth(ready()) in a child that may take `limit` seconds for the call; `ready` must be picklable."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        # the server imports once and computes nothing, so its forks start in milliseconds and without threads
        context.set_forkserver_preload(["benchmarks.memory", "torch._inductor.compile_fx", "kan", "inkan"])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(ready, torch.get_num_threads(), sender), daemon=True)
    child.start()
    sender.close()
    try:
        found = _await(receiver, limit)
        if found.status == "skipped":
            child.kill()
        return found
    except EOFError:
        child.join()
        status = "out of memory" if child.exitcode == -signal.SIGKILL else "unsupported"
        return Probe(status, f"process ended with code {child.exitcode}")
    finally:
        child.join()


def allocated_growth(call: Step) -> Probe:
    """Run the call once on the GPU: PyTorch's allocated peak over what was allocated before, less what it returned."""
    torch.cuda.synchronize()
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    results = call()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return Probe("ok", "", seconds, torch.cuda.max_memory_allocated() - before - _returned_bytes(results))


def _on_cuda(ready: Callable[[], Step]) -> Probe:
    try:
        return allocated_growth(ready())
    except Exception as error:
        torch.cuda.empty_cache()
        return failed(error)


def probe(peer: Peer, case: Case, mode: str, device: str, limit: float) -> Probe:
    """Memory and rough time of one call, or why there is none within `limit` seconds."""
    ready = partial(prepare, peer, case, mode, device)
    return _on_cuda(ready) if device.startswith("cuda") else in_fresh_process(ready, limit)
