"""A document of profile.json as text for a person."""

from typing import Any

from fastkan.profile.roofline import BYTES, COUNTS

OTHER_EVENTS = 8
NAME_WIDTH = 70


def digits(value: float) -> str:
    """Four digits, and no power of ten where a person reads one better without."""
    return f"{value:,.0f}" if value >= 1e4 else f"{value:.4g}"


def percent(fraction: float) -> str:
    """Three digits, however small."""
    return f"{100 * fraction:.3g} %"


def headline(document: dict[str, Any]) -> str:
    """The workload and the machine in one line each."""
    w = document["workload"]
    what = "forward" if w["mode"] == "forward" else "forward and backward"
    sizes = f"{w['rows']} rows, {w['in_features']} → {w['out_features']}, G={w['grid_size']}, p={w['degree']}, {w['dtype']}"
    return f"KANLinear {what}: {sizes}\nbackend {w['backend']} on {document['device']}"


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their longest cell, names to the left and numbers to the right."""
    table = (header, *rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) for first, *rest in table]


def _operations(document: dict[str, Any]) -> list[str]:
    header = ("operation", "calls", "ms/call", "GFLOP", "MB", "GFLOP/s", "GB/s", "FLOP/byte", "of roofline")
    rows = []
    for name, row in document["operations"].items():
        time, work, rate = 1e3 * row["seconds"], row["flops"] / 1e9, row["flops_per_second"] / 1e9
        numbers = (time, work, row["bytes"] / 1e6, rate, row["bytes_per_second"] / 1e9, row["intensity"])
        rows.append((name, str(row["calls"]), *map(digits, numbers), percent(row["fraction"])))
    return _table(header, rows)


def _step(document: dict[str, Any]) -> str:
    device, host = document["device_seconds_per_run"], document["host_seconds_per_run"]
    ours = sum(row["seconds"] for row in document["operations"].values())
    if device is None:
        return f"One run takes {digits(1e3 * host)} ms, {percent(ours / host)} of it in these operations."
    return (
        f"The kernels of one run take {digits(1e3 * device)} ms, {percent(ours / device)} of it in these operations; "
        f"the host spends {digits(1e3 * host)} ms on it."
    )


def _others(title: str, events: list[dict[str, Any]], repeats: int) -> list[str]:
    """CUDA kernels or host events: name, the operation they belong to, and how often and how long."""
    header = (title, "in", "calls/run", "ms/call", "ms/run")
    rows = []
    for row in events:
        numbers = (row["calls"] / repeats, 1e3 * row["seconds"], 1e3 * row["total_seconds"] / repeats)
        rows.append((row["name"][:NAME_WIDTH], row["operation"] or "-", *map(digits, numbers)))
    return ["", *_table(header, rows)] if rows else []


def report(document: dict[str, Any]) -> str:
    """Everything measured, how it was counted, and the command lines to look further."""
    peaks, count = document["peaks"], document["count"]
    formula, slots = COUNTS[count]
    lines = [
        headline(document),
        "",
        f"peak     {digits(peaks['flops'] / 1e9)} GFLOP/s: {peaks['how_flops']}",
        f"         {digits(peaks['bandwidth'] / 1e9)} GB/s: {peaks['how_bandwidth']}",
        f"FLOPs    {count}: {formula}",
        f"         ({slots}; evaluating them is not counted)",
        f"bytes    {BYTES}",
        f"time     median of {document['repeats']} runs after warm-up; roofline = min(peak FLOP/s, FLOP/byte * peak bytes/s)",
        "",
        *_operations(document),
        _step(document),
        *_others("CUDA kernel", document["kernels"], document["repeats"]),
        *_others("on the host, without callees", document["host_events"][:OTHER_EVENTS], document["repeats"]),
        "",
        "The same workload under NVIDIA's profilers" + ("" if document["kernels"] else ", on a machine with a GPU") + ":",
        *(f"  {line}" for line in document["commands"].values()),
    ]
    return "\n".join(lines)
