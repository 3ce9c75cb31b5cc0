"""What is installed and which backends serve, with the reason where one does not."""

import os
import platform
from importlib import metadata
from typing import Any

import numpy
import torch

import fastkan
from fastkan import backends

DEVICES = ("cpu", "cuda")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _core() -> dict[str, Any]:
    if backends.native.module is None:
        return {"built": False}
    return {
        "built": True,
        **backends.native.module.build_info(),
        "cuda_reason": backends.native.build_record().get("cuda_reason"),
    }


def collect() -> dict[str, Any]:
    """Versions, devices, the native module and every backend with the devices it serves and the reasons where not."""
    table = {}
    for backend in backends.table():
        reasons = {device: backend.declines(torch.device(device), torch.float32, 3) for device in DEVICES}
        if not torch.cuda.is_available():
            reasons["cuda"] = reasons["cuda"] or "torch sees no CUDA device"
        table[backend.name] = {"what": backend.what, "declines": reasons}
    return {
        "fastkan": fastkan.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "triton": _version("triton"),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())] if torch.cuda.is_available() else [],
        "core": _core(),
        "backends": table,
        "FASTKAN_BACKEND": os.environ.get("FASTKAN_BACKEND"),
    }


def _core_lines(core: dict[str, Any]) -> list[str]:
    if not core["built"]:
        return ["native module   not there, see cpu below"]
    openmp = "with OpenMP" if core["openmp"] else "without OpenMP, so one thread"
    architectures = core["cuda_architectures"]
    cuda = f"sm_{architectures.replace(' ', ' sm_')}" if architectures else f"left out: {core['cuda_reason']}"
    return [f"native module   {core['compiler']}, {openmp}", f"CUDA kernels    {cuda}"]


def report() -> str:
    """collect() as text for a person or a bug report."""
    facts = collect()
    lines = [
        f"fastkan         {facts['fastkan']}",
        f"python          {facts['python']} on {facts['platform']}",
        f"torch           {facts['torch']}, numpy {facts['numpy']}, triton {facts['triton']}",
        f"CPU             {facts['cpu_capability']}, {facts['threads']} threads",
        f"GPUs            {', '.join(facts['gpus']) or 'none that torch sees'}",
        *_core_lines(facts["core"]),
        f"FASTKAN_BACKEND {facts['FASTKAN_BACKEND'] or 'not set: the first backend that serves'}",
        "",
        "backends, in order of preference",
    ]
    for name, row in facts["backends"].items():
        serving = [device for device, reason in row["declines"].items() if reason is None]
        lines.append(f"  {name:10} {row['what']}: {'serves ' + ' and '.join(serving) if serving else 'serves nothing here'}")
        own = "cpu" if name in ("cpu", "reference") else "cuda"  # the device a reader expects of it
        if own not in serving:
            lines.append(f"  {'':10} {own}: {row['declines'][own]}")
    return "\n".join(lines)
