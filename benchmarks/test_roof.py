"""Whether the profiler's roof is high enough: `make overhead`, on a quiet machine.

Not part of the tests: a timing never decides whether they pass.
"""

import pytest

from fastkan.tools.profile import command
from fastkan.tools.profile.workload import Workload


@pytest.mark.parametrize("sizes", [(1024, 256, 256), (512, 64, 64), (2000, 5, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_roof_is_not_raised(sizes, dtype, tmp_path):
    """A roof raised to an operation was measured too low, or the operation's work is counted too high."""
    rows, inputs, outputs = sizes
    case = Workload(rows, inputs, outputs, grid_size=5, degree=3, dtype=dtype, device="cpu", backend="cpu", mode="step")
    found = command.measured(case, 10, tmp_path)["peaks"]
    assert "reached" not in found["how_flops"] and "faster" not in found["how_bandwidths"]
