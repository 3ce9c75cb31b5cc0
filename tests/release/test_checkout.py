"""A checkout that was not built, first on sys.path: what a user of the README may run into."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from limits import HANG

ROOT = Path(__file__).parents[2]
# The finders of an editable installation, which the tests run in, would find what the checkout lacks.
START = "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]; sys.path.insert(0, '.')\n"
CALL = START + "import torch, fastkan; print(fastkan.__file__, fastkan.KANLinear(2, 3)(torch.rand(4, 2)).shape)"


@pytest.fixture
def checkout(tmp_path):
    skip = shutil.ignore_patterns("*.so", "_build.json", "__pycache__")
    for folder in ("fastkan", "kernels", "csrc"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=skip)
    return tmp_path


@pytest.mark.parametrize("interpreted", [False, True])
def test_an_unbuilt_checkout_warns_with_the_way_out_and_computes(checkout, interpreted):
    environment = os.environ | {"TRITON_INTERPRET": "1" if interpreted else "0"}
    command = [sys.executable, "-c", CALL]
    result = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False, cwd=checkout, env=environment)
    assert result.returncode == 0, result.stderr
    assert str(checkout) in result.stdout and "torch.Size([4, 3])" in result.stdout
    assert f"fastkan is imported from the checkout {checkout}, which was not built" in result.stderr
    assert "pip install -e ." in result.stderr


def test_the_steps_of_the_readme_import_the_installed_package():
    """The folder that holds the clone is no package, so what pip has installed wins there."""
    text = (ROOT / "README.md").read_text()
    steps = text.split("```bash")[1].split("```")[0]
    assert "pip install ./fastkan" in steps and "cd " not in steps
    assert not (ROOT / "__init__.py").exists()
