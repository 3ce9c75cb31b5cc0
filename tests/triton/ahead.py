"""Kernels for a GPU that is not there: what the launch functions launch is compiled and recorded, not run.

The launch code itself decides every specialisation (divisibility, constexprs, warps, stages), as it would with a GPU. Tensors
may live on the CPU or on the meta device, where a large shape takes no memory. TRITON_INTERPRET must be unset.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime.jit import JITFunction

from fastkan.kernels import devices

ARCHITECTURES = tuple(devices.ARCHITECTURES)


def target_of(architecture: str) -> GPUTarget:
    if architecture.startswith("sm_"):
        return GPUTarget("cuda", int(architecture.removeprefix("sm_")), 32)
    return GPUTarget("hip", architecture, 64)


@dataclass(frozen=True)
class Launch:
    """One launch: the kernel, its grid, its arguments that are no tensors, its binary and what ptxas said of it."""

    name: str
    grid: tuple[int, ...]
    settings: dict[str, Any]
    compiled: CompiledKernel
    assembler_log: str


class AbsentDriver:
    """The driver of a GPU that is not there. Its device number is the target itself: Triton caches binaries per device."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> GPUTarget:
        return self.target

    def get_current_stream(self, device: Any = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    @staticmethod
    def is_active() -> bool:
        return True


_assembler_logs: dict[str, str] = {}  # by hash of the binary: a second launch finds it compiled, and ptxas says nothing


def _compile(run: Any, kernel: JITFunction, arguments: tuple, keywords: dict[str, Any], grid: Any) -> Launch:
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        compiled = run(kernel, *arguments, grid=grid, warmup=True, **keywords)
    _assembler_logs.setdefault(compiled.hash, log.getvalue())
    bound = kernel.signature.bind(*arguments, **{k: v for k, v in keywords.items() if k in kernel.arg_names}).arguments
    sizes = tuple(grid(bound) if callable(grid) else grid)
    settings = {name: value for name, value in bound.items() if not isinstance(value, torch.Tensor)}
    return Launch(kernel.fn.__name__, sizes, settings, compiled, _assembler_logs[compiled.hash])


@contextlib.contextmanager
def recorded(target: GPUTarget) -> Iterator[list[Launch]]:
    """Every kernel launch inside the block is compiled for `target` and appended to the list; nothing runs."""
    launches: list[Launch] = []
    run, driver = JITFunction.run, triton.runtime.driver._active

    def compile_only(kernel: JITFunction, *arguments: Any, grid: Any, warmup: bool, **keywords: Any) -> CompiledKernel:
        launches.append(_compile(run, kernel, arguments, keywords, grid))
        return launches[-1].compiled

    JITFunction.run = compile_only
    triton.runtime.driver.set_active(AbsentDriver(target))
    try:
        with triton.knobs.nvidia.scope(), triton.knobs.compilation.scope():
            triton.knobs.nvidia.dump_ptxas_log = True
            triton.knobs.compilation.always_compile = True  # a binary from the disk cache would come without its log
            yield launches
    finally:
        JITFunction.run = run
        triton.runtime.driver._active = driver
