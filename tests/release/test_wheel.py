"""The version, the list of packages, and what make wheel makes."""

import shutil
import subprocess
import sys
import zipfile

import pytest
from environments import ROOT

import fastkan


def sources():
    """The Python files that a wheel must hold, by their names in it."""
    own = {p.relative_to(ROOT).as_posix() for p in (ROOT / "fastkan").rglob("*.py")}
    own = {name for name in own if not name.startswith("fastkan/kernels/")}  # a link to kernels/ in some checkouts
    return own | {f"fastkan/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "kernels").rglob("*.py")}


@pytest.fixture
def wheel(tmp_path):
    """A wheel of Python files alone, made from a copy of what makes them."""
    copy = tmp_path / "copy"
    ignore = shutil.ignore_patterns("*.so", "_build.json", "__pycache__")
    for name in ("fastkan", "kernels"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, copy)
    code = "from setuptools import build_meta; build_meta.build_wheel('..')"
    environment = {"PATH": "", "FASTKAN_NATIVE": "0", "FASTKAN_CUDA": "0"}
    subprocess.run([sys.executable, "-c", code], cwd=copy, env=environment, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.whl")
    return path


def test_wheel_holds_every_python_file_and_the_version(wheel):
    assert wheel.name.split("-")[1] == fastkan.__version__
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if name.endswith(".py")} == sources()
    assert "fastkan/py.typed" in names


def test_version_from_a_bare_checkout():
    """No installed metadata: the package runs from where its files lie."""
    code = "import fastkan; from fastkan.tools import info; print(fastkan.__version__, info.collect()['fastkan'])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert shown.split() == [fastkan.__version__] * 2


@pytest.mark.proof
def test_make_wheel(tmp_path):
    script = ROOT / "tests" / "release" / "wheel.py"
    shown = subprocess.run([sys.executable, script, tmp_path], check=True, capture_output=True, text=True).stdout
    print(shown)
    assert "smoke test      passed" in shown
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert sources() <= set(names)
    assert not [name for name in names if "libgomp" in name]
    assert list(tmp_path.glob("*.tar.gz"))
