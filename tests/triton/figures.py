"""What a compiled kernel takes of a GPU: registers, memory, and the shape of its hottest loop."""

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import sass
import triton
from ahead import Launch


def figures(launch: Launch) -> dict[str, Any]:
    """The row of the committed table for one launch."""
    metadata = launch.compiled.metadata
    tile = {name: value for name, value in launch.settings.items() if name.isupper() and len(name) > 3 and type(value) is int}
    common = {
        "tile": " ".join(f"{name.lower()}={value}" for name, value in tile.items()),
        "warps": metadata.num_warps,
        "stages": metadata.num_stages,
        "shared": metadata.shared,
    }
    return common | (_amd(launch.compiled) if metadata.target.backend == "hip" else _nvidia(launch))


def disassembled(launch: Launch) -> sass.Program:
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(launch.compiled.asm["cubin"])
        command = [triton.knobs.nvidia.nvdisasm.path, "-c", str(binary)]
        return sass.parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _nvidia(launch: Launch) -> dict[str, Any]:
    log, program = launch.assembler_log, disassembled(launch)

    def said(pattern: str) -> int:
        found = re.search(pattern, log)
        if found is None:
            raise ValueError(f"ptxas said nothing like {pattern!r}: {log!r}")
        return int(found[1])

    loops = program.matrix_loops()
    racing = launch.compiled.metadata.num_warps > 4 and _products_read_pipeline(launch.compiled.asm["ttgir"])
    hot = program.hot_loop()
    return {
        "registers": said(r"Used (\d+) registers"),
        "stack": said(r"(\d+) bytes stack frame"),
        "spills": said(r"(\d+) bytes spill stores") + said(r"(\d+) bytes spill loads"),
        "local": sum(i.opcode.startswith(sass.LOCAL) for i in program.instructions),
        "tensor_memory": getattr(launch.compiled.metadata, "tmem_size", 0) or 0,
        "matrix": "+".join(sorted(_kinds(program.instructions))) or "none",
        "instructions": len(program.instructions),
        "loop": len(hot),
        "loop_matrix": " ".join(f"{count} {kind}" for kind, count in sorted(_kinds(hot).items())) or "none",
        "loop_issue": round(len(hot) / sass.tensor_clocks(hot), 2) if sass.tensor_clocks(hot) else 0,
        "loop_stores": sum(i.opcode.startswith("STS") for i in hot),
        "loop_barriers": sum(i.opcode.startswith("BAR") for i in hot),
        "overwritten": len(set().union(*map(sass.overwritten_operands, [*loops, program.instructions]))),
        "unguarded": len(set().union(*map(sass.unguarded_refills, loops))) if racing else 0,
        "remarks": " ".join(sorted(set(re.findall(r"\((C75\d\d)\)", log)))),
    }


def _products_read_pipeline(intermediate: str) -> bool:
    """Whether a WGMMA reads shared memory that asynchronous copies fill: only then can a refill race with one."""
    origin: dict[str, str] = {}  # view of shared memory -> its allocation
    copied, read = set(), set()
    for line in intermediate.splitlines():
        if view := re.search(r"(%\w+) = ttg\.memdesc_\w+ (%\w+)", line):
            origin[view[1]] = origin.get(view[2], view[2])
        elif copy := re.search(r"async_copy_global_to_local %[\w#]+, (%\w+)", line):
            copied.add(origin.get(copy[1], copy[1]))
        elif product := re.search(r"warp_group_dot (%\w+)[\w#]*, (%\w+)", line):
            read |= {origin.get(operand, operand) for operand in product.groups()}
    return bool(copied & read)


def _kinds(body: list[sass.Instruction]) -> Counter[str]:
    """Matrix products, by opcode without its modifiers."""
    return Counter(i.opcode.split(".")[0] for i in body if sass.is_matrix(i))


def _amd(compiled: Any) -> dict[str, Any]:
    text = compiled.asm["amdgcn"]

    def listed(name: str) -> int:
        return int(re.search(rf"\.{name}:\s+(\d+)", text)[1])

    return {
        "registers": listed("vgpr_count"),
        "stack": listed("private_segment_fixed_size"),
        "spills": listed("vgpr_spill_count") + listed("sgpr_spill_count"),
        "matrix": "+".join(sorted({kind.upper() for kind in re.findall(r"v_(s?mfma|s?wmma)", text)})) or "none",
    }
