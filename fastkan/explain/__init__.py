from fastkan.explain.edge import plot_edge
from fastkan.explain.history import animate, plot_history
from fastkan.explain.plot import plot


__all__ = ["animate", "plot", "plot_edge", "plot_history"]
