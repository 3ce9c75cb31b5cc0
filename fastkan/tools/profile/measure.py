"""The workload under torch.profiler: seconds per operation, per CUDA kernel, and of everything around them."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from fastkan.ops.table import FUSED_NAME, OPERATIONS
from fastkan.tools.profile.workload import RANGE, Workload

MICRO = 1e-6  # torch.profiler counts in microseconds
NAMES = {f"fastkan::{operation.torch_name}": name for name, operation in OPERATIONS.items()}
NAMES[f"fastkan::{FUSED_NAME}"] = "fused_gradients"


def record(workload: Workload, repeats: int, trace: Path) -> list[FunctionEvent]:
    """What the host did in the repeats after warm-up, CUDA kernels hanging from it; also written as a trace for Perfetto."""
    step = workload.warmed_up()
    workload.synchronize()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (workload.device == "cuda")
    with profile(activities=activities) as profiler:
        for _ in range(repeats):
            with record_function(RANGE):
                step()
        workload.synchronize()
    profiler.export_chrome_trace(str(trace))
    return [event for event in profiler.events() if event.device_type == DeviceType.CPU]


def operation_times(workload: Workload, events: Iterable[FunctionEvent]) -> dict[str, list[float]]:
    """Seconds of every call of every operation: on CUDA the time of its kernels, on the CPU its own."""
    times: dict[str, list[float]] = {name: [] for name in workload.operations}
    for event in events:
        name = NAMES.get(event.name)
        if name in times:
            spent = event.device_time_total if workload.device == "cuda" else event.time_range.elapsed_us()
            times[name].append(spent * MICRO)
    silent = [name for name, calls in times.items() if not any(calls)]
    if silent:
        raise RuntimeError(
            f"torch.profiler: expected time under {', '.join(silent)}, received none; "
            "on CUDA this happens where the driver does not let this user read its counters"
        )
    return times


def _operation_of(event: FunctionEvent | None) -> str | None:
    while event is not None and event.name not in NAMES:
        event = event.cpu_parent
    return NAMES[event.name] if event else None


def _longest_first(times: dict[tuple[str, str | None], list[float]]) -> list[dict[str, Any]]:
    rows = [
        {"name": name, "operation": operation, "calls": len(calls), "seconds": median(calls), "total_seconds": sum(calls)}
        for (name, operation), calls in times.items()
    ]
    return sorted(rows, key=lambda row: -row["total_seconds"])


def kernels(events: Iterable[FunctionEvent]) -> list[dict[str, Any]]:
    """Every CUDA kernel by its name and the fastkan operation that launched it (None: another)."""
    times = defaultdict(list)
    for event in events:
        for kernel in event.kernels:
            if kernel.name != RANGE:  # the profiler's own mark on the GPU's time line
                times[kernel.name, _operation_of(event)].append(kernel.duration * MICRO)
    return _longest_first(times)


def host_events(events: Iterable[FunctionEvent]) -> list[dict[str, Any]]:
    """What else took time on the host, inside our operations or around them (None), by its own time without its callees'."""
    times = defaultdict(list)
    for event in events:
        if event.name not in NAMES:
            times[event.name, _operation_of(event)].append(event.self_cpu_time_total * MICRO)
    return _longest_first(times)


def host_step(events: Iterable[FunctionEvent]) -> float:
    """Median seconds that the host spent on one run of the workload."""
    return median(event.time_range.elapsed_us() * MICRO for event in events if event.name == RANGE)


def describe_device(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"
