"""replace_linear: swap the nn.Linear blocks of a module tree for KANLinear, in place."""

import ast
import functools
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn
from torch.nn.utils import parametrize

from fastkan.dtypes import DTYPES
from fastkan.nn.linear import KANLinear

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
         "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")  # fmt: skip

INITIALISER = re.compile(r"_*(init|initiali[sz]e|reset)(_.*)?")  # names of methods


@dataclass(frozen=True)
class ReplaceReport:
    """What replace_linear did: names of the replaced blocks, and of the refused ones with the reason."""

    replaced: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"replaced {len(self.replaced)}: {', '.join(self.replaced) or 'none'}"]
        lines += [f"refused {name}: {reason}" for name, reason in self.refused.items()]
        return "\n".join(lines)


@functools.cache
def _weights_read(cls: type) -> list[str]:
    """All expressions `<anything>.weight` in the code of a module's class and its parents, without those in initialisers."""
    read = []
    for part in cls.__mro__:
        if part in (nn.Module, object):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(part)))
        except (OSError, TypeError, SyntaxError):  # a class without source: built in, or typed at a prompt
            continue
        for statement in getattr(tree.body[0], "body", []):
            if not INITIALISER.fullmatch(getattr(statement, "name", "")):
                nodes = ast.walk(statement)
                read += [ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute) and node.attr == "weight"]
    return read


def _read_directly(model: nn.Module, name: str) -> str | None:
    """The class of an enclosing module whose source reads the block's `.weight` itself, or None.

    Such a module (nn.TransformerEncoderLayer's fused inference path, nn.MultiheadAttention's out_proj) does not call the block's
    forward, so it would read KANLinear's weight [I, M, O] as a matrix. Any index in the source matches any index in the name.
    """
    path = name.split(".")
    for depth in range(len(path)):
        owner: type = type(model.get_submodule(".".join(path[:depth])))
        inner = "".join(rf"(?:\.{re.escape(part)}|\[.*\])" for part in path[depth:])
        if any(re.fullmatch(rf"self{inner}\.weight", expression) for expression in _weights_read(owner)):
            return owner.__name__
    return None


def _refusal(model: nn.Module, names: list[str], linear: nn.Linear, owners: Counter[int]) -> str | None:
    """Why the linear that sits at all of `names` cannot be replaced, or None."""
    if parametrize.is_parametrized(linear):
        return "its parameters are parametrized (torch.nn.utils.parametrize)"
    if type(linear) is not nn.Linear:
        return f"{type(linear).__name__} is a subclass of nn.Linear with behaviour of its own"
    if linear.weight.dtype not in DTYPES:
        return f"its dtype is {linear.weight.dtype}"
    for label, parameter in linear.named_parameters(recurse=False):
        if owners[id(parameter)] > 1:
            return f"its {label} is tied to another module's"
    for name in names:
        if reader := _read_directly(model, name):
            return f"{reader} reads its .weight directly"
    return None


def replace_linear(
    model: nn.Module,
    filter: Callable[[str, nn.Linear], bool] | None = None,
    *,
    grid_size: int = 5,
    degree: int = 3,
    grid_range: tuple[float, float] = (-1.0, 1.0),
    activation: str = "identity",
    backend: str | None = None,
) -> ReplaceReport:
    """Swap the nn.Linear blocks of a model for KANLinear layers, in place. Each starts as the same function
    (KANLinear.from_linear).

    filter: filter(name, linear) -> True for the blocks to swap; None swaps all that can be
    grid_size, degree, grid_range, activation, backend: KANLinear's
    returns: a report of the replaced blocks and of the refused ones with the reason (subclasses, parametrized or tied
        parameters, blocks whose owner reads `.weight` itself). A module that is used in several places stays shared: it is
        replaced in all of them or in none. Make the optimizer afterwards, because the parameters are new.
    raises: TypeError or ValueError, before the model is changed. ValueError also if the model itself is an nn.Linear, or if a
        block to be swapped has hooks (they would be lost).
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, received {type(model).__name__}")
    if isinstance(model, nn.Linear):
        raise ValueError("model: expected a module that contains nn.Linear, received an nn.Linear; use KANLinear.from_linear")
    owners = Counter(
        id(p) for module in model.modules() for p in module.parameters(recurse=False)
    )  # modules() yields a shared module once, so this counts only ties between modules
    places: dict[nn.Linear, list[str]] = {}  # a shared module has several names
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Linear):
            places.setdefault(module, []).append(name)
    chosen: dict[nn.Linear, list[str]] = {}
    refused: dict[str, str] = {}
    for linear, names in places.items():
        wanted = [name for name in names if filter is None or filter(name, linear)]
        if not wanted:
            continue
        reason = _refusal(model, names, linear, owners)
        if reason is None and wanted != names:
            reason = f"the filter leaves it out at {', '.join(name for name in names if name not in wanted)}"
        if reason is None:
            chosen[linear] = names
        else:
            refused |= dict.fromkeys(wanted, reason)
    hooked = [name for linear, names in chosen.items() for name in names if any(getattr(linear, hooks) for hooks in HOOKS)]
    if hooked:
        raise ValueError(f"model: expected blocks without hooks, received hooks on {', '.join(hooked)}; remove or filter them")
    layers = [KANLinear.from_linear(linear, grid_size, degree, grid_range, activation, backend) for linear in chosen]
    for names, layer in zip(chosen.values(), layers, strict=True):  # nothing raises from here on
        for name in names:
            model.set_submodule(name, layer)
    return ReplaceReport([name for names in chosen.values() for name in names], refused)
