"""Starts workers until the document is whole or the time is spent; who ended one is left out from there on, with the reason."""

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu import results
from benchmarks.gpu.worker import beat_file

STALL = 150.0  # seconds without a beat: a hang, or a compilation beyond patience
GRACE = 45.0  # seconds past the end for the peer at work
RESTARTS = 8
SECONDS_PER_LOOK = 0.2
clock, pause = time.time, time.sleep  # of the supervisor


def _watch(process: subprocess.Popen, beat: Path, until: float) -> str | None:
    """None if the worker ended well, else what happened; kills the one that does not move."""
    last, known = clock(), None
    while process.poll() is None:
        pause(SECONDS_PER_LOOK)
        written = beat.stat().st_mtime_ns if beat.exists() else None
        if written != known:
            last, known = clock(), written
        late, stalled = clock() > until + GRACE, clock() > last + STALL
        if late or stalled:
            process.kill()
            process.wait()
            return "not done when the time was spent" if late else f"no sign of life for {STALL:.0f} s"
    if process.returncode:
        return f"its process ended with code {process.returncode}"
    return None


def _blame(path: Path, what: str) -> str | None:
    """Note in the document who was at work; None if nobody was."""
    beat = beat_file(path)
    *where, peer, reason = json.loads(beat.read_text()) if beat.exists() else [""] * 5
    beat.unlink(missing_ok=True)
    if not peer:
        return None
    document = results.load(path)
    what = reason or what
    document["crashed"].append([*where, peer, what])
    results.save(document, path)
    return f"{peer} at {', '.join(where)}: {what}"


def supervise(command: list[str], path: Path, until: float) -> None:
    """`command` is a worker's, less its --until."""
    beat = beat_file(path)
    for _ in range(RESTARTS):
        beat.unlink(missing_ok=True)
        process = subprocess.Popen([*command, "--until", str(until)])
        try:
            what = _watch(process, beat, until)
        finally:
            process.kill()  # nothing to kill unless this process was interrupted
            process.wait()
        if what is None:
            return
        culprit = _blame(path, what)
        print(culprit or f"the worker stopped: {what}", file=sys.stderr, flush=True)
        if culprit is None or clock() > until:
            return
