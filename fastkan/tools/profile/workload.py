"""What is profiled: one KANLinear of given sizes, forward alone or a training step, and the same outside torch.profiler."""

import contextlib
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from fastkan.nn import KANLinear

MODES = ("forward", "step")
WARM_UP = 3
RANGE = "fastkan step"


@dataclass(frozen=True)
class Workload:
    """One layer and its samples; every field is an option of the command line. backend is a name, never None."""

    rows: int
    in_features: int
    out_features: int
    grid_size: int
    degree: int
    dtype: str
    device: str
    backend: str
    mode: str

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def operations(self) -> tuple[str, ...]:
        """What the mode runs (docs/design.md, section 3)."""
        return ("forward",) if self.mode == "forward" else ("forward", "fused_gradients")

    def warmed_up(self) -> Callable[[], None]:
        """A function that runs the workload once, after WARM_UP runs: layer(x) without gradients, or forward and backward."""
        device, dtype = torch.device(self.device), self.torch_dtype
        layer = KANLinear(
            self.in_features,
            self.out_features,
            grid_size=self.grid_size,
            degree=self.degree,
            backend=self.backend,
            device=device,
            dtype=dtype,
        )
        x = torch.rand(self.rows, self.in_features, device=device, dtype=dtype).mul_(2).sub_(1)  # on the grid
        grad_output = torch.randn(self.rows, self.out_features, device=device, dtype=dtype)

        def forward() -> None:
            with torch.no_grad():
                layer(x)

        def step() -> None:
            layer.zero_grad()
            x.grad = None
            layer(x).backward(grad_output)

        x.requires_grad_(self.mode == "step")
        run = step if self.mode == "step" else forward
        for _ in range(WARM_UP):
            run()
        return run

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def run_plain(workload: Workload, repeats: int, nvtx: bool) -> None:
    """The workload for another profiler: only the repeats lie between cudaProfilerStart and cudaProfilerStop.

    With nvtx, every step and every operation in it (forward, backward and what PyTorch adds) is an NVTX range.
    """
    step = workload.warmed_up()
    workload.synchronize()
    with contextlib.ExitStack() as stack:
        if workload.device == "cuda":
            stack.enter_context(torch.cuda.profiler.profile())
        stack.enter_context(torch.autograd.profiler.emit_nvtx(enabled=nvtx))
        for _ in range(repeats):
            with torch.cuda.nvtx.range(RANGE) if nvtx else contextlib.nullcontext():
                step()
        workload.synchronize()


def command_lines(workload: Workload, repeats: int, out: Path) -> dict[str, str]:
    """Shell lines that show the same workload to Nsight Compute and Nsight Systems, which see only what runs on a GPU."""
    settings = asdict(workload) | {"device": "cuda"}
    if workload.backend == "cpu":
        del settings["backend"]  # the first that serves CUDA
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    python = [sys.executable, "-m", "fastkan", "profile", "--plain", *options]
    ncu = ["ncu", "--profile-from-start", "off", "--set", "full", "--force-overwrite", "--export", str(out / "ncu")]
    nsys = ["nsys", "profile", "--capture-range=cudaProfilerApi", "--capture-range-end=stop", "--trace=cuda,nvtx"]
    nsys += ["--force-overwrite=true", f"--output={out / 'nsys'}"]
    return {
        "ncu": shlex.join([*ncu, *python, "--repeats=1"]),  # ncu replays every kernel many times
        "nsys": shlex.join([*nsys, *python, f"--repeats={repeats}", "--nvtx"]),
    }
