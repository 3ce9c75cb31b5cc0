"""The table of what every kernel takes of every GPU, compiled without one: python tests/kernels/compile_table.py --write

Rows are (workload, GPU, kernel); the figures are those of resources.py. Without --write the differences to the committed
table are printed. One table a Triton version: tests/kernels/compiled/<version>.json.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

Table = dict[str, dict[str, Any]]
FOLDER = Path(__file__).resolve().parent / "compiled"


def compile_one(task: tuple[Any, str]) -> Table:
    """The rows of one workload on one GPU, by kernel."""
    workload, architecture = task
    import ahead
    import resources
    import torch
    import workloads

    from fastkan import kernels
    from fastkan.kernels import tiles

    number = int(architecture.removeprefix("sm_")) if architecture.startswith("sm_") else tiles.AMD
    card = tiles.Card(number, workloads.PROCESSORS[architecture])
    key = f"{workload} | {architecture}"
    answers = {"card": card, "architecture": number, "unfused": workload.unfused}
    on_it = mock.patch.multiple(tiles, **{name: mock.Mock(return_value=answer) for name, answer in answers.items()})
    recorded = ahead.recorded(ahead.target_of(architecture))
    torch.backends.cuda.matmul.fp32_precision = "tf32" if workload.tf32 else "ieee"
    with on_it, recorded as launches, tempfile.TemporaryFile("w+") as log, _standard_error_to(log.fileno()):
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
        rows[name] = {"grid": list(launch.grid), **resources.figures(launch)}
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


def compile_all() -> Table:
    """Every row, from worker processes with an empty cache and without any setting of Triton from the environment."""
    import workloads

    tasks = [(workload, architecture) for workload in workloads.WORKLOADS for architecture in workload.architectures]
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


def differences(committed: Table, compiled: Table) -> list[str]:
    """What changed, a line each."""
    lines = [f"{key}: no longer compiled" for key in committed if key not in compiled]
    for key, row in compiled.items():
        if key not in committed:
            lines.append(f"{key}: new")
        elif row != committed[key]:
            names = [name for name in {**committed[key], **row} if committed[key].get(name) != row.get(name)]
            lines.append(f"{key}: " + ", ".join(f"{n} {committed[key].get(n)} -> {row.get(n)}" for n in names))
    return lines


def table_path() -> Path:
    import triton

    return FOLDER / f"{triton.__version__}.json"


def load(path: Path) -> Table:
    return json.loads(path.read_text()) if path.is_file() else {}


def save(path: Path, table: Table) -> None:
    path.parent.mkdir(exist_ok=True)
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in sorted(table.items()))
    path.write_text("{\n" + rows + "\n}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the committed table of this Triton version")
    parser.add_argument("--to", type=Path, help="write the table here, and compare nothing")
    options = parser.parse_args()
    table = compile_all()
    if options.to:
        save(options.to, table)
        return 0
    found = violations(table)
    changed = differences(load(table_path()), table)
    print(*found, *changed, f"{len(table)} kernels, {len(found)} rules broken, {len(changed)} rows changed", sep="\n")
    if options.write:
        save(table_path(), {key: row for key, row in table.items() if "error" not in row})
    return int(bool(found or (changed and not options.write)))


if __name__ == "__main__":
    sys.exit(main())
