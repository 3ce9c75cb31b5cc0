"""Look inside a model: what matters in it, and what may go."""

from fastkan.explain.attribute import Scores, attribute, interaction
from fastkan.explain.prune import PruneReport, prune, prune_edges, prune_inputs, prune_nodes

__all__ = ["PruneReport", "Scores", "attribute", "interaction", "prune", "prune_edges", "prune_inputs", "prune_nodes"]
