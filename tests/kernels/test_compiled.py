"""Every kernel compiled for every GPU, without one: the hard rules, and the committed table of what each takes."""

import os
import subprocess
import sys

import compile_table
import pytest
from triton.runtime.jit import JITFunction

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="compiled in the run without the interpreter")
REGENERATE = "If that is meant: python tests/kernels/compile_table.py --write"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "table.json"
    command = [sys.executable, compile_table.__file__, "--to", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stderr
    return compile_table.load(path)


def test_hard_rules(table):
    broken = compile_table.violations(table)
    assert not broken, "\n".join(broken)


def test_as_the_committed_table_says(table):
    path = compile_table.table_path()
    if not path.is_file():
        pytest.skip(f"no table for this Triton version ({path.stem})")
    changed = compile_table.differences(compile_table.load(path), table)
    assert not changed, "\n".join([f"{path.name}: {len(changed)} rows changed", *changed, REGENERATE])


def test_every_kernel_is_in_the_table(table):
    from fastkan import kernels

    modules = [module for name, module in sys.modules.items() if name.startswith(f"{kernels.__name__}.")]
    found = {value.fn.__name__ for module in modules for value in vars(module).values() if isinstance(value, JITFunction)}
    assert {name for name in found if name.endswith("_kernel")} == {key.split(" | ")[2].split()[0] for key in table}
