"""The work of every operation, counted, and its place under the measured roof (Williams et al., CACM 52(4), 2009)."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fastkan import backends
from fastkan.dtypes import DTYPE_NAMES, compute_dtype
from fastkan.ops.flops import contraction
from fastkan.tools.profile.peaks import Peaks
from fastkan.tools.profile.workload import Workload

NEEDED = "FLOPs, 2 * rows * in_features * (degree + 2) * out_features: the non-zero splines and the activation"
DONE = {
    "vectors": "FLOPs, 2 for every multiplication or multiply-add of the C++ kernels: padding and splines' evaluation included",
    "local support": "FLOPs, as many as needed (evaluation is not counted)",
    "all slots": "FLOPs, 2 * rows * in_features * (grid_size + degree + 1) * out_features: every slot, as in a GEMM",
}
BYTES = "compulsory traffic: every tensor of the operation read or written once"
COUNTS = ("needed", "done")
ATTEMPTS = 3  # to measure a roof that nothing passes


def by_local_support(workload: Workload) -> bool:
    """Whether its backend multiplies only the degree + 1 splines that are not zero, and the base; else every slot."""
    if workload.backend != "cuda":
        return workload.backend == "cpu"
    ieee = workload.torch_dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision != "tf32"
    fine = workload.grid_size + workload.degree + 1 >= 24
    return workload.torch_dtype == torch.float64 or workload.out_features <= 8 or (ieee and fine)  # csrc/cuda/choice.h


def product_dtype(workload: Workload) -> torch.dtype:
    """What its backend multiplies in."""
    dtype = workload.torch_dtype
    backend = backends.select(workload.backend, torch.device(workload.device), dtype, workload.degree)
    return compute_dtype(dtype) if by_local_support(workload) or not backend.takes_16_bit else dtype


def count_of(workload: Workload) -> str:
    """Which of DONE its backend does."""
    if workload.backend == "cpu":
        return "vectors"
    return "local support" if by_local_support(workload) else "all slots"


def _contractions(workload: Workload, operation: str, slots: int) -> int:
    """FLOPs of one call with that many slots: fused_gradients makes two operations, grad_input and grad_weight."""
    one = contraction(workload.rows, workload.in_features, slots, workload.out_features)
    return 2 * one if operation == "fused_gradients" else one


def needed(workload: Workload, operation: str) -> int:
    """FLOPs of one call as the mathematics has it; fastkan/ops/flops.py counts the same."""
    return _contractions(workload, operation, workload.degree + 2)


def done(workload: Workload, operation: str) -> int:
    """FLOPs of one call as the backend makes it."""
    p, G = workload.degree, workload.grid_size
    if count_of(workload) == "vectors":
        sizes = workload.rows, workload.in_features, workload.out_features, G + 2 * p + 1
        return 2 * backends.native.module.cpu_multiplications(operation, *sizes, p, DTYPE_NAMES[product_dtype(workload)])
    return _contractions(workload, operation, p + 2 if count_of(workload) == "local support" else G + p + 1)


def bytes_moved(workload: Workload, operation: str) -> int:
    """Compulsory traffic of one call."""
    B, I, O = workload.rows, workload.in_features, workload.out_features
    itemsize, M = workload.torch_dtype.itemsize, workload.grid_size + workload.degree + 1
    x, y, weight = B * I * itemsize, B * O * itemsize, I * M * O * itemsize  # y stands for grad_output too
    knots = I * (M + workload.degree) * max(itemsize, 4)  # float32 at least
    tensors = {
        "forward": x + weight + y,
        "fused_gradients": x + weight + y + x + weight,
    }
    return knots + tensors[operation]


def place(workload: Workload, operation: str, seconds: float, peaks: Peaks) -> dict[str, Any]:
    """One call's bytes and FLOPs, needed and done, the rates it reached, and the fractions of what the roofline allows.

    The splines sum to 1, and their derivatives to 0. So one of the degree + 2 multiply-adds of an edge may be an addition, which
    takes nothing from the multiply-adds: of needed FLOPs, the peak is higher by that one.
    """
    p, traffic = workload.degree, bytes_moved(workload, operation)
    bandwidth = peaks.bandwidth(traffic)
    row: dict[str, Any] = {"bytes": traffic, "bytes_per_second": traffic / seconds, "bandwidth": bandwidth}
    works = {
        "needed": (needed(workload, operation), peaks.flops * (p + 2) / (p + 1)),
        "done": (done(workload, operation), peaks.flops),
    }
    for count, (flops, peak) in works.items():
        rate, intensity = flops / seconds, flops / traffic
        row[count] = {
            "flops": flops,
            "flops_per_second": rate,
            "intensity": intensity,
            "roof": min(peak, intensity * bandwidth),
            "fraction": max(rate / peak, traffic / seconds / bandwidth),
        }
    return row


def _is_above(row: dict[str, Any]) -> bool:
    return any(row[count]["fraction"] > 1 for count in COUNTS)


def place_all(
    workload: Workload, seconds: Mapping[str, float], peaks: Peaks, measure_again: Callable[[], Peaks]
) -> tuple[Peaks, dict[str, dict[str, Any]]]:
    """Every operation under the roof, and the roof. Nothing is above it.

    An operation above the roof shows that something disturbed the measurement of the roof. Then the roof is measured again and,
    if that does not help, raised to what the operation reached, and says so.
    """
    for attempt in range(ATTEMPTS):
        rows = {name: place(workload, name, time, peaks) for name, time in seconds.items()}
        if not any(map(_is_above, rows.values())):
            return peaks, rows
        if attempt + 1 < ATTEMPTS:
            peaks = peaks.faster_of(measure_again())
    for name, row in rows.items():
        peaks = peaks.raised(name, row["done"]["flops_per_second"], row["bytes"], row["bytes_per_second"])
    return peaks, {name: place(workload, name, time, peaks) for name, time in seconds.items()}
