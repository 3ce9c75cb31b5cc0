"""The roofline of this machine, measured, and the work of each operation beside it (Williams et al., CACM 52(4), 2009)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.benchmark import Timer

from fastkan import backends
from fastkan.precision import compute_dtype
from fastkan.profile.workload import Workload

COUNTS = {
    "local support": ("2 * rows * in_features * (degree + 2) * out_features", "the degree + 1 non-zero splines and the base"),
    "dense": ("2 * rows * in_features * (grid_size + degree + 1) * out_features", "every spline and the base, as in a GEMM"),
}
BYTES = "compulsory traffic: every tensor of the operation read or written once"
GEMM_SIZE = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}  # well past every cache
SECONDS = 0.5  # spent on each measurement, at least


@dataclass(frozen=True)
class Peaks:
    """FLOP/s of a matrix product, bytes/s of a copy, and how they were measured."""

    flops: float
    bandwidth: float
    how_flops: str
    how_bandwidth: str

    def attainable(self, intensity: float) -> float:
        """FLOP/s at an arithmetic intensity in FLOP/byte."""
        return min(self.flops, intensity * self.bandwidth)


def _shortest(statement: str, names: dict[str, Any]) -> tuple[float, int]:
    """Seconds of the fastest repeat, and how many there were."""
    timer = Timer(statement, globals=names, num_threads=torch.get_num_threads())
    times = timer.blocked_autorange(min_run_time=SECONDS).times
    return min(times), len(times)


def by_local_support(workload: Workload) -> bool:
    """Whether its backend multiplies only the degree + 1 splines that are not zero, and the base; else every slot."""
    if workload.backend != "cuda":
        return workload.backend == "cpu"
    ieee = workload.torch_dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision != "tf32"
    fine = workload.grid_size + workload.degree + 1 >= 24
    return workload.torch_dtype == torch.float64 or workload.out_features <= 8 or (ieee and fine)  # csrc/cuda/choice.h


def measure_peaks(workload: Workload) -> Peaks:
    """Peaks of the workload's device, in the dtype its backend multiplies in; TF32 as PyTorch's own settings say."""
    device, dtype = workload.device, workload.torch_dtype
    if (
        by_local_support(workload)
        or not backends.select(workload.backend, torch.device(device), dtype, workload.degree).takes_half
    ):
        dtype = compute_dtype(dtype)
    size, count = GEMM_SIZE[device], COPY_BYTES[device]
    a, b, c = (torch.rand(size, size, device=device).to(dtype) for _ in range(3))
    product, products = _shortest("torch.mm(a, b, out=c)", {"torch": torch, "a": a, "b": b, "c": c})
    source, target = (torch.zeros(count, dtype=torch.uint8, device=device) for _ in range(2))
    copy, copies = _shortest("target.copy_(source)", {"source": source, "target": target})
    return Peaks(
        flops=2 * size**3 / product,
        bandwidth=2 * count / copy,
        how_flops=f"{str(dtype).removeprefix('torch.')} matrix product of {size} x {size}, best of {products}",
        how_bandwidth=f"copy of {count >> 20} MiB, read and write counted once each, best of {copies}",
    )


def count_of(workload: Workload) -> str:
    """Which of COUNTS the FLOPs of this backend are."""
    return "local support" if by_local_support(workload) else "dense"


def flops(workload: Workload, operation: str) -> int:
    """FLOPs of one call: the same for forward, grad_input and grad_weight, twice that for both gradients in one."""
    splines = workload.degree + 1 if count_of(workload) == "local support" else workload.grid_size + workload.degree
    one = 2 * workload.rows * workload.in_features * (splines + 1) * workload.out_features
    return 2 * one if operation == "gradients" else one


def bytes_moved(workload: Workload, operation: str) -> int:
    """Compulsory traffic of one call."""
    B, I, O = workload.rows, workload.in_features, workload.out_features
    itemsize, M = workload.torch_dtype.itemsize, workload.grid_size + workload.degree + 1
    x, y, weight = B * I * itemsize, B * O * itemsize, I * M * O * itemsize  # y stands for grad_output too
    knots = I * (M + workload.degree) * max(itemsize, 4)  # float32 at least
    tensors = {
        "forward": x + weight + y,
        "grad_input": x + weight + y + x,
        "grad_weight": x + y + weight,
        "gradients": x + weight + y + x + weight,
    }
    return knots + tensors[operation]


def place(workload: Workload, operation: str, seconds: float, peaks: Peaks) -> dict[str, float]:
    """One call's FLOPs and bytes, the rates it reached, and the fraction of what the roofline allows."""
    work, traffic = flops(workload, operation), bytes_moved(workload, operation)
    intensity = work / traffic
    return {
        "flops": work,
        "bytes": traffic,
        "flops_per_second": work / seconds,
        "bytes_per_second": traffic / seconds,
        "intensity": intensity,
        "fraction": work / seconds / peaks.attainable(intensity),
    }
