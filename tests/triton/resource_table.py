"""The table of what every kernel takes of every GPU, compiled without one: python tests/triton/resource_table.py --write

Rows are (workload, GPU, kernel); the figures are those of figures.py. Without --write the differences to the committed
table are printed. One table a Triton version: tests/triton/resources/<version>.json.
"""

import argparse
import contextlib
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))  # also in the worker processes, which import this file

from resources import Table, differences, load, save  # noqa: E402

FOLDER = HERE / "resources"


def compile_one(task: tuple[Any, str]) -> Table:
    """The rows of one workload on one GPU, by kernel."""
    workload, architecture = task
    import ahead
    import figures
    import torch
    import workloads

    from fastkan import experimental, kernels
    from fastkan.kernels import devices

    key = f"{workload} | {architecture}"
    on_it = devices.on(devices.stand_in(architecture))
    unfused = experimental.use(unfused=workload.unfused)
    recorded = ahead.recorded(ahead.target_of(architecture))
    torch.backends.cuda.matmul.fp32_precision = "tf32" if workload.tf32 else "ieee"
    with on_it, unfused, recorded as launches, tempfile.TemporaryFile("w+") as log, _standard_error_to(log.fileno()):
        try:
            getattr(kernels, workload.operation)(*workloads.arguments(workload))
        except Exception as error:  # the row tells, and the other rows are still of interest
            log.seek(0)
            first = next((f"; {line.strip()}" for line in log if "error:" in line), "")
            return {f"{key} | {workload.operation}": {"error": _root(error) + first}}
    rows: Table = {}
    for launch in {launch.compiled.hash: launch for launch in launches}.values():
        again = sum(name.split(" | ")[2].startswith(launch.name) for name in rows)  # one kernel may be launched twice
        name = f"{key} | {launch.name}" + (f" {again + 1}" if again else "")
        rows[name] = {"grid": list(launch.grid), **figures.figures(launch)}
    return rows


@contextlib.contextmanager
def _standard_error_to(descriptor: int) -> Iterator[None]:
    """LLVM prints the whole program there when a pass fails."""
    kept = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _root(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return f"{type(error).__name__}: {str(error)[-500:]}"


def compile_all(architectures: Collection[str]) -> Table:
    """The rows of these GPUs, from workers with an empty cache and without any setting of Triton from the environment."""
    import workloads

    tasks = [(workload, name) for workload in workloads.WORKLOADS for name in workload.architectures if name in architectures]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    workers = ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))
    with (
        tempfile.TemporaryDirectory() as cache,
        mock.patch.dict(os.environ, clean | {"TRITON_CACHE_DIR": cache}, clear=True),
        workers,
    ):
        parts = list(workers.map(compile_one, tasks))
    return {key: row for part in parts for key, row in part.items()}


def violations(table: Table) -> list[str]:
    """Every hard rule that a row breaks, a line each."""
    import rules
    import workloads

    by_name = {str(workload): workload for workload in workloads.WORKLOADS}
    lines = []
    for key, row in table.items():
        name, architecture, kernel = key.split(" | ")
        lines += [f"{key}: {reason}" for reason in rules.broken(by_name[name], architecture, kernel, row)]
    return lines


def committed(architectures: Collection[str]) -> Table:
    """The rows of these GPUs in the committed table of this Triton version."""
    return {key: row for key, row in load(table_path()).items() if key.split(" | ")[1] in architectures}


def table_path() -> Path:
    import triton

    return FOLDER / f"{triton.__version__}.json"


def main() -> int:
    import ahead

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", nargs="+", choices=ahead.ARCHITECTURES, default=ahead.ARCHITECTURES, metavar="sm_90")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="replace these rows of the committed table")
    action.add_argument("--to", type=Path, help="write the table here, and compare nothing")
    options = parser.parse_args()
    table = compile_all(options.architectures)
    if options.to:
        save(options.to, table)
        return 0
    found = violations(table)
    before = committed(options.architectures)
    changed = differences(before, table)
    print(*found, *changed, f"{len(table)} kernels, {len(found)} rules broken, {len(changed)} rows changed", sep="\n")
    if options.write:
        others = {key: row for key, row in load(table_path()).items() if key not in before}
        save(table_path(), others | {key: row for key, row in table.items() if "error" not in row})
    return int(bool(found or (changed and not options.write)))


if __name__ == "__main__":
    sys.exit(main())
