"""What the tests of the native module share."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def core() -> ModuleType:
    return pytest.importorskip("fastkan._C", reason="fastkan was built without its native module")


@pytest.fixture(scope="session")
def built() -> Path:
    """The newest build folder that an editable install has left."""
    folders = {
        path.parents[5] for path in HERE.parents[1].glob("build/native-*/CMakeFiles/fastkan_isa_avx2.dir/csrc/cpu/simd/*.o")
    }
    if not folders:
        pytest.skip("no objects of a build for x86-64 here")
    return max(folders, key=lambda folder: folder.stat().st_mtime) / "CMakeFiles"
