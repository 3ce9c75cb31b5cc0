"""What an installed fastkan must do, whatever it was installed from: prints what is inside and fails where that does not work."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import torch

import fastkan
from fastkan.tools import info


def results(backend: str) -> list[torch.Tensor]:
    """Output, derivatives in x (first and second) and the gradient of a parameter."""
    torch.manual_seed(0)
    layer = fastkan.KANLinear(5, 4)
    x = torch.linspace(-0.9, 0.9, 35).reshape(7, 5).requires_grad_()
    with fastkan.use_backend(backend):
        y = layer(x)
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x, create_graph=True)
        parameters = torch.autograd.grad(second.square().sum() + y.square().sum(), list(layer.parameters()))
    return [y, first, second, *parameters]


def openmp_runtimes() -> set[str]:
    return {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libgomp" in line}


def main() -> None:
    assert importlib.metadata.version("fastkan") == fastkan.__version__
    report = subprocess.run([sys.executable, "-m", "fastkan", "info"], check=True, capture_output=True, text=True).stdout
    assert fastkan.__version__ in report
    print(report)
    reference = results("reference")
    core = info.collect()["core"]
    print(f"inside          {'CPU core' if core['built'] else 'no CPU core'}", end="")
    print(f", CUDA kernels for {core['cuda_architectures']}" if core.get("cuda_architectures") else ", no CUDA kernels")
    if core["built"]:
        for ours, expected in zip(results("cpu"), reference, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
        assert not sys.platform.startswith("linux") or len(openmp_runtimes()) <= 1, openmp_runtimes()
    print("smoke test      passed")


if __name__ == "__main__":
    main()
