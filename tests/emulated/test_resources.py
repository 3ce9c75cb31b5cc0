"""Every CUDA kernel as it was built for every GPU: the hard rules, the committed table, and the budgets of size."""

import re
from pathlib import Path

import pytest
import resources
from emulated import resource_table

from fastkan import backends

ROOT = Path(__file__).resolve().parents[2]
OBSTACLE = resource_table.obstacle()
pytestmark = [pytest.mark.proof, pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))]
MODULE_BYTES = 30 * 2**20


@pytest.fixture(scope="module")
def table():
    return resource_table.make()


def test_hard_rules(table):
    broken = resource_table.violations(table)
    assert not broken, "\n".join(broken)


def test_as_the_committed_table_says(table):
    committed = resource_table.committed()
    if not committed:
        pytest.skip(f"no table for nvcc {resource_table.nvcc_version()}")
    changed = resources.differences(committed, table)
    assert not changed, "\n".join([*changed, "If that is meant: PYTHONPATH=tests python -m emulated.resource_table --write"])


def test_every_kernel_is_built_for_every_architecture(table):
    built = backends.native.module.build_info()["cuda_architectures"].split()
    of_each = {number: {name.split(" | ")[0] for name in table if name.endswith(f"sm_{number}")} for number in built}
    assert all(kernels == of_each[built[0]] for kernels in of_each.values())


def test_instantiations_stay_within_their_budget(table):
    """As csrc/cuda/choice.h states it."""
    budget = int(re.search(r"kInstantiations = (\d+)", (ROOT / "csrc" / "cuda" / "choice.h").read_text())[1])
    assert len({name.split(" | ")[0] for name in table}) == budget


def test_module_stays_small():
    assert Path(backends.native.module.__file__).stat().st_size < MODULE_BYTES
