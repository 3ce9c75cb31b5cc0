"""Throughput of every backend on an NVIDIA GPU beside cuBLAS and the peers: `python -m benchmarks gpu`."""

import argparse
import signal
import sys
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.environment import results_folder
from benchmarks.gpu import chart, plan, results, supervisor, tables, worker


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu",
        description=__doc__,
        epilog="Prints tables, writes JSON, text and a plot; ends by itself.",
    )
    parser.add_argument("--seconds", type=float, default=420.0, help="then it ends, and what was not reached says so")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: only to try the machinery, with --tiny")
    parser.add_argument("--tiny", action="store_true", help="sizes without meaning, to try the machinery")
    parser.add_argument("--everything", action="store_true", help="leave no peer out of any size and precision")
    parser.add_argument("--precisions", nargs="+", choices=plan.PRECISIONS, default=list(plan.PRECISIONS))
    parser.add_argument("--name", default=f"{date.today().isoformat()}-throughput", help="of the result files")
    parser.add_argument("--folder", type=Path, help="for the result files; benchmarks/results/<gpu> by default")
    parser.add_argument("--resume", type=Path, metavar="JSON", help="measure what an earlier run did not reach")
    parser.add_argument("--plot", type=Path, metavar="JSON", help="only draw and print an earlier run")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def present(document: dict, path: Path) -> None:
    """Print the tables, and write them and the plot beside the JSON."""
    text = tables.report(document)
    path.with_suffix(".txt").write_text(text, encoding="utf-8")
    print(text)
    if find_spec("matplotlib"):
        chart.draw(document, path.with_suffix(".png"))
    else:
        print(f"No plot, for matplotlib is not here: python -m benchmarks gpu --plot {path.name} draws it elsewhere.")
    print(f"Written: {path} and beside it")


def measure(options: argparse.Namespace) -> int:
    if options.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks gpu: torch sees no CUDA device, so nothing was measured")
        return 1
    until = time.time() + options.seconds
    if options.resume:
        path, document = options.resume, results.load(options.resume)
    else:
        settings = {key: getattr(options, key) for key in ("device", "tiny", "everything", "precisions", "seconds")}
        document = results.fresh(settings)
        path = (options.folder or results_folder(document["environment"])) / f"{options.name}.json"
    results.save(document, path)
    supervisor.supervise([sys.executable, "-m", "benchmarks", "gpu", "--worker", str(path)], path, until)
    document = results.load(path)
    present(document, path)
    wrong = [row for row in document["rows"] if row["family"] == "fastkan" and row["status"] in ("wrong", "crashed")]
    return 2 if wrong else 0


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the worker is ended too
    options = options_of(arguments)
    if options.worker:
        worker.work(options.worker, options.until)
        return 0
    if options.plot:
        present(results.load(options.plot), options.plot)
        return 0
    return measure(options)
