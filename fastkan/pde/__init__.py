"""Differential equations: a model's derivatives in one pass forward."""

from fastkan.pde.jets import Jet, jet, laplacian

__all__ = ["Jet", "jet", "laplacian"]
