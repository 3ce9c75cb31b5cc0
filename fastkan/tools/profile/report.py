"""A document of profile.json as text for a person."""

from typing import Any

from fastkan.tools.profile.roofline import BYTES, COUNTS, DONE, NEEDED

OTHER_EVENTS = 8
NAME_WIDTH = 70


def digits(value: float) -> str:
    """Four digits, and no power of ten where a person reads one better without."""
    return f"{value:,.0f}" if value >= 1e4 else f"{value:.4g}"


def percent(fraction: float) -> str:
    """Three digits, however small."""
    return f"{100 * fraction:.3g} %"


def size(count: int) -> str:
    """Bytes, a whole number of KiB."""
    return f"{count >> 20} MiB" if count % 2**20 == 0 else f"{count >> 10} KiB"


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
    """For each two lines, as its FLOPs are counted in two ways."""
    header = ("operation", "calls", "ms/call", "MB", "GB/s", "FLOPs", "GFLOP", "FLOP/byte", "GFLOP/s", "roof", "of roof")
    rows = []
    for name, row in document["operations"].items():
        own = digits(1e3 * row["seconds"]), digits(row["bytes"] / 1e6), digits(row["bytes_per_second"] / 1e9)
        first: tuple[str, ...] = (name, str(row["calls"]), *own)
        for count in COUNTS:
            work = row[count]
            numbers = (work["flops"] / 1e9, work["intensity"], work["flops_per_second"] / 1e9, work["roof"] / 1e9)
            rows.append((*first, count, *map(digits, numbers), percent(work["fraction"])))
            first = ("",) * len(first)
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
    peaks, p = document["peaks"], document["workload"]["degree"]
    levels = ", ".join(f"{size(count)} {digits(rate / 1e9)}" for count, rate in peaks["bandwidths"])
    lines = [
        headline(document),
        "",
        f"peak     {digits(peaks['flops'] / 1e9)} GFLOP/s: {peaks['how_flops']}, best of {peaks['rounds']} rounds",
        f"GB/s of  {levels}",
        f"         ({peaks['how_bandwidths']}, best of {peaks['rounds']} rounds)",
        f"needed   {NEEDED}",
        f"done     {DONE[document['count']]}",
        f"bytes    {BYTES}",
        f"time     median of {document['repeats']} runs after warm-up",
        "roof     min(peak, FLOP/byte * GB/s of as many bytes); the peak of needed FLOPs is "
        f"{p + 2}/{p + 1} of it (one multiply-add may be an addition)",
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
