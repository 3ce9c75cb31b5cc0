"""Builds fastkan: the Python package always, its native module fastkan/_C where a C++ compiler is there.

Environment:
    FASTKAN_NATIVE = 0 | 1 | auto (default)    never, required, or where a C++ compiler, CMake and Ninja are found
    FASTKAN_CUDA   = 0 | 1 | auto (default)    the same for csrc/cuda and nvcc
    FASTKAN_CUDA_ARCHITECTURES                 default: those of 80;90;100;120 that nvcc knows
    CXX, CUDACXX, CUDA_HOME                    which compilers
A compiler that is there and fails stops the installation. fastkan/_build.json records what was decided and why.
"""

import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CUDA_ARCHITECTURES = ("80", "90", "100", "120")


def choice(variable: str) -> str:
    value = os.environ.get(variable, "auto").lower()
    if value not in ("0", "1", "auto"):
        raise SystemExit(f"fastkan: {variable} must be 0, 1 or auto, got {value!r}")
    return value


def decide(variable: str, obstacle: str | None) -> str | None:
    """Why a part is left out, or None; an obstacle to a required part ends the installation."""
    wanted = choice(variable)
    if wanted == "0":
        return f"{variable}=0"
    if wanted == "1" and obstacle:
        raise SystemExit(f"fastkan: {variable}=1, but {obstacle}")
    return obstacle


def native_obstacle() -> str | None:
    named = os.environ.get("CXX")
    if named and not shutil.which(shlex.split(named)[0]):
        raise SystemExit(f"fastkan: CXX={named!r} is not a program")
    if not named and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        return "no C++ compiler was found"
    for tool in ("cmake", "ninja"):
        if not shutil.which(tool):
            return f"{tool} was not found"
    return None if importlib.util.find_spec("pybind11") else "pybind11 was not found"


def find_nvcc() -> str | None:
    if "CUDACXX" in os.environ:
        return shutil.which(os.environ["CUDACXX"])
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
    return shutil.which("nvcc") or shutil.which(str(Path(home, "bin", "nvcc")))


def architectures(nvcc: str) -> str:
    if "FASTKAN_CUDA_ARCHITECTURES" in os.environ:
        return os.environ["FASTKAN_CUDA_ARCHITECTURES"]
    known = subprocess.run([nvcc, "--list-gpu-arch"], check=True, capture_output=True, text=True).stdout.split()
    return ";".join(number for number in CUDA_ARCHITECTURES if f"compute_{number}" in known)


def plan() -> dict[str, object]:
    reason = decide("FASTKAN_NATIVE", native_obstacle() if choice("FASTKAN_NATIVE") != "0" else None)
    nvcc = find_nvcc()
    cuda_reason = decide("FASTKAN_CUDA", reason or (None if nvcc else "nvcc was not found"))
    return {
        "native": reason is None,
        "reason": reason,
        "cuda": cuda_reason is None,
        "cuda_reason": cuda_reason,
        "cuda_architectures": architectures(nvcc) if nvcc and cuda_reason is None else None,
    }


PLAN = plan()


class CMakeBuild(build_ext):
    """Builds the extension with CMake and Ninja, incrementally, in one directory for each set of choices."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        key = [PLAN, os.environ.get("CXX"), find_nvcc(), sysconfig.get_config_var("EXT_SUFFIX")]
        build = ROOT / "build" / f"native-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]}"
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        settings = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_MAKE_PROGRAM": shutil.which("ninja"),
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": target,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "FASTKAN_CUDA": "ON" if PLAN["cuda"] else "OFF",
        }
        if PLAN["cuda"]:
            settings |= {"CMAKE_CUDA_COMPILER": find_nvcc(), "FASTKAN_CUDA_ARCHITECTURES": PLAN["cuda_architectures"]}
        options = [f"-D{name}={value}" for name, value in settings.items()]
        try:
            subprocess.run(["cmake", "-G", "Ninja", "-S", ROOT, "-B", build, *options], check=True)
            subprocess.run(["cmake", "--build", build], check=True)
        except subprocess.CalledProcessError as error:
            hint = "FASTKAN_CUDA=0 leaves CUDA out, " if PLAN["cuda"] else ""
            raise SystemExit(f"fastkan: the native module did not build; {hint}FASTKAN_NATIVE=0 all of it") from error


class BuildPy(build_py):
    """Adds the record of the plan to the package, in place for an editable install."""

    def run(self) -> None:
        super().run()
        package = ROOT / "fastkan" if self.editable_mode else Path(self.build_lib, "fastkan")
        package.mkdir(parents=True, exist_ok=True)
        (package / "_build.json").write_text(json.dumps(PLAN, indent=2) + "\n")
        if self.editable_mode and not PLAN["native"]:
            for stale in [*package.glob("_C.*.so"), *package.glob("_C.*.pyd")]:
                stale.unlink()


def packages() -> list[str]:
    """Those of fastkan/, and kernels/ as fastkan.kernels, which an editable install may show inside fastkan/ too."""
    own = find_packages(str(ROOT), include=["fastkan", "fastkan.*"], exclude=["fastkan.kernels*"])
    return [*own, "fastkan.kernels", *(f"fastkan.kernels.{name}" for name in find_packages(str(ROOT / "kernels")))]


setup(
    packages=packages(),
    package_dir={"fastkan.kernels": "kernels"},
    ext_modules=[Extension("fastkan._C", sources=[])] if PLAN["native"] else [],
    cmdclass={"build_ext": CMakeBuild, "build_py": BuildPy},
)
