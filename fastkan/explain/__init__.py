"""Look inside a model: what matters in it, what may go, pictures of it, and a live explorer."""

from fastkan.explain.attribute import Scores, attribute, interaction
from fastkan.explain.edge import plot_edge
from fastkan.explain.explore import explore, explore_html
from fastkan.explain.history import animate, plot_history
from fastkan.explain.plot import plot
from fastkan.explain.prune import PruneReport, prune, prune_edges, prune_inputs, prune_nodes

__all__ = [
    "PruneReport",
    "Scores",
    "animate",
    "attribute",
    "explore",
    "explore_html",
    "interaction",
    "plot",
    "plot_edge",
    "plot_history",
    "prune",
    "prune_edges",
    "prune_inputs",
    "prune_nodes",
]
