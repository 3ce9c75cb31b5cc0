"""Grids, the refit between them, and the activations of the base slot."""
