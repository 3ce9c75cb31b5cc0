"""Training: what a model, its optimizer and copies of it need when grids change."""

from fastkan.train.grids import match_grids, refine

__all__ = ["match_grids", "refine"]
