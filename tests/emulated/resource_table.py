"""What every CUDA kernel in the native module takes of every GPU: PYTHONPATH=tests python -m emulated.resource_table --write

Rows are (kernel, GPU), read from fastkan/_C with Triton's cuobjdump: nothing is compiled again. Without --write the differences
to the committed table are printed. One table a version of nvcc: tests/emulated/resources/<version>.json.
"""

import argparse
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from resources import Table, differences, load, save

from fastkan import backends

FOLDER = Path(__file__).resolve().parent / "resources"
SHARED_LIMIT = 101376  # bytes a block on sm_89 and sm_120, the least of the GPUs we build for


def obstacle() -> str | None:
    """Why there is no table to make here, or None."""
    if not hasattr(backends.native.module, "cuda_forward"):
        return "the native module was built without CUDA"
    for tool in ("nvcc", "c++filt"):
        if shutil.which(tool) is None:
            return f"{tool} was not found"
    return None if cuobjdump().is_file() else "this Triton has no cuobjdump"


def cuobjdump() -> Path:
    import triton.backends.nvidia

    return Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"


def output_of(*command: object, text: str | None = None) -> str:
    return subprocess.run([*map(str, command)], input=text, capture_output=True, text=True, check=True).stdout


def nvcc_version() -> str:
    return re.search(r"release (\d+\.\d+)", output_of("nvcc", "--version"))[1]


def make() -> Table:
    """Every row, from the native module of this installation."""
    binary = backends.native.module.__file__
    table: Table = {}
    usage = output_of(cuobjdump(), "--dump-resource-usage", binary)
    for part in re.split(r"\n(?=arch = )", usage)[0 if usage.startswith("arch") else 1 :]:
        architecture = re.match(r"arch = (\w+)", part)[1]
        for name, figures in re.findall(r"Function (\S+):\s+(REG:.*)", part):
            taken = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", figures)}
            row = {"registers": taken["REG"], "stack": taken["STACK"], "local": taken["LOCAL"], "shared": taken["SHARED"]}
            table[f"{name} | {architecture}"] = row
    for key, row in instructions(binary).items():
        table[key] |= row
    names = output_of("c++filt", text="\n".join(table)).splitlines()
    return {short(name): row for name, row in zip(names, table.values(), strict=True)}


def instructions(binary: str) -> Table:
    """Of each kernel: how many, how many touch local memory, and which of them multiply matrices."""
    rows: Table = {}
    sass = output_of(cuobjdump(), "-sass", binary)
    for part in sass.split("\n\tcode for ")[1:]:
        architecture = part.split(maxsplit=1)[0]
        for name, body in re.findall(r"Function : (\S+)(.*?)(?=Function : |\Z)", part, re.DOTALL):
            opcodes = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", body)
            matrix = Counter(code for code in opcodes if re.match(r"[HDIQ]G?MMA", code))
            rows[f"{name} | {architecture}"] = {
                "instructions": len(opcodes),
                "local_instructions": sum(code.startswith(("LDL", "STL")) for code in opcodes),
                "matrix": " ".join(f"{count} {code}" for code, count in sorted(matrix.items())) or "none",
            }
    return rows


def short(row: str) -> str:
    """`void fastkan::forward_all_slots<fastkan::InFloat16>(...) | sm_80` without what says nothing."""
    name, architecture = row.rsplit(" | ", 1)
    signature = name.replace("(anonymous namespace)::", "").replace("fastkan::", "").removeprefix("void ")
    return f"{signature.split('(')[0]} | {architecture}"


def violations(table: Table) -> list[str]:
    """Rows that break a rule no table can excuse."""
    broken = []
    for name, row in table.items():
        if row["stack"] or row["local"] or row["local_instructions"]:
            broken.append(f"{name}: local memory: {row}")
        if row["registers"] * 128 > 65536:
            broken.append(f"{name}: {row['registers']} registers leave no room for a block of 128 threads")
        if row["shared"] > SHARED_LIMIT:
            broken.append(f"{name}: {row['shared']} bytes of shared memory")
        on_tensor_cores = re.search(r"_all_slots<In(Float16|Bfloat16|Tf32)>", name)
        if on_tensor_cores and row["matrix"] == "none":
            broken.append(f"{name}: no matrix product")
    return broken


def table_path() -> Path:
    return FOLDER / f"{nvcc_version()}.json"


def committed() -> Table:
    """The rows of this nvcc's table for the architectures that the module was built for; empty where there is no table."""
    built = tuple(f"sm_{number}" for number in backends.native.module.build_info()["cuda_architectures"].split())
    return {row: figures for row, figures in load(table_path()).items() if row.endswith(built)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table instead of comparing with it")
    write = parser.parse_args().write
    reason = obstacle()
    if reason is not None:
        raise SystemExit(reason)
    table = make()
    print("\n".join(violations(table)) or f"{len(table)} rows break no rule")
    if write:
        save(table_path(), table)
    else:
        print("\n".join(differences(committed(), table)) or "as committed")


if __name__ == "__main__":
    main()
