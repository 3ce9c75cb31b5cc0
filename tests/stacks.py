"""Stacks of layers for the tests of fastkan/stack.py, and how often the compiled core ran one."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from fastkan import KAN, backends

CORE = pytest.mark.skipif(backends.TABLE[0].name not in backends.available("cpu"), reason="the compiled core is not built")


def make_net(widths=(2, 5, 1), dtype=torch.float64, **settings):
    net = KAN(widths, dtype=dtype, **settings)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net


def layer_by_layer(net, x):
    for layer in net:
        x = layer(x)
    return x


def rows(*shape, dtype=torch.float64, grad=False):
    return (2 * torch.rand(*shape, dtype=dtype) - 1).requires_grad_(grad)


@contextmanager
def replaced(forward=None, gradients=None):
    """Other functions in the place of backend cpu's stack."""
    cpu, served = backends.TABLE[0], backends.TABLE[0].stack
    object.__setattr__(cpu, "stack", type(served)(forward or served.forward, gradients or served.gradients))
    try:
        yield served
    finally:
        object.__setattr__(cpu, "stack", served)


@contextmanager
def counted():
    """How often the compiled core ran a stack: [forward, gradients]."""
    count = [0, 0]

    def counting(position):
        def run(*arguments):
            count[position] += 1
            return served[position](*arguments)

        return run

    with replaced(counting(0), counting(1)) as served:
        yield count
