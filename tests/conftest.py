"""Fixtures: backends that serve this machine, seeds, and memory that is NaN until an op writes it."""

import os

import pytest
import torch

from fastkan import backends

EMULATED = os.environ.get("FASTKAN_EMULATED")  # the whole run then tests backend "cuda", on the CPU
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # the whole run then tests the Triton kernels, on the CPU


if INTERPRETED:
    import interpreter  # noqa: F401  repairs its bfloat16
if EMULATED:
    import emulated

    emulated.serve(EMULATED)


def backends_for_cpu():
    if EMULATED:
        return ["cuda"]
    return [name for name in backends.available("cpu") if (name == "triton") == INTERPRETED]


def devices_and_backends():
    """(device, backend) for every backend that serves the CPU, and where there is a GPU the same for it under the `gpu` mark."""
    pairs = [pytest.param("cpu", name, id=f"cpu-{name}") for name in backends_for_cpu()]
    if torch.cuda.is_available():
        pairs += [pytest.param("cuda", name, id=f"cuda-{name}", marks=pytest.mark.gpu) for name in backends.available("cuda")]
    return pairs


def pytest_generate_tests(metafunc):
    if {"device", "backend"} <= set(metafunc.fixturenames):
        metafunc.parametrize(("device", "backend"), devices_and_backends())
    elif "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", backends_for_cpu())


@pytest.fixture(autouse=True)
def reproducible(request):
    """Seed every test, and fill torch.empty with NaN so that an output left unwritten shows."""
    torch.manual_seed(0)
    filled = not request.node.get_closest_marker("gpu")
    torch.use_deterministic_algorithms(filled)
    yield
    torch.use_deterministic_algorithms(False)
