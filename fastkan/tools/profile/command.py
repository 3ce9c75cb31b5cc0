"""The command line: options checked once, then the workload measured, drawn, written and printed."""

import argparse
import functools
import importlib.util
import json
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median
from typing import Any

import torch

from fastkan import backends
from fastkan.dtypes import DTYPES
from fastkan.tools import info
from fastkan.tools.profile import draw, measure, peaks, report, roofline
from fastkan.tools.profile.workload import MODES, Workload, command_lines, run_plain


def _whole(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received {text!r}")
    return value


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m fastkan profile`."""
    sizes = {"rows": 1024, "in-features": 256, "out-features": 256, "grid-size": 5, "degree": 3}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=_whole, default=default, metavar="N", help=f"default {default}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtypes = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
    parser.add_argument("--dtype", choices=dtypes, default="float32", help="default float32")
    parser.add_argument("--device", choices=info.DEVICES, default=device, help=f"default {device} on this machine")
    parser.add_argument("--backend", choices=backends.names(), help="default: the first that serves")
    parser.add_argument("--mode", choices=MODES, default="step", help="forward, or step (default): forward and backward")
    parser.add_argument("--repeats", type=_whole, default=20, metavar="N", help="runs that are measured, default 20")
    parser.add_argument("--out", type=Path, default=Path("fastkan-profile"), metavar="FOLDER", help="default fastkan-profile")
    parser.add_argument("--plain", action="store_true", help="run the workload and nothing else, for ncu and nsys")
    parser.add_argument("--nvtx", action="store_true", help="NVTX ranges around steps and operations, with --plain on CUDA")
    parser.set_defaults(parser=parser)


def _workload(arguments: argparse.Namespace) -> Workload:
    """The workload with its backend chosen; the parser's error where this machine or a combination of options cannot serve."""
    fail = arguments.parser.error
    if arguments.device == "cuda" and not torch.cuda.is_available():
        fail("argument --device: expected cpu (torch sees no CUDA device), received cuda")
    if arguments.nvtx and arguments.device != "cuda":
        fail(f"argument --nvtx: expected --device cuda (NVTX ranges need CUDA), received --device {arguments.device}")
    if arguments.nvtx and not arguments.plain:
        fail("argument --nvtx: expected --plain too (torch.profiler reads no NVTX ranges), received --nvtx alone")
    if arguments.out.exists() and not arguments.out.is_dir():
        fail(f"argument --out: expected a folder, received the file {arguments.out}")
    if not arguments.plain and importlib.util.find_spec("matplotlib") is None:
        fail("the roofline is drawn with matplotlib, which is not installed: pip install matplotlib")
    settings = {field.name: getattr(arguments, field.name) for field in fields(Workload)}
    where = torch.device(arguments.device), getattr(torch, arguments.dtype), arguments.degree
    try:
        settings["backend"] = backends.select(backends.resolve(arguments.backend), *where).name
    except RuntimeError as error:
        fail(f"argument --backend: {error}")
    return Workload(**settings)


def measured(workload: Workload, repeats: int, out: Path) -> dict[str, Any]:
    """Everything that profile.json holds; writes trace.json on the way."""
    roof = functools.partial(peaks.measure, workload.device, roofline.product_dtype(workload))
    before = roof()  # and after the workload, so that a disturbance in one of the two does no harm
    events = measure.record(workload, repeats, out / "trace.json")
    times = measure.operation_times(workload, events)
    seconds = {name: median(calls) for name, calls in times.items()}
    found, places = roofline.place_all(workload, seconds, before.faster_of(roof()), roof)
    operations = {name: {"calls": len(times[name]), "seconds": seconds[name], **row} for name, row in places.items()}
    kernels = measure.kernels(events)
    return {
        "workload": asdict(workload),
        "repeats": repeats,
        "device": measure.describe_device(workload.device),
        "peaks": asdict(found),
        "count": roofline.count_of(workload),
        "operations": operations,
        "kernels": kernels,
        "host_events": measure.host_events(events),
        "host_seconds_per_run": measure.host_step(events),
        "device_seconds_per_run": sum(row["total_seconds"] for row in kernels) / repeats if kernels else None,
        "commands": command_lines(workload, repeats, out),
        "environment": info.collect(),
    }


def run(arguments: argparse.Namespace) -> None:
    """Profile the workload that the options describe, or with --plain only run it."""
    workload = _workload(arguments)
    if arguments.plain:
        run_plain(workload, arguments.repeats, arguments.nvtx)
        print(f"ran the workload {arguments.repeats} times: {workload}")
        return
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    document = measured(workload, arguments.repeats, out)
    draw.roofline(document, out / "roofline.png")
    (out / "profile.json").write_text(json.dumps(document, indent=2))
    print(report.report(document))
    print(f"\nWritten to {out}: roofline.png, profile.json, and trace.json for https://ui.perfetto.dev")
