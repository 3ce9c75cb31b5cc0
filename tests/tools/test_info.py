"""python -m fastkan info in the set-ups that users have."""

import json
import subprocess
import sys

import pytest

from fastkan import backends
from fastkan.backends import cuda, native
from fastkan.tools import info


def test_command_line():
    result = subprocess.run([sys.executable, "-m", "fastkan", "info"], capture_output=True, text=True, check=True)
    for word in ("fastkan", "torch", "backends, in order of preference", *backends.names()):
        assert word in result.stdout
    as_json = subprocess.run([sys.executable, "-m", "fastkan", "info", "--json"], capture_output=True, text=True, check=True)
    facts = json.loads(as_json.stdout)
    assert set(facts["backends"]) == set(backends.names())
    assert facts["backends"]["reference"]["declines"]["cpu"] is None


def test_unknown_command_says_which_there_are():
    result = subprocess.run([sys.executable, "-m", "fastkan", "fly"], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "info" in result.stderr


@pytest.fixture
def without_native(monkeypatch):
    monkeypatch.setattr(native, "module", None)
    cuda._missing.cache_clear()
    yield monkeypatch
    cuda._missing.cache_clear()


def test_no_compiler(without_native):
    without_native.setattr(native, "build_record", lambda: {"native": False, "reason": "no C++ compiler was found"})
    text = info.report()
    assert text.count("not in this installation: no C++ compiler was found") == 2  # cuda and cpu
    assert "serves cpu" in text.split("reference  ")[1]


def test_no_nvcc(without_native):
    class Core:
        @staticmethod
        def build_info():
            return {"compiler": "GCC 12", "openmp": "201511", "cuda_architectures": None}

    without_native.setattr(native, "module", Core)
    without_native.setattr(native, "build_record", lambda: {"native": True, "cuda": False, "cuda_reason": "nvcc was not found"})
    text = info.report()
    assert "CUDA kernels    left out: nvcc was not found" in text
    assert "built without CUDA: nvcc was not found" in text
    assert "GCC 12, with OpenMP" in text


def test_a_core_that_is_there_but_broken_raises(tmp_path):
    """Only an absent extension is tolerated."""
    code = (
        "import importlib.machinery, importlib.abc, sys\n"
        "class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        return importlib.machinery.ModuleSpec(name, self) if name == 'fastkan._C' else None\n"
        "    def create_module(self, spec): raise ImportError('undefined symbol: boom')\n"
        "    def exec_module(self, module): pass\n"
        "sys.meta_path.insert(0, Broken())\n"
        "import fastkan\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode and "undefined symbol: boom" in result.stderr
