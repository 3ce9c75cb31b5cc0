"""python -m fastkan convert: a model of another library as a file of ours, or the other way round."""

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import fastkan
from fastkan.nn.edges import present
from fastkan.nn.linear import KANLinear

HEAD = ("layer", "class", "inputs -> outputs", "G, p", "activation", "splines", "formulas", "largest error")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", help="prefix of a pykan checkpoint; .pt, .pth or .safetensors of efficient-kan, FastKAN, fastkan"
    )
    parser.add_argument("target", help="a new file that ends in .safetensors")
    parser.add_argument("--to", choices=("fastkan", "efficient-kan"), default="fastkan", help="default: %(default)s")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of a radial basis of FastKAN (default: %(default)s)")
    parser.add_argument("--activation", default="silu", help="base of efficient-kan and FastKAN (default: %(default)s)")
    parser.add_argument("--in-features", type=int, help="columns of x, for a pykan model from prune_input")


def _row(name: str, module: nn.Module, error: str) -> tuple[str, ...]:
    """One module of the table."""
    layer: Any = getattr(module, "splines", module)
    shape = f"{layer.in_features} -> {layer.out_features}" if hasattr(layer, "out_features") else ""
    if not isinstance(layer, KANLinear):
        return (name, type(module).__name__, shape, "", "", "", "", "")
    base = "" if module is layer else ", LayerNorm" + (", base" if module.base is not None else "")  # of FastKAN
    formulas = [] if layer.symbolic is None else [formula for *_, formula in layer.symbolic.edges]
    counts = ", ".join(f"{formulas.count(formula)} {formula}" for formula in dict.fromkeys(formulas))
    splines = f"{int(present(layer).sum())} of {layer.in_features * layer.out_features}"
    grid = f"{layer.grid_size}, {layer.degree}"
    return (name, type(module).__name__, shape, grid, layer.activation + base, splines, counts, error)


def table(model: nn.Module, errors: list[Tensor] | None) -> str:
    """What a converted model consists of, a line a module."""
    modules = {"": model} if isinstance(model, KANLinear) else dict(model.named_children())
    said = ["to rounding"] * len(modules) if errors is None else [f"{float(e.max()) if e.numel() else 0:.1e}" for e in errors]
    rows = [HEAD, *(_row(name, module, error) for (name, module), error in zip(modules.items(), said, strict=True))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def convert(arguments: argparse.Namespace) -> str:
    """Write the target; returns what to print."""
    target = Path(arguments.target)
    if target.exists() or target.suffix != ".safetensors":
        raise ValueError(f"target: expected a new file that ends in .safetensors, received {target}")
    found = fastkan.interop.from_file(arguments.source, arguments.tolerance, arguments.activation, arguments.in_features)
    if arguments.to == "fastkan":
        fastkan.interop.save(found.model, target)
        way = "fastkan.interop.load"
    else:
        from safetensors.torch import save_file

        save_file(fastkan.interop.to_efficient_kan(found.model, arguments.activation), target)
        way = "safetensors.torch.load_file, then load_state_dict of efficient-kan's KAN"
    return f"{arguments.source}: {found.kind}\n{table(found.model, found.errors)}\n{target}: written; read it by {way}"


def run(arguments: argparse.Namespace) -> None:
    try:
        print(convert(arguments))
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise SystemExit(f"convert: {error}") from error
