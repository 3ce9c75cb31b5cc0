"""Where F of few rows is faster unsorted, on the machine at hand, and what the core chooses: `python benchmarks/crossovers.py`.

Compiles crossovers.cpp with the CPU core, for the instruction set that CMakeLists.txt names, and writes JSON to
benchmarks/results/<machine>/crossovers.json.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # at the end: an installed fastkan goes before the source tree

from benchmarks.environment import environment, machine  # noqa: E402
from benchmarks.report import save_json  # noqa: E402

COLUMNS = ("in_features", "out_features", "grid_size", "batch", "sorted", "direct", "chosen")


def compile_program(folder: Path, isa: str) -> Path:
    text = (ROOT / "CMakeLists.txt").read_text()
    vector_bytes, flags = re.findall(rf"add_isa\({isa} (\d+)(.*)\)", text)[-1]
    options = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi", f"-I{ROOT / 'csrc'}", "-fopenmp"]
    chosen = [f"-DFASTKAN_ONLY={isa}", f"-DFASTKAN_ISA={isa}", f"-DFASTKAN_VECTOR_BYTES={vector_bytes}", *flags.split()]
    core = [ROOT / "csrc" / "cpu" / name for name in ("workspace.cpp", "parallel.cpp", "isa.cpp", "isa/kernels.cpp")]
    program = folder / "crossovers"
    sources = [ROOT / "benchmarks" / "crossovers.cpp", *core]
    subprocess.run(["c++", *options, *chosen, *map(str, sources), "-o", str(program)], check=True)
    return program


def main(isa: str = "avx512") -> None:
    """Time F of 1 to 64 rows sorted and direct.

    Args:
        isa: An instruction set of this machine: avx512, avx2 or baseline.
    """
    with tempfile.TemporaryDirectory() as folder:
        printed = subprocess.run([compile_program(Path(folder), isa)], check=True, capture_output=True, text=True).stdout
    rows = [dict(zip(COLUMNS, map(json.loads, line.split()), strict=True)) for line in printed.splitlines()]
    for row in rows:
        row["chosen"] = "direct" if row["chosen"] else "sorted"
        row["chosen / best"] = round(row[row["chosen"]] / min(row["sorted"], row["direct"]), 2)
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    found = environment("cpu")
    path = ROOT / "benchmarks" / "results" / machine(found) / "crossovers.json"
    save_json({"environment": found, "isa": isa, "unit": "us", "rows": rows}, path)


if __name__ == "__main__":
    tyro.cli(main)
