"""Which backend serves an operation: the choice among those that have it."""

from types import SimpleNamespace

import pytest
import torch
from contract.cases import ABSENT

import fastkan
from fastkan import backends, ops
from fastkan.backends.registry import replaced

ALL = frozenset(ops.OPERATIONS)
CALL = torch.device("cpu"), torch.float64, 3


def without(backend, absent):
    return SimpleNamespace(**{name: getattr(backend.operations, name) for name in ALL - {absent}})


def test_every_backend_that_serves_here_has_every_operation(backend):
    operations = backends.select(backend, *CALL).operations
    assert {name for name in ALL if not hasattr(operations, name)} == ABSENT.get(backend, set())


@pytest.mark.parametrize("absent", sorted(ALL))
def test_a_backend_without_an_operation_is_passed_over_for_that_operation_only(absent, backend):
    known = backends.select(backend, *CALL)
    serving = {name: backends.select("", *CALL, name).name for name in ALL}
    with replaced(backend, operations=without(known, absent)):
        for name in ALL - {absent}:
            assert backends.select(backend, *CALL, name).name == backend
        with pytest.raises(RuntimeError, match=f"backend '{backend}' cannot serve this call: it has no {absent}"):
            backends.select(backend, *CALL, absent)
        if serving[absent] == backend and backend != "reference":
            assert backends.select("", *CALL, absent).name != backend
    assert {name: backends.select("", *CALL, name).name for name in ALL} == serving


def test_gradients_that_need_an_absent_operation_name_it():
    x = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    knots = torch.linspace(-2, 2, 9, dtype=torch.float64).repeat(2, 1)
    known = backends.select("reference", *CALL)
    with replaced("reference", operations=without(known, "quadratic")):
        gram = ops.gram(x, None, knots, 3, "silu", "reference", 0, 0)
        with pytest.raises(RuntimeError, match="'reference' cannot serve this call: it has no quadratic"):
            gram.sum().backward()


@pytest.mark.parametrize("absent", ["grad_input", "grad_weight"])
def test_gradients_in_one_call_take_what_is_absent_from_the_next_backend(absent):
    """Where a backend fuses nothing and lacks one gradient, that gradient asks for a backend of its own."""
    x = torch.randn(7, 2, dtype=torch.float64, requires_grad=True)
    layer = fastkan.KANLinear(2, 3).double()
    expected = torch.autograd.grad(layer(x).sum(), [x, layer.weight])
    first = backends.select("", *CALL)
    with replaced(first.name, operations=without(first, absent), fused_gradients=None):
        for answer, right in zip(torch.autograd.grad(layer(x).sum(), [x, layer.weight]), expected, strict=True):
            torch.testing.assert_close(answer, right, rtol=1e-12, atol=1e-12)
        layer.backend = first.name
        with pytest.raises(RuntimeError, match=f"cannot serve this call: it has no {absent}"):
            torch.autograd.grad(layer(x).sum(), [x, layer.weight])
