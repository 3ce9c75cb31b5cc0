"""Which tests of the emulated CUDA device and of Triton's interpreter are in `make test`: a spread of the case table.

The rest of them gets the mark `proof`. In every other run the marks stand in the test files.
"""

import pytest
import torch
from contract.cases import ALL_CASES

# Degrees 1, 3, 7, every kind of knots, many outputs, and the GPU's fast path
SPREAD = ALL_CASES[::6] + ALL_CASES[-2:-1]
DTYPES = (torch.float32, torch.bfloat16)
TABLE = "test_backends.py"
SLOW = ("test_deterministic",)


def in_spread(item: pytest.Item) -> bool:
    if item.path.name != TABLE or item.originalname in SLOW:
        return False
    given = item.callspec.params if hasattr(item, "callspec") else {}
    return given.get("case", SPREAD[0]) in SPREAD and given.get("dtype", DTYPES[0]) in DTYPES


def mark_proof(items: list[pytest.Item]) -> None:
    for item in items:
        if not in_spread(item):
            item.add_marker("proof")
