"""Which blocks a filter names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

Filter = str | Sequence[str] | Callable[[str, nn.Module], bool] | None
SHOWN = 5  # names in an error


def _shown(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "") or "none"


def wanted(filter: Filter, blocks: Mapping[str, nn.Module], modules: Mapping[str, nn.Module]) -> set[str]:
    """The names of the blocks that a filter chooses. ValueError for a name or glob that fits none."""
    if filter is None:
        return set(blocks)
    if callable(filter):
        return {name for name, block in blocks.items() if filter(name, block)}
    patterns = [filter] if isinstance(filter, str) else list(filter) if isinstance(filter, Iterable) else [filter]
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"filter: expected names or globs, a function (name, block) -> bool or None, received {filter!r}")
    chosen: set[str] = set()
    for pattern in patterns:
        fitting = {name for name in blocks if fnmatchcase(name, pattern)}
        if not fitting:
            inside = any(name.startswith(f"{pattern}.") for name in blocks)
            hint = f"{pattern!r} holds blocks; write {pattern + '.*'!r}" if inside else f"there are {_shown(blocks)}"
            hint = f"{pattern!r} is a {type(modules[pattern]).__name__}" if pattern in modules and not inside else hint
            raise ValueError(f"filter: expected a name or glob that fits a linear block, received {pattern!r}; {hint}")
        chosen |= fitting
    return chosen
