"""Puts the PTX interpreter beside these tests on the import path; nvcc compiles what it runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
SOURCES = Path(__file__).resolve().parents[3] / "csrc"


class Compiler:
    """PTX of CUDA sources, once a session: a file of csrc, or text that includes its headers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sources, self._known = folder, SOURCES, {}

    def ptx(self, source: str, architecture: str = "sm_80", headers: Path = SOURCES) -> str:
        known = source, architecture, headers
        if known not in self._known:
            text = SOURCES / source
            if not source.endswith(".cu"):
                text = self.folder / f"{len(self._known)}.cu"
                text.write_text(source)
            result = self.folder / f"{len(self._known)}.ptx"
            command = ["nvcc", "-std=c++17", "-O3", f"-arch={architecture}", f"-I{headers}", "-ptx", "-o", str(result), str(text)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            self._known[known] = result.read_text()
        return self._known[known]


@pytest.fixture(scope="session")
def compiler(tmp_path_factory):
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not here: there is no PTX to run")
    return Compiler(tmp_path_factory.mktemp("ptx"))
