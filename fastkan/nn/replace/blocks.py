"""What counts as a linear block, and the KAN layer that takes its place."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear as OutProjection

from fastkan.nn.linear import KANLinear
from fastkan.nn.pointwise import KANPointwise

CONV1D = "transformers.pytorch_utils.Conv1D"  # GPT-2's linear layer, weight [I, O]; known by its name, so that nobody imports it
CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d)


class Kind(NamedTuple):
    """A class of linear blocks, and its name in reports."""

    plain: type
    label: str


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_pointwise(convolution: Any) -> bool:
    """True for a convolution that sees one place at a time and all channels."""
    ones = (1,) * len(convolution.kernel_size)
    same = (convolution.kernel_size, convolution.stride, convolution.dilation) == (ones,) * 3 and convolution.groups == 1
    return same and (isinstance(convolution.padding, str) or not any(convolution.padding))


def kind_of(module: nn.Module) -> Kind | None:
    """The kind of linear block that a module is one of, subclasses included; None for anything else."""
    if isinstance(module, nn.Linear):
        return Kind(OutProjection if type(module) is OutProjection else nn.Linear, "nn.Linear")  # adds a name only
    for plain in CONVOLUTIONS:
        if isinstance(module, plain) and _is_pointwise(module):
            return Kind(plain, f"nn.{plain.__name__}")
    for cls in type(module).__mro__:
        if _full_name(cls) == CONV1D:
            return Kind(cls, CONV1D)
    return None


def as_linear(block: Any) -> nn.Linear:
    """An nn.Linear on the block's own values."""
    if isinstance(block, nn.Linear):
        return block
    weight = block.weight.flatten(1) if isinstance(block, CONVOLUTIONS) else block.weight.T
    bias = block._parameters.get("bias")
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta", dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.detach(), block.weight.requires_grad)
    linear.bias = bias
    return linear.train(block.training)


def _inherit(old: Any, new: Any) -> None:
    """Give an object what users and libraries have written on another one, such as `weight._no_weight_decay`."""
    for name, value in vars(old).items():
        if not hasattr(new, name):
            setattr(new, name, value)


def layer_for(block: Any, settings: dict[str, Any]) -> nn.Module:
    """The KAN layer with the function of a plain block, and with the attributes that others may read of it (kernel_size, nf)."""
    layer = KANLinear.from_linear(as_linear(block), **settings)
    for name, parameter in block.named_parameters(recurse=False):
        _inherit(parameter, getattr(layer, name))
    whole = KANPointwise(layer, len(block.kernel_size)).train(block.training) if isinstance(block, CONVOLUTIONS) else layer
    _inherit(block, whole)
    return whole


def inner(layer: nn.Module) -> Any:
    """The KANLinear of a layer that layer_for has made."""
    return layer.layer if isinstance(layer, KANPointwise) else layer


def rows(block: Any, x: Tensor) -> Tensor:
    """What a block gets as rows [B, I]."""
    if x.is_nested:
        x = x.values()
    if isinstance(block, CONVOLUTIONS):
        x = x.movedim(-1 - len(block.kernel_size), -1)
    return x.reshape(x.shape[:-1].numel(), x.shape[-1])


def parameters_after(block: Any, grid_size: int, degree: int) -> int:
    """How many parameters layer_for gives the layer."""
    bias = block._parameters.get("bias")
    return block.weight.numel() * (grid_size + degree + 1) + (0 if bias is None else bias.numel())


def left_alone(modules: dict[str, Any], blocks: set[str]) -> Iterator[tuple[str, str, str]]:
    """(name, class, reason) for everything else that holds weights of two or more dimensions: no linear block, or none yet."""
    seen = {id(part) for name in blocks for part in modules[name].modules()}  # parametrizations of a block are inside it
    for name, module in modules.items():
        if id(module) in seen:
            continue
        seen.add(id(module))
        label = type(module).__name__
        if isinstance(module, KANLinear):
            yield name, label, "it is a KAN layer already"
            continue
        for part, parameter in module.named_parameters(recurse=False):
            if parameter.ndim < 2 or type(parameter) is nn.UninitializedParameter:
                continue
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                yield name, label, "it looks rows up"
            elif part == "weight" and hasattr(module, "kernel_size"):
                yield name, label, f"kernel {'x'.join(map(str, module.kernel_size))}: only plain 1x1 convolutions are linear"
            else:
                shape = "x".join(map(str, parameter.shape))
                yield f"{name}.{part}".lstrip("."), label, f"a bare parameter {shape}, which {label} computes with itself"
