"""What counts as a linear block, and the KAN layer that takes its place."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from fastkan.nn.linear import KANLinear


class Kind(NamedTuple):
    """A class of linear blocks, and its name in reports."""

    plain: type
    label: str


def kind_of(module: nn.Module) -> Kind | None:
    """The kind of linear block that a module is one of, subclasses included; None for anything else."""
    return Kind(nn.Linear, "nn.Linear") if isinstance(module, nn.Linear) else None


def layer_for(block: Any, settings: dict[str, Any]) -> nn.Module:
    """The KAN layer with the function of a plain block."""
    return KANLinear.from_linear(block, **settings)


def parameters_after(block: Any, grid_size: int, degree: int) -> int:
    """How many parameters layer_for gives the layer."""
    return block.weight.numel() * (grid_size + degree + 1) + (0 if block.bias is None else block.bias.numel())


def _is_kan(module: nn.Module) -> bool:
    return isinstance(module, KANLinear)


def left_alone(modules: dict[str, Any], blocks: set[str]) -> Iterator[tuple[str, str, str]]:
    """(name, class, reason) for everything else that holds weights of two or more dimensions: no linear block, or none yet."""
    seen: set[int] = set()
    for name, module in modules.items():
        if name in blocks or id(module) in seen:
            continue
        seen.add(id(module))
        label = type(module).__name__
        if _is_kan(module):
            yield name, label, "it is a KAN layer already"
            continue
        for part, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2 or type(parameter) is nn.UninitializedParameter:
                continue
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                yield name, label, "it looks rows up"
            elif part == "weight" and hasattr(module, "kernel_size"):
                yield name, label, f"its kernel is {'x'.join(map(str, module.kernel_size))}; only 1x1 convolutions are linear"
            else:
                shape = "x".join(map(str, parameter.shape))
                yield f"{name}.{part}".lstrip("."), label, f"a bare parameter {shape}, which {label} computes with itself"
