"""vmap's rules: what the calls give one by one, for every choice of what is batched."""

import itertools

import pytest
import torch
from batches import assert_close, batch, choices, inputs_of, operation, settings_of
from contract.cases import Case, make_inputs
from torch.func import vmap
from torch.library import opcheck

import fastkan
from fastkan import ops
from fastkan.ops import OPERATIONS, several
from fastkan.ops.table import SHAPES

DTYPES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


CALLS = {
    "one row": Case(1, 3, 2, degree=2, knots="spread"),
    "few rows, weighted": Case(3, 3, 2, knots="spread", row_weight=True),
    "rows": Case(several.FEW_ROWS + 2, 2, 3, knots="spread", activation="gelu", row_weight=True),
    "no rows": Case(0, 3, 2, row_weight=True),
    "one of all": Case(1, 1, 1),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("size", [1, 3])
def test_one_by_one(name, case, size, backend):
    case = CALLS[case]
    run, tensors = operation(name, case, backend), inputs_of(name, case, size)
    for chosen, dim in itertools.product(choices(tensors), (0, 1)):
        arguments, dims, calls = batch(tensors, chosen, dim)
        assert_close(vmap(run, dims)(*arguments), torch.stack([run(*call) for call in calls]))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_dtypes(name, dtype, backend):
    """bfloat16 too: slots are multiplied in float32, and rounded once."""
    case = CALLS["few rows, weighted"]
    run, tensors = operation(name, case, backend), inputs_of(name, case, 3, dtype)
    tensors[-1] = tensors[-1].to(torch.promote_types(dtype, torch.float32))
    for chosen in choices(tensors):
        arguments, dims, calls = batch(tensors, chosen)
        expected = torch.stack([run(*call) for call in calls])
        assert vmap(run, dims)(*arguments).dtype == expected.dtype
        assert_close(vmap(run, dims)(*arguments), expected, DTYPES[dtype])


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_batch_of_none(name, backend):
    """PyTorch's vmap takes an empty batch where an operator does."""
    case = CALLS["few rows, weighted"]
    run, tensors = operation(name, case, backend), inputs_of(name, case, 0)
    some = inputs_of(name, case, 1)
    for chosen in choices(tensors):
        arguments = [t if k in chosen else s[0] for k, (t, s) in enumerate(zip(tensors, some, strict=True))]
        made = vmap(run, tuple(0 if k in chosen else None for k in range(len(tensors))))(*arguments)
        assert made.shape == (0, *run(*(t[0] for t in some)).shape)


@pytest.mark.parametrize("name", OPERATIONS)
def test_nested(name, backend):
    """A vmap around another one: all choices for the outer and the inner batch."""
    case = CALLS["few rows, weighted"]
    run, tensors = operation(name, case, backend), inputs_of(name, case, 6)
    tensors = [t.unflatten(0, (2, 3)) for t in tensors]
    all_choices = choices(tensors)
    for outer, inner in itertools.product(all_choices, all_choices):
        arguments = []
        for k, t in enumerate(tensors):
            t = t if k in outer else t[0]
            arguments.append(t if k in inner else t.select(1 if k in outer else 0, 0))
        dims = [tuple(0 if k in chosen else None for k in range(len(tensors))) for chosen in (outer, inner)]
        made = vmap(vmap(run, dims[1]), dims[0])(*arguments)
        for a, b in itertools.product(range(2), range(3)):
            expected = run(*(t[a * (k in outer), b * (k in inner)] for k, t in enumerate(tensors)))
            assert_close(made[a, b], expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_none_stays_in_its_gradient(bad, backend):
    """Slots times cotangents would spread it: a NaN to other rows or inputs, an infinity to splines that are 0 there."""
    tensors = make_inputs(Case(4, 3, 2))
    x, g, knots = tensors["x"], tensors["grad_output"], tensors["knots"]
    x[1, 2] = bad
    run = lambda x, g: ops.grad_weight(x[None], g[None], None, knots, 3, "silu", backend, 0)  # noqa: E731
    expected = torch.stack([run(*each) for each in zip(x, g, strict=True)])
    made = vmap(run)(x, g)
    torch.testing.assert_close(made, expected, equal_nan=True)
    assert made[:, :2].isfinite().all() and made[[0, 2, 3]].isfinite().all()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("calls", [0, 1, 3])
def test_opcheck_of_several_calls(name, calls):
    case = CALLS["few rows, weighted"]
    tensors = inputs_of(name, case, calls)
    shared = [*tensors[:-1], inputs_of(name, case, 1)[-1].expand(calls, -1, -1)]
    one_row = [
        None if t is None else t[:, :1] if SHAPES.get(n, " ")[0] == "B" else t
        for t, n in zip(shared, (*OPERATIONS[name].tensors, ""), strict=True)
    ]
    for arguments in (tensors, shared, one_row):
        for requires_grad in (False, True):
            *free, knots = arguments
            free = [t.detach().requires_grad_(requires_grad) for t in free]
            opcheck(ops.raw[name], (*free, knots, *settings_of(case, name, "")))


def test_calls_that_do_not_fit_together_are_refused(backend):
    x, weight = torch.rand(3, 4, 2).double(), torch.rand(3, 2, 9, 2).double()
    knots = fastkan.splines.knots.uniform(2, 5, 3, (-1, 1)).expand(3, -1, -1)
    with pytest.raises(RuntimeError, match="shapes: expected 3 calls"):
        ops.raw["forward"](x, weight[:2], None, knots, 3, "silu", backend, 0)
    with pytest.raises(RuntimeError, match="shapes: expected tensors of one layer"):
        ops.raw["forward"](x[..., :1], weight, None, knots, 3, "silu", backend, 0)
