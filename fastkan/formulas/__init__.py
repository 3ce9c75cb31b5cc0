"""Formulas: functions on edges, from edges to expressions, and from data to formulas."""

import importlib
from typing import Any

_WHERE = dict.fromkeys(
    ("Suggestion", "Suggestions", "auto_symbolic", "fix_symbolic", "suggest_symbolic", "unfix_symbolic"), "edges"
)
_WHERE |= {"add_function": "library", "to_pysr": "handover"}
_WHERE |= dict.fromkeys(("Expressions", "symbolic_formula"), "expression")
_WHERE |= dict.fromkeys(("Discoveries", "Discovery", "discover"), "discovery")
_WHERE |= dict.fromkeys(("kanpiler",), "kanpile")
_WHERE |= dict.fromkeys(("expand_depth", "expand_width", "perturb"), "expand")
_WHERE |= dict.fromkeys(("Structure", "is_separable", "is_symmetric"), "structure")
_WHERE |= dict.fromkeys(("Tree", "plot_tree", "tree"), "trees")
_WHERE |= dict.fromkeys(("Swapped", "auto_swap"), "modules")

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'fastkan.formulas' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fastkan.formulas.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
