"""The native module on machines without CUDA, and with a driver older than its runtime."""

import shutil
import subprocess

import pytest
import torch

from fastkan import backends
from fastkan.backends import cuda

core = backends.native.module
pytestmark = pytest.mark.skipif(not hasattr(core, "cuda_forward"), reason="the native module was built without CUDA")


def test_the_module_needs_no_cuda_library():
    """The runtime is linked in, and asks for the driver when it is first used."""
    if shutil.which("readelf") is None:
        pytest.skip("readelf was not found")
    needed = subprocess.run(["readelf", "-d", core.__file__], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" in needed and "libcud" not in needed


@pytest.mark.parametrize(
    ("driver", "runtime", "reason"),
    [
        (0, 13000, "no NVIDIA driver"),
        (12080, 13000, "the NVIDIA driver serves CUDA up to 12.8, and the native module was built with CUDA 13.0"),
        (13000, 13010, None),  # minor versions serve each other
        (13010, 13000, None),
        (14000, 13000, None),
    ],
)
def test_what_versions_say(driver, runtime, reason):
    said = core.cuda_driver_reason(driver, runtime)
    assert said is None if reason is None else said.startswith(reason)


def test_an_old_driver_is_the_reason_to_decline(monkeypatch):
    class OldDriver:
        cuda_forward = None

        @staticmethod
        def cuda_unavailable_reason():
            return core.cuda_driver_reason(12080, 13000)

    monkeypatch.setattr(backends.native, "module", OldDriver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cuda._missing.cache_clear()
    try:
        assert "a driver for CUDA 13.0 or later is needed" in cuda.BACKEND.declines(torch.device("cuda"), torch.float32, 3)
    finally:
        cuda._missing.cache_clear()
