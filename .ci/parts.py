"""Runs the parts of the proof (make proof-*) whose folders were touched in the last 12 hours, while there is time.

A part starts in the first 30 minutes only, and the whole ends within 58. A part stops at its first failure: one that is cut
short had none, and counts as left out.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MINUTE = 60
LAST_START, END = 30 * MINUTE, 58 * MINUTE
PARTS = ("cpu", "triton", "cuda")
FOLDERS = {  # the longest that fits a file counts; a file that none fits needs no proof
    "csrc": ("cpu", "cuda"),
    "csrc/cpu": ("cpu",),
    "csrc/cuda": ("cuda",),
    "kernels": ("triton",),
    "fastkan": PARTS,
    "fastkan/nn": ("cpu", "cuda"),
    "fastkan/explain": (),
    "fastkan/train": (),
    "fastkan/tools": (),
    "tests/native": ("cpu",),
    "tests/emulated": ("cuda",),
    "tests/triton": ("triton",),
    "tests/conftest.py": PARTS,
    "tests/tiers.py": PARTS,
    "tests/contract": PARTS,
    "setup.py": ("cpu", "cuda"),
    "CMakeLists.txt": ("cpu", "cuda"),
    "constraints.txt": PARTS,
    "Makefile": PARTS,
}


def touched(since: str = "12 hours ago") -> list[str]:
    """Files of recent commits. In a shallow clone the oldest commit lists every file, as nobody knows what it changed."""
    command = ["git", "log", f"--since={since}", "--name-only", "--format="]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")


def needed(files: Iterable[str]) -> list[str]:
    found: set[str] = set()
    for file in files:
        fitting = [folder for folder in FOLDERS if file == folder or file.startswith(f"{folder}/")]
        if fitting:
            found.update(FOLDERS[max(fitting, key=len)])
    return [part for part in PARTS if part in found]


def make(part: str, seconds: float) -> int | None:
    """The exit status of a part, or None where its time ran out."""
    environment = os.environ | {"PYTEST_ADDOPTS": "--exitfirst"}
    process = subprocess.Popen(["make", f"proof-{part}"], cwd=ROOT, env=environment, start_new_session=True)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def run(parts: list[str], began: float, clock: Callable[[], float] = time.time, make: Callable[..., int | None] = make) -> int:
    """Runs what time allows, says what it left out and why; 1 if a part failed."""
    failed, left_out = [], [f"proof-{part}: no recent commit touched its folders" for part in PARTS if part not in parts]
    for part in parts:
        passed = clock() - began
        if passed >= LAST_START:
            left_out.append(f"proof-{part}: {passed / MINUTE:.0f} minutes have passed, and parts start in the first 30")
            continue
        status = make(part, END - passed)
        if status is None:
            left_out.append(f"proof-{part}: left unfinished after {END // MINUTE} minutes; nothing had failed")
        elif status:
            failed.append(f"proof-{part}: failed")
    print(*failed, *(f"left out: {line}" for line in left_out), sep="\n", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--began", type=float, required=True, help="when .ci/run began, in seconds since 1970")
    sys.exit(run(needed(touched()), parser.parse_args().began))
