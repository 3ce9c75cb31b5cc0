"""Stacks of layers for the tests of fastkan/ops/stack.py, and how often the native module ran one."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from fastkan import KAN, backends
from fastkan.backends import Stack, registry

CORE = pytest.mark.skipif(backends.table()[0].name not in backends.available("cpu"), reason="the native module is not built")


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
    served = backends.table()[0].stack
    with registry.replaced("cpu", stack=Stack(forward or served.forward, gradients or served.gradients)):
        yield served


@contextmanager
def counted():
    """How often the native module ran a stack: [forward, gradients]."""
    count = [0, 0]
    served = backends.table()[0].stack

    def counting(position):
        def run(*arguments):
            count[position] += 1
            return served[position](*arguments)

        return run

    with replaced(counting(0), counting(1)):
        yield count
