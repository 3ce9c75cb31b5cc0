"""A model as the search for blocks sees it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from types import MethodType
from typing import NamedTuple

from torch import nn


class Model(NamedTuple):
    """All modules by name, shared ones by each of theirs, how many modules own the memory of each parameter, and what else
    holds a module: {id: attribute}.
    """

    modules: Mapping[str, nn.Module]
    owners: Counter[int]
    held: Mapping[int, str]

    def ancestors(self, name: str) -> Iterator[tuple[str, nn.Module]]:
        """The modules around the one of that name with theirs, outermost first."""
        path = name.split(".")
        for depth in range(len(path)):
            place = ".".join(path[:depth])
            yield place, self.modules[place]


def memory(parameter: nn.Parameter) -> int:
    """What two parameters have in common that are tied: the object, or two objects on the same memory."""
    plain = type(parameter) is nn.Parameter and parameter.numel() and not parameter.is_meta
    return parameter.data_ptr() if plain else id(parameter)


def _held(modules: Mapping[str, nn.Module]) -> Iterator[tuple[int, str]]:
    """Modules in plain attributes, lists and bound methods, which an exchange of the registered child does not reach."""
    for name, module in modules.items():
        for attribute, value in vars(module).items():
            inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            for item in () if attribute == "_modules" else inside:
                found = getattr(item, "__self__", None) if isinstance(item, MethodType) else item
                if isinstance(found, nn.Module) and found is not module:
                    yield id(found), f"{name}.{attribute}".lstrip(".")


def look_at(model: nn.Module) -> Model:
    """The view of a model."""
    # modules() yields a shared module once, so this counts only ties between modules
    owners = Counter(memory(p) for module in model.modules() for p in module.parameters(recurse=False))
    modules = dict(model.named_modules(remove_duplicate=False))
    return Model(modules, owners, dict(_held(modules)))
