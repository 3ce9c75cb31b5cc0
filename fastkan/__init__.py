"""fastkan: KAN (Kolmogorov-Arnold network) layers as fused kernels for PyTorch."""

import torch  # noqa: F401  first: the native module then shares torch's OpenMP runtime instead of starting a second one

from fastkan import experimental, explain, functional, nn, ops, reference, splines, train
from fastkan.backends import use_backend
from fastkan.explain import PruneReport, prune
from fastkan.nn import KAN, GridChange, KANLinear, ReplaceReport, load_state_dict, replace_linear
from fastkan.train import fit, match_grids, refine, sparsify

__version__ = "0.1.0"
backend = use_backend
__all__ = [
    "KAN",
    "GridChange",
    "KANLinear",
    "PruneReport",
    "ReplaceReport",
    "backend",
    "experimental",
    "explain",
    "fit",
    "functional",
    "load_state_dict",
    "match_grids",
    "nn",
    "ops",
    "prune",
    "reference",
    "refine",
    "replace_linear",
    "sparsify",
    "splines",
    "train",
    "use_backend",
]
