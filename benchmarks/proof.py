"""`make gpu`: every test that needs a GPU, compute-sanitizer and the throughput benchmark, within one budget of time.

Tests and sanitizer run side by side, for none of them looks at a clock; the benchmark has the GPU to itself.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks import document
from benchmarks.environment import ROOT, environment, results_folder

# The files of the gpu mark by name: collecting others may need packages that are not here. Most of their time goes into compiling
# kernels, so processes share them where pytest-xdist is there; not so those that need the GPU's memory or its streams.
SHARED = (
    *("tests/contract/test_backends.py", "tests/triton/test_placed.py"),
    *("tests/emulated/test_paths.py", "tests/emulated/test_two_four_forward.py"),
    *("tests/gpu/test_repeats.py", "tests/gpu/test_graphs.py"),
)
ALONE = ("tests/tools/test_profile.py", "tests/gpu/test_streams.py", "tests/gpu/test_large.py")
MOST_PROCESSES = 14
CHECKS_SHARE = 0.4  # of the time, at most, for tests and sanitizer; the benchmark takes the rest
clock = time.monotonic  # of every limit here
WRITE_UP = 25.0  # seconds for the benchmark's last peer, tables and plot


def _without_paths(value):
    if isinstance(value, str):
        for path, name in (
            (sys.executable, "python"),
            (f"{ROOT}/", ""),
            (f"{tempfile.gettempdir()}/", ""),
            (sys.prefix, "python"),
        ):
            value = value.replace(path, name)
        return value
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return {key: _without_paths(item) for key, item in value.items()} if isinstance(value, dict) else value


@dataclass
class Part:
    """One of the three: what became of it, and the end of what it said."""

    name: str
    command: list[str]
    status: str = "not run"
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    outcomes: list[dict[str, str]] = field(default_factory=list)  # of the tests that did not simply pass
    output: list[str] = field(default_factory=list)

    def record(self) -> dict:
        """For the results: without this machine's paths."""
        return {key: _without_paths(value) for key, value in asdict(self).items()}


class Running:
    """A part's process, its output kept in a file so that two can run at once."""

    def __init__(self, part: Part) -> None:
        self.part, self.started = part, clock()
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - finish() closes it
        threads = {"OMP_NUM_THREADS": "1"} if "pytest" in part.command else {}
        environment = os.environ | threads
        self.process = subprocess.Popen(part.command, cwd=ROOT, env=environment, stdout=self.log, stderr=subprocess.STDOUT)

    def finish(self, until: float) -> Part:
        """Wait; past `until` interrupt it, which lets pytest report what it has, then kill it."""
        late = False
        for patience, end in ((until - clock(), signal.SIGINT), (15.0, signal.SIGKILL)):
            try:
                self.process.wait(timeout=max(0.1, patience))
                break
            except subprocess.TimeoutExpired:
                late = True
                self.process.send_signal(end)
        code = self.process.wait()
        self.part.seconds = round(clock() - self.started, 1)
        self.part.status = "not finished in its time" if late else "passed" if code == 0 else f"failed, code {code}"
        self.log.seek(0)
        self.part.output = self.log.read().splitlines()[-200:]
        self.log.close()
        return self.part


def read_junit(part: Part, path: Path) -> None:
    """Counts and failures from pytest's own report."""
    if not path.exists():
        return
    suites = ET.parse(path).getroot().iter("testsuite")
    for suite in suites:
        part.counts |= {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
        for case in suite.iter("testcase"):
            for outcome in ("failure", "error", "skipped"):
                for found in case.iter(outcome):
                    first = (found.get("message") or "").splitlines()[:1]
                    name = f"{case.get('classname')}::{case.get('name')}"
                    part.outcomes.append({"test": name, "outcome": outcome, "message": "".join(first)[:300]})


def _tests(name: str, files: tuple[str, ...], junit: Path, device: str) -> Part:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", f"--junitxml={junit}", "-p", "no:cacheprovider", *files]
    if name == "tests" and find_spec("xdist"):
        command += ["-n", str(max(1, min(MOST_PROCESSES, (os.cpu_count() or 1) - 2)))]
    return Part(name, command + (["--collect-only"] if device != "cuda" else []))


def checks(seconds: float, folder: Path, scratch: Path, device: str) -> list[Part]:
    """Tests and sanitizer, all at once."""
    parts = [
        _tests("tests", SHARED, scratch / "tests.xml", device),
        _tests("tests alone", ALONE, scratch / "tests alone.xml", device),
    ]
    sanitizer = [sys.executable, "tests/gpu/sanitizer.py", "--quick", "--folder", str(folder), "--seconds", str(seconds - 10)]
    parts.append(Part("sanitizer", sanitizer))
    until = clock() + seconds
    running = [Running(part) for part in parts]
    try:
        for one in running:
            read_junit(one.finish(until), scratch / f"{one.part.name}.xml")
    finally:
        for one in running:
            one.process.terminate()  # nothing to end unless this process was interrupted
    return parts


def throughput(seconds: float, folder: Path, device: str) -> Part:
    command = [sys.executable, "-m", "benchmarks", "gpu", "--seconds", str(seconds), "--folder", str(folder), "--device", device]
    part = Part("throughput", command + (["--tiny"] if device == "cpu" else []))
    running = Running(part)
    try:
        return running.finish(clock() + seconds + 90)
    finally:
        running.process.terminate()


def instruction_rates(folder: Path) -> Part:
    """Whether 2:4 sparse tensor cores are worth their trouble here (docs/explanation/cuda.md); half of its time is nvcc's."""
    running = Running(Part("instructions", [sys.executable, "-m", "benchmarks", "rates", "--folder", str(folder)]))
    try:
        return running.finish(clock() + 90)
    finally:
        running.process.terminate()


def show(part: Part) -> None:
    print(f"== {part.name}: {part.status}, {part.seconds:.0f} s {part.counts or ''}")
    print("\n".join(part.output[-120:] if part.status == "passed" else part.output), flush=True)


def prove(seconds: float, device: str, folder: Path | None = None) -> int:
    """Everything, written down as it ends; the exit code tells whether all of it passed."""
    found = environment(device)
    folder = folder or results_folder(found)
    path = folder / f"{date.today().isoformat()}-proof.json"
    until = clock() + seconds - WRITE_UP
    parts: list[Part] = []

    def keep(*new: Part) -> None:
        parts.extend(new)
        document.write({"environment": found, "parts": [part.record() for part in parts]}, path)
        for part in new:
            show(part)

    with tempfile.TemporaryDirectory() as scratch:
        keep(*checks(CHECKS_SHARE * seconds, folder, Path(scratch), device))
    if device == "cuda" and shutil.which("nvcc"):
        keep(instruction_rates(folder))
    keep(throughput(max(1.0, until - clock()), folder, device))
    print(f"\nWritten: {path} and beside it")
    for part in parts:
        print(f"{part.name:12} {part.status}")
    return 0 if all(part.status == "passed" for part in parts) else 1


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks proof", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=470.0, help="for everything")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: only to try the machinery")
    parser.add_argument("--folder", type=Path, help="for the results; benchmarks/results/<gpu> by default")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the parts are ended too
    if options.device == "cuda" and not torch.cuda.is_available():
        print("make gpu: torch sees no CUDA device, so nothing was proved")
        return 1
    return prove(options.seconds, options.device, options.folder)
