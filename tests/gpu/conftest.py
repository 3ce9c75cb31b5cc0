"""Every test of this folder runs on a GPU, once for each backend that serves it; without a GPU it is skipped by that name."""

import pytest
import torch

from fastkan import backends

REASON = "no backend of this kind serves a GPU here" if torch.cuda.is_available() else "torch sees no CUDA device"
NOBODY = pytest.param("none", marks=pytest.mark.skip(reason=REASON))


def pytest_generate_tests(metafunc):
    """`serving` is any backend that serves CUDA; `fused` leaves out the reference, which materialises the basis."""
    for fixture, excluded in (("serving", ()), ("fused", ("reference",))):
        if fixture in metafunc.fixturenames:
            names = backends.available("cuda") if torch.cuda.is_available() else []
            metafunc.parametrize(fixture, [name for name in names if name not in excluded] or [NOBODY])
