"""Rates of dense and 2:4 sparse matrix instructions on an NVIDIA GPU: `python -m benchmarks rates`.

Compiles rates.cu with nvcc, runs it and writes its JSON. With --build FILE it only compiles, for a machine without nvcc, where
--program FILE runs it.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from datetime import date
from pathlib import Path

from benchmarks import document
from benchmarks.environment import ROOT, environment, results_folder

FOLDER = Path(__file__).resolve().parent

COLUMNS = 128, 192, 256


def wrapper(sparse: bool, columns: int) -> str:
    """wgmma<sparse, columns>(d, a, descriptor of b, metadata): float16 operands, a in registers."""
    sums, depth = columns // 2, 32 if sparse else 16
    named = ", ".join(f"%{k}" for k in range(sums))
    left = ", ".join(f"%{sums + k}" for k in range(4))
    shape = f"wgmma.mma_async{'.sp' if sparse else ''}.sync.aligned.m64n{columns}k{depth}.f32.f16.f16"
    metadata = f"%{sums + 5}, 0, " if sparse else ""
    outputs = ", ".join(f'"+f"(d[{k}])' for k in range(sums))
    inputs = ", ".join(f'"r"(a[{k}])' for k in range(4)) + ', "l"(b)' + (', "r"(metadata)' if sparse else "")
    return (
        f"template <>\n__device__ __forceinline__ void wgmma<{str(sparse).lower()}, {columns}>"
        f"(float (&d)[{sums}], const uint32_t (&a)[4], uint64_t b, uint32_t metadata) {{\n"
        f'  asm volatile("{shape} {{{named}}}, {{{left}}}, %{sums + 4}, {metadata}1, 1, 1, 0;"\n'
        f"               : {outputs}\n               : {inputs});\n}}\n"
    )


def header() -> str:
    template = (
        "#pragma once\n#include <stdint.h>\ntemplate <bool sparse, int columns>\n"
        "__device__ void wgmma(float (&d)[columns / 2], const uint32_t (&a)[4], uint64_t b, uint32_t metadata);\n"
    )
    return template + "".join(wrapper(sparse, columns) for columns in COLUMNS for sparse in (False, True))


def build(program: Path, architecture: str) -> None:
    """architecture: sm_90a has wgmma, any other from sm_80 on only mma."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "wgmma.h").write_text(header() if architecture == "sm_90a" else "")
        define = ["-DFASTKAN_WGMMA"] if architecture == "sm_90a" else []
        target = f"-gencode=arch=compute_{architecture[3:]},code={architecture}"
        command = ["nvcc", "-std=c++17", "-O3", target, *define, f"-I{ROOT / 'csrc'}", f"-I{folder}"]
        subprocess.run([*command, "-o", str(program), str(FOLDER / "rates.cu")], check=True)


def architecture_here() -> str:
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}" + ("a" if major == 9 else "")


def measure(program: Path) -> dict:
    return json.loads(subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout)


def show(found: dict) -> None:
    print(f"{found['device']}: {found['unit']}")
    for rate in found["rates"]:
        beside = f"{rate['copied_bytes_per_clock']:6.1f} B/clk copied"
        print(
            f"{rate['instruction']:22} {rate['operands']:7} {beside} {rate['teraflops']:8.1f} TFLOP/s {rate['clocks']:8.2f} clk"
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks rates", description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, metavar="FILE", help="only compile")
    parser.add_argument("--architecture", default=None, help="sm_90a by default with --build, else this GPU's")
    parser.add_argument("--program", type=Path, metavar="FILE", help="compiled earlier")
    parser.add_argument("--folder", type=Path, help="for the result; benchmarks/results/<gpu> by default")
    options = parser.parse_args(arguments)
    if options.program is None and shutil.which("nvcc") is None:
        print("rates: nvcc is not here, so nothing was measured; --program runs what --build made elsewhere")
        return 1
    if options.build:
        build(options.build, options.architecture or "sm_90a")
        return 0
    found_here = environment("cuda")
    with tempfile.TemporaryDirectory() as folder:
        program = options.program or Path(folder, "rates")
        if options.program is None:
            build(program, options.architecture or architecture_here())
        found = measure(program)
    show(found)
    path = (options.folder or results_folder(found_here)) / f"{date.today().isoformat()}-instructions.json"
    document.write({"environment": found_here, **found}, path)
    print(f"Written: {path}")
    return 0
