"""Batches of calls for the tests of vmap: an operation's tensors several times over, and which of them a vmap shares."""

import itertools

import torch
from contract.cases import make_inputs

from fastkan import ops
from fastkan.ops import OPERATIONS


def settings_of(case, name, backend):
    return case.degree, case.activation, backend, *((1,) if len(OPERATIONS[name].orders) == 1 else (0, 1))


def inputs_of(name, case, size, dtype=torch.float64):
    """The operation's tensors and the knots, each `size` times over with other numbers: [size, ...]."""
    several = [make_inputs(case, dtype, seed=seed) for seed in range(max(size, 1))]
    for k, each in enumerate(several):
        each["x"] = each["x"] + 0.0123
        each["knots"] = each["knots"] * (1 + k / 8)
    names = (*OPERATIONS[name].tensors, "knots")
    return [None if several[0][key] is None else torch.stack([each[key] for each in several])[:size] for key in names]


def choices(tensors):
    """Every choice of which tensors are batched, at least one."""
    places = [k for k, t in enumerate(tensors) if t is not None]
    return [set(some) for n in range(1, len(places) + 1) for some in itertools.combinations(places, n)]


def batch(tensors, chosen, dim=0):
    """(arguments, in_dims, one by one): the chosen tensors batched along dimension `dim`."""
    arguments = [None if t is None else t.movedim(0, dim) if k in chosen else t[0] for k, t in enumerate(tensors)]
    dims = tuple(dim if k in chosen else None for k in range(len(tensors)))
    size = next(t.shape[0] for k, t in enumerate(tensors) if k in chosen)
    calls = [[t if t is None else t[k] if j in chosen else t[0] for j, t in enumerate(tensors)] for k in range(size)]
    return arguments, dims, calls


def operation(name, case, backend):
    settings = settings_of(case, name, backend)
    return lambda *tensors: getattr(ops, name)(*tensors, *settings)


def assert_close(ours, expected, tolerance=1e-12):
    scale = float(expected.detach().abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance * max(1.0, scale))
