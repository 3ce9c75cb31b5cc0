"""What every compiled kernel must keep, whatever the committed table says."""

import math
from typing import Any

from workloads import ISSUE_CEILING, LARGE, Workload

from fastkan.kernels import tiles
from fastkan.kernels.devices import ARCHITECTURES

PRODUCTS = ("forward", "grad_input", "grad_weight")  # operations that are one large matrix product
GRID_LIMIT = (2**31 - 1, 65535, 65535)


def broken(workload: Workload, architecture: str, kernel: str, row: dict[str, Any]) -> list[str]:
    """The rules that a row breaks, each with the figure that breaks it."""
    if "error" in row:
        return [f"does not compile: {row['error']}"]
    reasons = [f"{name} {row[name]}, allowed 0" for name in ("spills", "local", "overwritten", "unguarded") if row.get(name)]
    gpu = ARCHITECTURES[architecture]
    if row["shared"] > gpu.shared:
        reasons.append(f"shared memory {row['shared']}, limit {gpu.shared}")
    if row.get("tensor_memory", 0) > gpu.tensor_memory:
        reasons.append(f"tensor memory {row['tensor_memory']}, limit {gpu.tensor_memory}")
    if architecture.startswith("sm_") and not 24 < row["registers"] <= 255:
        reasons.append(f"registers {row['registers']}: a body this small is empty, as when tensor memory has run out")
    if any(size > limit for size, limit in zip(row["grid"], GRID_LIMIT, strict=False)):
        reasons.append(f"grid {row['grid']}, limit {GRID_LIMIT}")
    if any(f"{name}_kernel" in kernel for name in PRODUCTS) and workload.dtype in ("bfloat16", "float16"):
        reasons += _slow(workload, architecture, kernel, row)
    return reasons


def _slow(workload: Workload, architecture: str, kernel: str, row: dict[str, Any]) -> list[str]:
    reasons = []
    wanted = {ARCHITECTURES[architecture].matrix}
    if tiles.small(workload.B, workload.I, workload.O) and architecture.startswith("sm_"):
        wanted.add("HMMA")  # tiles of 16 or 32 rows; HGMMA and UTCHMMA take 64 at least
    kind = row["loop_matrix"] if "loop_matrix" in row else row["matrix"]
    if kind.split()[-1] not in wanted:
        reasons.append(f"matrix products of the hottest loop by {kind}, expected {' or '.join(sorted(wanted))}")
    ceiling = ISSUE_CEILING.get(kernel, math.inf)
    if architecture == "sm_90" and (workload.B, workload.I, workload.O) == LARGE and row["loop_issue"] > ceiling:
        reasons.append(f"{row['loop_issue']} instructions a clock of matrix product, ceiling {ceiling}")
    return reasons
