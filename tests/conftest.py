"""Fixtures: backends that serve this machine, seeds, and memory that is NaN until an op writes it."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from contract.cases import ABSENT

from fastkan import backends

EMULATED = os.environ.get("FASTKAN_EMULATED")  # the whole run then tests backend "cuda", on the CPU
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # the whole run then tests the Triton kernels, on the CPU

# Minutes of pip and of compilers in one file. They come first: else one of two processes waits for the other at the end.
LONGEST = ("test_torch_versions.py", "test_wheel.py", "test_resources.py", "test_native.py")

if getattr(find_spec("triton"), "origin", None) is None:
    sys.modules["triton"] = None  # not installed: without this the folder tests/triton would pass for it

if INTERPRETED or EMULATED:
    import tiers
if INTERPRETED:
    sys.path.append(str(Path(__file__).parent / "triton"))
    import interpreter  # noqa: F401  repairs its bfloat16
if EMULATED:
    from emulated import device

    device.serve(EMULATED)


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


def pytest_collection_modifyitems(items):
    if INTERPRETED or EMULATED:
        tiers.mark_proof(items)
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_generate_tests(metafunc):
    if {"device", "backend"} <= set(metafunc.fixturenames):
        metafunc.parametrize(("device", "backend"), devices_and_backends())
    elif "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", backends_for_cpu())


@pytest.fixture(autouse=True)
def has_the_operation(request):
    """Skips what a backend is known to have no kernel for. An operation lost by mistake stays an error in every run."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    name, backend = parameters.get("name"), parameters.get("backend")
    if name in ABSENT.get(backend, ()):
        pytest.skip(f"backend {backend!r} has no {name}")


@pytest.fixture(autouse=True)
def fresh_dynamo():
    """Forget what a test compiled: of one function, such as KAN.forward, torch compiles no more than 8 versions in a process."""
    yield
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None and dynamo.utils.counters:
        dynamo.reset()
        dynamo.utils.counters.clear()


@pytest.fixture(autouse=True)
def reproducible(request):
    """Seed every test, and fill torch.empty with NaN so that an output left unwritten shows."""
    torch.manual_seed(0)
    filled = not request.node.get_closest_marker("gpu")
    torch.use_deterministic_algorithms(filled)
    yield
    torch.use_deterministic_algorithms(False)
