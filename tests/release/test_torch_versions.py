"""A core selection of the tests with the oldest torch that fastkan supports and the newest that the index has for this Python.

Each in an environment of its own (5.5 GB where the index gives CUDA builds), with the native module of the checkout, which links
no torch and so serves every version.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import pytest
import torch
from environments import PINS, ROOT, clean_environment, fresh

from fastkan.ops import torch_private

SPACE = 8e9  # bytes that an environment takes while it is made
CORE = (
    "tests/test_functional.py",
    "tests/ops/test_derivatives.py",
    "tests/ops/test_compile.py",
    "tests/ops/test_stack.py",
    "tests/ops/test_transforms.py",
    "tests/nn/test_linear.py",
)
TOOLS = ("numpy", "pytest", "hypothesis", "scipy")


def oldest():
    """torch's lower bound in pyproject.toml, with its patch releases."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (bound,) = (found[1] for line in project["dependencies"] if (found := re.fullmatch(r"torch>=([\d.]+)", line)))
    return f"torch=={bound}.*"


def install(python, torch_wanted, folder):
    """torch_wanted and what the tests import, pinned except for torch and what comes with it."""
    pins = [line for line in PINS.read_text().splitlines() if line.startswith(TOOLS)]
    pinned = folder / "pins.txt"
    pinned.write_text("\n".join(pins))
    command = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "-c", pinned, torch_wanted, *TOOLS]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    if done.returncode:
        pytest.skip(f"pip cannot install {torch_wanted}: {done.stderr.strip().splitlines()[-1]}")


@pytest.mark.proof
@pytest.mark.parametrize("wanted", [oldest(), "torch"], ids=["oldest", "newest"])
def test_core_selection(wanted):
    if (free := shutil.disk_usage(tempfile.gettempdir()).free) < SPACE:
        pytest.skip(f"{wanted} needs {SPACE / 1e9:.0f} GB of disk, {free / 1e9:.1f} GB are free")
    with fresh() as (python, empty):
        install(python, wanted, empty)
        print(
            subprocess.run(
                [python, "-c", "import torch; print('torch', torch.__version__)"], capture_output=True, text=True
            ).stdout
        )
        done = subprocess.run(
            [python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not proof", *CORE],
            cwd=ROOT,
            env=clean_environment() | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
    print(done.stdout[-4000:])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_a_missing_private_name_is_named(monkeypatch):
    monkeypatch.delattr(torch._C, "_will_engine_execute_node")
    with pytest.raises(ImportError) as caught:
        torch_private.private("_C._will_engine_execute_node")
    for part in (torch.__version__, "torch._C._will_engine_execute_node", "torch 2.11 and newer"):
        assert part in str(caught.value)


def test_every_private_name_is_looked_up_at_import():
    """A torch without one of them fails when fastkan is imported, not in the middle of a training run."""
    code = (
        f"import torch\ndel torch._C._functorch.get_interpreter_stack\nimport runpy\nrunpy.run_path({torch_private.__file__!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: torch" in done.stderr and "torch._C._functorch.get_interpreter_stack" in done.stderr
