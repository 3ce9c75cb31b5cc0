"""The process that measures. It may crash, hang or lose the GPU: its supervisor knows from the beat file who was at work."""

import gc
import json
import os
import time
from pathlib import Path

import torch

from benchmarks.cases import Problem
from benchmarks.gate import Gate
from benchmarks.gpu import results
from benchmarks.gpu.measure import ContextLost, Round, measure, release
from benchmarks.gpu.plan import Group, precision
from benchmarks.gpu.race import Flush
from benchmarks.memory import failed

ROWS, INPUTS = 192, 8  # that the gate looks at: all of them would take longer than the timing


class Beat:
    """Writes whose turn it is, and knows whether time is left."""

    def __init__(self, path: Path, until: float) -> None:
        self.path, self.until = path, until
        self.parent = os.getppid()
        self.at: results.Key = ("", "", "")
        self.peer = ""

    def __call__(self, peer: str, reason: str = "") -> bool:
        if os.getppid() != self.parent:
            raise SystemExit("the supervisor is gone")
        self.peer = peer
        self.path.write_text(json.dumps([*self.at, peer, reason]))
        return time.time() < self.until


def beat_file(path: Path) -> Path:
    return path.with_suffix(".beat")


def _problem(group: Group, device: str) -> tuple[Problem, Gate]:
    torch.compiler.reset()  # else a compiled peer's second size would be compiled for any shape
    release(device)
    problem = Problem.of(group.case, device)
    return problem, Gate(problem, ROWS, INPUTS)


def work(path: Path, until: float) -> None:
    """Everything that the document at `path` lacks, until the clock says `until`."""
    document = results.load(path)
    settings, present = document["settings"], results.done(document)
    device, beat = settings["device"], Beat(beat_file(path), until)
    flush = Flush(device)
    if device == "cpu":
        torch.set_num_threads(1)  # waiting threads make tiny layers slow
    gc.collect()
    gc.freeze()  # libraries are no garbage, and walking them takes 0.1 s each time
    group = problem = gate = now = None
    for following, mode in results.wanted(settings):
        name = results.key(following, mode)
        beat.at = name
        if name in present:
            continue
        if not beat(""):
            break
        with precision(following.precision):
            try:
                if following != group:
                    problem = gate = now = None  # the memory of one group at a time
                    problem, gate = _problem(following, device)
                    group = following
                crashed = {peer: reason for *where, peer, reason in document["crashed"] if tuple(where) == name}
                now = Round(group, mode, problem, gate, device, flush, beat, crashed, settings["everything"])
                results.add(document, measure(now))
            except ContextLost as error:
                beat(beat.peer, str(error))
                raise
            except Exception as error:
                results.add(document, [results.placeholder(following, mode, device, failed(error))])
        if device == "cuda":
            state = results.nvidia_smi(results.STATE) or {}
            document["states"].append(dict(zip(("case", "dtype", "mode"), name, strict=True)) | state)
        release(device)
        results.save(document, path)
    beat_file(path).unlink(missing_ok=True)
