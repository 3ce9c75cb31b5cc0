"""Where and when the figures were made: kept with them, and the name of their folder."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

from fastkan.tools import info

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pykan", "inkan", "scikit-learn")


def processor() -> str:
    """The CPU's name; the kernel's list knows it better than the platform module."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str:
    """The checkout's commit, with "-dirty" if files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return "unknown"
    return result.stdout.strip() or "unknown"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def environment(device: str) -> dict:
    """Everything that a figure may depend on."""
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "gpu": gpu,
        "packages": {package: _version(package) for package in PACKAGES},
        "fastkan": info.collect(),
    }


def machine(found: dict) -> str:
    """A folder name for results: the GPU, else the processor, its cores and, as its name may hide them, its vectors."""
    name = found["gpu"] or f"{found['processor']} {found['cores']} cores {found['fastkan']['cpu_capability']}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def results_folder(found: dict) -> Path:
    """Where the results of this machine lie."""
    return ROOT / "benchmarks" / "results" / machine(found)
