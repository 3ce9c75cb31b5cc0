"""The document on disk, whole after every mode: whoever kills a run loses at most the mode at hand."""

import subprocess
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.document import Row, read, write
from benchmarks.environment import environment
from benchmarks.gpu import plan
from benchmarks.gpu.plan import Group
from benchmarks.memory import Probe

METHOD = (
    "Medians with 20 % and 80 % quantiles of interleaved rounds in rotating order; speeds are medians of the rounds' ratios. "
    "Calls under 1 ms are replayed from CUDA graphs, and timed again as launched from Python; cold L2: after overwriting a "
    "buffer twice the cache. Random data. Every KAN layer was checked against float64 on a sample of rows and inputs before "
    "its time counts. Memory: peak allocated beyond parameters, input and results. The ceiling is one cuBLAS product of equal "
    "FLOPs with all slots given (rows B, columns O, contraction I*M), three of them for a training step."
)
STATE = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "utilization.gpu")
LIMITS = ("name", "driver_version", "clocks.max.sm", "clocks.max.mem", "power.limit", "memory.total")
NOT_REACHED = "not reached"
MISSING = Probe(NOT_REACHED, "the run ended before")
COMMON = ("case", "batch", "in_features", "out_features", "grid_size", "degree", "dtype", "device", "mode", "peer", "family")
VERDICT, QUANTILES = ("status", "reason"), ("p20", "p50", "p80")
Key = tuple[str, str, str]  # case, precision, mode


def nvidia_smi(fields: tuple[str, ...], index: int = 0) -> dict[str, str] | None:
    """What nvidia-smi says of a GPU; None where it does not answer."""
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(fields, map(str.strip, result.stdout.splitlines()[0].split(",")), strict=False))


def gpu_facts(device: str) -> dict | None:
    if device != "cuda":
        return None
    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "compute_capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "memory_bytes": found.total_memory,
        "l2_bytes": found.L2_cache_size,
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),
        "nvidia_smi": nvidia_smi(LIMITS),
        "idle": nvidia_smi(STATE),
    }


def fresh(settings: dict) -> dict:
    device = settings["device"]
    found = environment(device) | {"gpu_facts": gpu_facts(device)}
    lists = {"crashed": [], "states": [], "rows": []}
    return {"complete": False, "method": METHOD, "environment": found, "settings": settings, **lists}


def wanted(settings: dict) -> list[tuple[Group, str]]:
    """Every mode to measure, the important first."""
    sizes = plan.TINY if settings["tiny"] else plan.SIZES
    found = plan.groups(sizes, tuple(settings["precisions"]))
    return [(group, mode) for group in found for mode in plan.ORDER]


def key(group: Group, mode: str) -> Key:
    return group.size.name, group.precision, mode


def done(document: dict) -> set[Key]:
    """Modes of which nothing is left to do."""
    keys = [((row["case"], row["dtype"], row["mode"]), row["status"]) for row in document["rows"]]
    return {name for name, _ in keys} - {name for name, status in keys if status == NOT_REACHED}


def placeholder(group: Group, mode: str, device: str, found: Probe = MISSING) -> dict:
    """The one row of a mode that nobody came to, or could come to."""
    size = group.size
    sizes = (size.batch, size.in_features, size.out_features, size.grid_size, 3)
    who = (group.precision, device, mode, "everybody", "")
    return asdict(Row(size.name, *sizes, *who, "time", "s", status=found.status, reason=found.reason))


def add(document: dict, rows: list[dict]) -> None:
    """The rows of one mode, in place of what was there."""
    new = {(row["case"], row["dtype"], row["mode"]) for row in rows}
    document["rows"] = [row for row in document["rows"] if (row["case"], row["dtype"], row["mode"]) not in new] + rows


# ---- rows as lines: all metrics of one peer on one, numbers to five digits, so that the file stays small


def _number(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def pack(rows: list[dict]) -> list[dict]:
    packed: dict[tuple, dict] = {}
    for row in rows:
        place = tuple(row[name] for name in ("case", "dtype", "mode", "peer"))
        common = {name: row[name] for name in (*COMMON, *VERDICT)}
        line = packed.setdefault(place, common | {"metrics": {}})
        if row["reason"]:
            line["reason"] = row["reason"]
        line["metrics"][row["metric"]] = [row["unit"], *(_number(row[name]) for name in QUANTILES), row["count"]]
    return list(packed.values())


def unpack(lines: list[dict]) -> list[dict]:
    rows = []
    for line in lines:
        common = {name: line[name] for name in COMMON}
        for metric, (unit, *quantiles, count) in line["metrics"].items():
            verdict = {name: line[name] for name in VERDICT} if metric == "time" else {}
            values = dict(zip(QUANTILES, quantiles, strict=True))
            rows.append(asdict(Row(**common, metric=metric, unit=unit, **values, count=count, **verdict)))
    return rows


def save(document: dict, path: Path) -> None:
    """A placeholder row for every mode not there yet."""
    there = {(row["case"], row["dtype"], row["mode"]) for row in document["rows"]}
    settings = document["settings"]
    missing = [(group, mode) for group, mode in wanted(settings) if key(group, mode) not in there]
    for group, mode in missing:
        document["rows"].append(placeholder(group, mode, settings["device"]))
    order = [key(group, mode) for group, mode in wanted(settings)]
    document["rows"].sort(key=lambda row: order.index((row["case"], row["dtype"], row["mode"])))
    document["complete"] = len(done(document)) == len(wanted(settings))
    write(document | {"rows": pack(document["rows"])}, path)


def load(path: Path) -> dict:
    document = read(path)
    return document | {"rows": unpack(document["rows"])}
