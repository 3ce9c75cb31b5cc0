"""A small workload of `python -m fastkan profile`, and peaks of a machine that is not there."""

from fastkan.tools.profile.peaks import Peaks
from fastkan.tools.profile.workload import Workload


def make(**changes):
    settings = {"rows": 50, "in_features": 6, "out_features": 9, "grid_size": 4, "degree": 2, "dtype": "float32"}
    return Workload(**{**settings, "device": "cpu", "backend": "reference", "mode": "step", **changes})


def make_peaks(flops=1e9, bandwidths=((2**20, 1e8),), rounds=3):
    return Peaks(flops, tuple(bandwidths), "a loop", "reads", rounds)
