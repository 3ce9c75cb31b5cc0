"""fastkan: KAN (Kolmogorov-Arnold network) layers as fused kernels for PyTorch."""

import importlib
from typing import TYPE_CHECKING, Any

import torch  # noqa: F401  first: the native module then shares torch's OpenMP runtime instead of starting a second one

from fastkan import experimental, functional, nn, ops, reference, splines
from fastkan.backends import use_backend
from fastkan.nn import KAN, GridChange, KANLinear, load_state_dict

if TYPE_CHECKING:
    from fastkan import explain, export, formulas, interop, pde, train
    from fastkan.explain import PruneReport
    from fastkan.explain.plot import plot
    from fastkan.explain.prune import prune
    from fastkan.formulas.discovery import discover
    from fastkan.interop.transformers import from_pretrained
    from fastkan.nn.replace import ReplaceReport, replace_linear
    from fastkan.nn.replace.restore import describe, restore
    from fastkan.pde import jet, laplacian
    from fastkan.train import match_grids, refine
    from fastkan.train.fit import fit
    from fastkan.train.sparsify import sparsify

__version__ = "0.1.0"
backend = use_backend
__all__ = [
    "KAN",
    "GridChange",
    "KANLinear",
    "PruneReport",
    "ReplaceReport",
    "backend",
    "describe",
    "discover",
    "experimental",
    "explain",
    "export",
    "fit",
    "formulas",
    "from_pretrained",
    "functional",
    "interop",
    "jet",
    "laplacian",
    "load_state_dict",
    "match_grids",
    "nn",
    "ops",
    "pde",
    "plot",
    "prune",
    "reference",
    "refine",
    "replace_linear",
    "restore",
    "sparsify",
    "splines",
    "train",
    "use_backend",
]

# Imported when they are asked for: they take longer than all the rest (60 ms), and layers need none of them.
_LATER = {"from_pretrained": "interop.transformers"} | dict.fromkeys(("PruneReport", "plot", "prune"), "explain")
_LATER |= dict.fromkeys(("ReplaceReport", "describe", "replace_linear", "restore"), "nn.replace")
_LATER |= dict.fromkeys(("fit", "match_grids", "refine", "sparsify"), "train")
_LATER |= {"discover": "formulas"} | dict.fromkeys(("jet", "laplacian"), "pde")


def __getattr__(name: str) -> Any:
    if name in ("explain", "export", "formulas", "interop", "pde", "train"):
        return importlib.import_module(f"fastkan.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'fastkan' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fastkan.{_LATER[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
