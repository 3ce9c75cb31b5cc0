"""Which way through the CPU core is faster where, and which it chooses, on this machine: `python -m benchmarks crossovers`.

Compiles crossovers.cpp with the CPU core, for the instruction set that CMakeLists.txt names, and writes JSON to
benchmarks/results/<machine>/crossovers.json.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import tyro

from benchmarks import document
from benchmarks.environment import ROOT, environment, results_folder

COLUMNS = ("op", "dtype", "in_features", "out_features", "grid_size", "degree", "batch", "sorted", "other", "way", "chosen")


def compile_program(folder: Path, isa: str) -> Path:
    text = (ROOT / "CMakeLists.txt").read_text()
    vector_bytes, flags = re.findall(rf"add_isa\({isa} (\d+)(.*)\)", text)[-1]
    options = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", f"-I{ROOT / 'csrc'}", "-fopenmp"]
    chosen = [f"-DFASTKAN_ONLY={isa}", f"-DFASTKAN_ISA={isa}", f"-DFASTKAN_VECTOR_BYTES={vector_bytes}", *flags.split()]
    core = [ROOT / "csrc" / "cpu" / name for name in ("workspace.cpp", "parallel.cpp", "dispatch.cpp", "simd/kernels.cpp")]
    program = folder / "crossovers"
    sources = [ROOT / "benchmarks" / "crossovers.cpp", *core]
    subprocess.run(["c++", *options, *chosen, *map(str, sources), "-o", str(program)], check=True)
    return program


def table_row(words: list[str]) -> dict[str, object]:
    row: dict[str, object] = dict(zip(COLUMNS, (word if word[0].isalpha() else json.loads(word) for word in words), strict=True))
    times = {"sorted": float(words[7]), words[9]: float(words[8])}
    return row | {"chosen / best": round(times.get(words[10], times["sorted"]) / min(times.values()), 2)}


def measure(isa: str = "avx512") -> None:
    """Time forward of 1 to 64 rows sorted and direct, and forward and gradients of few outputs sorted and in lanes.

    Args:
        isa: An instruction set of this machine: avx512, avx2 or baseline.
    """
    with tempfile.TemporaryDirectory() as folder:
        printed = subprocess.run([compile_program(Path(folder), isa)], check=True, capture_output=True, text=True).stdout
    rows = [table_row(line.split()) for line in printed.splitlines()]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    found = environment("cpu")
    document.write({"environment": found, "isa": isa, "unit": "us", "rows": rows}, results_folder(found) / "crossovers.json")


def main(arguments: list[str]) -> int:
    tyro.cli(measure, prog="python -m benchmarks crossovers", args=arguments)
    return 0
