"""Other libraries: their models as ours and back, and their models with KAN layers in them."""

import importlib
from typing import Any

_WHERE = dict.fromkeys(("from_pykan", "to_pykan"), "pykan")
_WHERE |= dict.fromkeys(("from_efficient_kan", "to_efficient_kan"), "efficient_kan")
_WHERE |= dict.fromkeys(("FastKANProjection", "NormedKANLinear", "from_fast_kan"), "fast_kan")
_WHERE |= dict.fromkeys(("load", "save"), "files") | {"from_file": "recognise"}
_WHERE |= dict.fromkeys(("Projection", "edges_of", "from_edges"), "edges")

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE.values():
        return importlib.import_module(f"fastkan.interop.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'fastkan.interop' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fastkan.interop.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
