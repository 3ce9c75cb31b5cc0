"""compute-sanitizer (memcheck, racecheck) over the five operations on small cases: `python tests/gpu/sanitizer.py`.

Every backend and tool is one run of `--program BACKEND` under the tool; a run without it comes first, so that what is compiled
on first use is there and a program that fails by itself is not taken for a finding.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]
sys.path.append(str(ROOT))  # at the end: an installed fastkan goes before the source tree

TOOLS = {"memcheck": ["--leak-check", "no", "--report-api-errors", "no"], "racecheck": ["--racecheck-report", "all"]}
FOUND = 99  # exit code that the tools are asked for where they find something
SUMMARY = re.compile(r"(?:ERROR SUMMARY|RACECHECK SUMMARY): (\d+)")
ABSENT = "compute-sanitizer is not on this machine (it comes with the CUDA toolkit): NOTHING WAS CHECKED"


def program(backend: str, device: str, quick: bool) -> int:
    """Every operation on cases of all kinds: odd sizes, several tiles, repeated knots, row weights; returns how many calls."""
    import torch
    from contract.cases import Case, make_inputs
    from gpu.operations import call

    from fastkan.ops import OPERATIONS

    cases = [Case(7, 3, 4), Case(65, 37, 19), Case(9, 4, 3, degree=2, knots="spread", row_weight=True)]
    if not quick:
        cases += [
            Case(8, 3, 2, grid_size=6, knots="repeated", activation="identity"),
            Case(130, 17, 19, grid_size=9),
            Case(3, 2, 513),
            Case(300, 3, 2, row_weight=True),
            Case(1, 5, 1, grid_size=40),
            Case(0, 3, 4),
        ]
    calls = 0
    for case in cases:
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            tensors = make_inputs(case, dtype, device)
            for name in OPERATIONS:
                for nu in (0, 1):
                    answer = call(name, case, tensors, backend, nu)
                    assert answer.cpu().isfinite().all(), f"{name}, {case}, {dtype}, order {nu}"
                    calls += 1
    return calls


def find() -> str | None:
    """The tool's path: on PATH, or in the toolkit's usual place."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [shutil.which("compute-sanitizer"), *(f"{home}/bin/compute-sanitizer" for home in homes if home)]
    return next((place for place in places if place and Path(place).exists()), None)


def run(command: list[str], limit: float) -> tuple[int | None, str, float]:
    """(exit code or None past the limit, output, seconds); without PyTorch's caching, so that every tensor has its own bounds."""
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    start = time.monotonic()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
    try:
        output, _ = process.communicate(timeout=limit)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the tool and the program under it
        output, _ = process.communicate()
        code = None
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return code, output, time.monotonic() - start


def verdict(code: int | None, output: str) -> tuple[str, int | None]:
    """(clean, findings, not finished or failed; the number of findings where the tool counts them)."""
    counts = [int(count) for count in SUMMARY.findall(output)]
    found = max(counts, default=None)
    if found or code == FOUND:
        return "findings", found
    if code is None:
        return "not finished", found
    return ("clean", 0) if code == 0 and counts else ("failed", found)


def inspect(tool_path: str, backend: str, tool: str, options: argparse.Namespace) -> dict:
    own = [sys.executable, str(Path(__file__).resolve()), "--program", backend]
    if options.quick or tool == "racecheck":  # which costs many times as much
        own.append("--quick")
    command = [tool_path, "--tool", tool, *TOOLS[tool], "--error-exitcode", str(FOUND), "--print-limit", "20", *own]
    code, output, seconds = run(command, options.left())
    status, found = verdict(code, output)
    lines = [line.replace(f"{ROOT}/", "") for line in output.splitlines() if line.strip()]
    record = {
        "tool": tool,
        "backend": backend,
        "status": status,
        "findings": found,
        "exit_code": code,
        "seconds": round(seconds, 1),
    }
    return record | {"output": lines[-1:] if status == "clean" else lines[:60] + lines[-20:]}


def check(options: argparse.Namespace) -> list[dict]:
    """One record per backend and tool."""
    from fastkan import backends

    tool_path = find()
    if tool_path is None:
        print(ABSENT)
        return [{"tool": tool, "backend": "all", "status": "absent", "findings": None, "output": [ABSENT]} for tool in TOOLS]
    records = []
    for backend in [name for name in backends.available("cuda") if name != "reference"]:
        own = [sys.executable, str(Path(__file__).resolve()), "--program", backend]
        code, output, seconds = run(own, options.left())
        if code != 0:
            what = "not finished" if code is None else "failed"
            tail = output.splitlines()[-30:]
            records.append({"tool": "none", "backend": backend, "status": what, "seconds": round(seconds, 1), "output": tail})
            continue
        records += [inspect(tool_path, backend, tool, options) for tool in TOOLS]
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three cases only")
    parser.add_argument("--limit", type=float, default=150.0, help="seconds for one backend under one tool")
    parser.add_argument("--seconds", type=float, default=600.0, help="for all of them")
    parser.add_argument("--folder", type=Path, help="for the JSON; benchmarks/results/<gpu> by default")
    parser.add_argument("--program", metavar="BACKEND", help="only call the operations (what runs under the tools)")
    parser.add_argument("--device", default="cuda", help="of --program")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    options.left = lambda: max(1.0, min(options.limit, until - time.monotonic()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.program:
        print(f"{program(options.program, options.device, options.quick)} calls")
        return 0
    import torch

    from benchmarks.environment import environment, results_folder

    if not torch.cuda.is_available():
        print("tests/gpu/sanitizer.py: torch sees no CUDA device, so nothing was checked")
        return 1
    found = environment("cuda")
    records = check(options)
    folder = options.folder or results_folder(found)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{date.today().isoformat()}-sanitizer.json"
    path.write_text(json.dumps({"environment": found, "records": records}, indent=1) + "\n", encoding="utf-8")
    for record in records:
        print(f"{record['tool']:10} {record['backend']:10} {record['status']}, findings: {record.get('findings')}")
        if record["status"] not in ("clean", "absent"):
            print("\n".join(f"    {line}" for line in record["output"]))
    print(f"Written: {path}")
    return 0 if all(record["status"] in ("clean", "absent") for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
