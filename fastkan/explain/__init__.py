"""Looking inside a KAN: pictures of its edges, of its training, and a live explorer."""

from fastkan.explain.edge import plot_edge
from fastkan.explain.explore import explore, explore_html
from fastkan.explain.history import animate, plot_history
from fastkan.explain.plot import plot

__all__ = ["animate", "explore", "explore_html", "plot", "plot_edge", "plot_history"]
