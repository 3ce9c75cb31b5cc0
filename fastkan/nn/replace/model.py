"""A model as the search for blocks sees it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import nn


class Model(NamedTuple):
    """All modules by name, shared ones by each of theirs, and how many modules own the memory of each parameter."""

    modules: Mapping[str, nn.Module]
    owners: Counter[int]

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


def look_at(model: nn.Module) -> Model:
    """The view of a model."""
    # modules() yields a shared module once, so this counts only ties between modules
    owners = Counter(memory(p) for module in model.modules() for p in module.parameters(recurse=False))
    return Model(dict(model.named_modules(remove_duplicate=False)), owners)
