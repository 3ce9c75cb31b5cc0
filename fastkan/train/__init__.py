"""Training: fit, and what a model, its optimizer and copies of it need when grids change."""

from fastkan.train.fit import fit
from fastkan.train.grids import match_grids, refine
from fastkan.train.history import History
from fastkan.train.penalty import EdgePenalty
from fastkan.train.sparsify import Candidate, sparsify

__all__ = ["Candidate", "EdgePenalty", "History", "fit", "match_grids", "refine", "sparsify"]
