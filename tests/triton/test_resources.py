"""Every kernel compiled for every GPU, without one: the hard rules, and the committed table of what each takes.

The kernels for one GPU are in the first tier of tests, those for the others in the proof.
"""

import os
import subprocess
import sys

import ahead
import pytest
import resource_table
from resources import differences, load
from triton.runtime.jit import JITFunction

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="compiled in the run without the interpreter")
REGENERATE = "If that is meant: python tests/triton/resource_table.py --write"
FIRST = ("sm_90",)  # which every workload is compiled for
OTHERS = tuple(name for name in ahead.ARCHITECTURES if name not in FIRST)


@pytest.fixture(scope="module", params=[FIRST, pytest.param(OTHERS, marks=pytest.mark.proof)], ids=["sm_90", "others"])
def table(request, tmp_path_factory):
    """(GPUs, the table of them made here)."""
    path = tmp_path_factory.mktemp("resources") / "table.json"
    command = [sys.executable, resource_table.__file__, "--to", str(path), "--architectures", *request.param]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return request.param, load(path)


def test_hard_rules(table):
    broken = resource_table.violations(table[1])
    assert not broken, "\n".join(broken)


def test_as_the_committed_table_says(table):
    path = resource_table.table_path()
    if not path.is_file():
        pytest.skip(f"no table for this Triton version ({path.stem})")
    gpus, made = table
    changed = differences(resource_table.committed(gpus), made)
    assert not changed, "\n".join([f"{path.name}: {len(changed)} rows changed", *changed, REGENERATE])


@pytest.mark.parametrize("table", [FIRST], indirect=True, ids=["sm_90"])
def test_every_kernel_is_in_the_table(table):
    from fastkan import kernels

    modules = [module for name, module in sys.modules.items() if name.startswith(f"{kernels.__name__}.")]
    found = {value.fn.__name__ for module in modules for value in vars(module).values() if isinstance(value, JITFunction)}
    assert {name for name in found if name.endswith("_kernel")} == {key.split(" | ")[2].split()[0] for key in table[1]}
