"""replace_linear: swap the nn.Linear blocks of a module tree for KANLinear, in place."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import nn
from torch.nn.utils import parametrize

from fastkan.nn.linear import KANLinear

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
         "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")  # fmt: skip


@dataclass(frozen=True)
class ReplaceReport:
    """What replace_linear did: names of the replaced blocks, and of the refused ones with the reason."""

    replaced: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"replaced {len(self.replaced)}: {', '.join(self.replaced) or 'none'}"]
        lines += [f"refused {name}: {reason}" for name, reason in self.refused.items()]
        return "\n".join(lines)


def _linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """(name, module) of every place that holds an nn.Linear; a shared module comes once for each of its places."""
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Linear):
            yield name, module


def _read_directly(model: nn.Module, name: str) -> str | None:
    """The class of an enclosing module whose source reads the block's `.weight` itself, or None.

    Such a module (nn.TransformerEncoderLayer's fused inference path, nn.MultiheadAttention's out_proj) goes past the block's
    forward, so it would read KANLinear's weight [I, M, O] as a matrix.
    """
    path = name.split(".")
    for depth in range(len(path)):
        owner = model.get_submodule(".".join(path[:depth]))
        inner = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path[depth:])
        try:
            source = inspect.getsource(type(owner))
        except (OSError, TypeError):  # a class without source: built in, or typed at a prompt
            continue
        if re.search(rf"\bself{re.escape(inner)}\.weight\b", source):
            return type(owner).__name__
    return None


def _refusal(model: nn.Module, name: str, linear: nn.Linear, owners: Counter[int]) -> str | None:
    if type(linear) is not nn.Linear:
        return f"{type(linear).__name__} is a subclass of nn.Linear with behaviour of its own"
    if parametrize.is_parametrized(linear):
        return "its parameters are parametrized (torch.nn.utils.parametrize)"
    if owners[id(linear.weight)] > 1:
        return "its weight is tied to another module's"
    reader = _read_directly(model, name)
    return f"{reader} reads its .weight directly" if reader else None


def replace_linear(
    model: nn.Module,
    filter: Callable[[str, nn.Linear], bool] | None = None,
    *,
    grid_size: int = 5,
    degree: int = 3,
    grid_range: tuple[float, float] = (-1.0, 1.0),
    base: str = "identity",
    backend: str | None = None,
) -> ReplaceReport:
    """Swap the nn.Linear blocks of a model for KANLinear in place, each starting as the same function (KANLinear.from_linear).

    filter: filter(name, linear) -> True for the blocks to swap; None swaps all that can be
    grid_size, degree, grid_range, base, backend: KANLinear's
    returns: a report of the replaced blocks and of the refused ones with the reason (subclasses, parametrized or tied
        weights, blocks whose owner reads `.weight` itself). A module shared by several places stays shared. Make the optimizer
        afterwards: the parameters are new.
    raises: ValueError, with the model untouched, if the model itself is an nn.Linear or a block to be swapped has hooks, which
        would be lost
    """
    if isinstance(model, nn.Linear):
        raise ValueError("model: expected a module that contains nn.Linear, received an nn.Linear; use KANLinear.from_linear")
    owners = Counter(
        id(p) for module in model.modules() for p in module.parameters(recurse=False)
    )  # modules() gives a shared module once, so only ties between modules count
    places: dict[nn.Linear, list[str]] = {}
    refused: dict[str, str] = {}
    for name, linear in _linears(model):
        if filter is not None and not filter(name, linear):
            continue
        reason = _refusal(model, name, linear, owners)
        if reason is None:
            places.setdefault(linear, []).append(name)
        else:
            refused[name] = reason
    hooked = [name for linear, names in places.items() for name in names if any(getattr(linear, hooks) for hooks in HOOKS)]
    if hooked:
        raise ValueError(f"model: expected blocks without hooks, received hooks on {', '.join(hooked)}; remove or filter them")
    for linear, names in places.items():
        layer = KANLinear.from_linear(linear, grid_size, degree, grid_range, base, backend)
        for name in names:
            model.set_submodule(name, layer)
    return ReplaceReport([name for names in places.values() for name in names], refused)
