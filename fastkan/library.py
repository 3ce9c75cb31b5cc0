"""The operations as raw torch ops: schemas, checks, fakes, autograd and vmap. What callers use is in ops.py.

Dtypes: x, r, gram and quadratic share one; W, g, y share another (they differ under autocast only).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastkan import backends, derivatives, reference
from fastkan.bases import check_base
from fastkan.derivatives import FIRST_SETTING, Closure
from fastkan.precision import compute_dtype

SETTINGS = "Tensor knots, int degree, str base, str backend, int nu"
SCHEMAS = {
    "forward": f"(Tensor x, Tensor weight, Tensor? row_weight, {SETTINGS}) -> Tensor",
    "grad_input": f"(Tensor x, Tensor weight, Tensor grad_output, {SETTINGS}) -> Tensor",
    "grad_weight": f"(Tensor x, Tensor grad_output, Tensor? row_weight, {SETTINGS}) -> Tensor",
    "gram": f"(Tensor x, Tensor? row_weight, {SETTINGS}, int mu) -> Tensor",
    "quadratic": f"(Tensor x, Tensor form, {SETTINGS}, int mu) -> Tensor",
}


# ---- implementation: check the order, choose the backend, compute in float32 or float64 (design section 4)


def _check_orders(base: str, orders: Sequence[int]) -> None:
    for order in orders:
        check_base(base, order)


# Positions of the tensors that must fit x and knots: (weight [I, M, O] or form [I, M, M], grad_output [B, O], row_weight [B, I])
ROLES: dict[str, tuple[int | None, int | None, int | None]] = {
    "forward": (1, None, 2),
    "grad_input": (1, 2, None),
    "grad_weight": (None, 1, 2),
    "gram": (None, None, 1),
    "quadratic": (1, None, None),
}


def _check_shapes(
    x: Tensor, knots: Tensor, degree: int, weight: Any, grad_output: Any, row_weight: Any, square: bool = False
) -> None:
    """Raise where tensors do not fit together, so that no kernel leaves their memory.

    What a user passes was checked before; but `.data`, and so `refine`, can resize a saved tensor that takes no gradient.
    """
    (rows, inputs), slots = x.shape, knots.shape[1] - degree
    outputs = None if weight is None else weight.shape[2]
    fits = inputs == knots.shape[0] and (weight is None or weight.shape[:2] == (inputs, slots))
    fits = fits and not (square and outputs != slots)
    if grad_output is not None:
        fits = fits and grad_output.shape == (rows, grad_output.shape[1] if outputs is None else outputs)
    if not (fits and (row_weight is None or row_weight.shape == x.shape)):
        shapes = {"x": x, "knots": knots, "weight": weight, "grad_output": grad_output, "row_weight": row_weight}
        received = ", ".join(f"{name} {tuple(t.shape)}" for name, t in shapes.items() if t is not None)
        raise RuntimeError(
            f"shapes: expected tensors of one layer of degree {degree}, received {received}; was one resized after forward?"
        )


def provider_of(x: Tensor, degree: int, backend: str) -> backends.Backend:
    """The named backend, or for '' the first that serves x; RuntimeError with the reasons where there is none."""
    return backends.select(backend or backends.resolve(None), x.device, x.dtype, degree)


def compute(name: str, provider: Any, arguments: Sequence[Any], takes_half: bool = False) -> Tensor:
    """Run one operation of a provider (a Backend, or the reference module), in its compute dtype unless it takes float16."""
    first = FIRST_SETTING[name]
    tensors, knots, (degree, base, _, *orders) = arguments[:first], arguments[first], arguments[first + 1 :]
    dtype = compute_dtype(tensors[0].dtype)
    operands = tensors if takes_half else [None if t is None else t.to(dtype) for t in tensors]
    result_dtype = tensors[1 if name in ("forward", "grad_weight") else 0].dtype
    return getattr(provider, name)(*operands, knots.to(dtype), degree, base, *orders).to(result_dtype)


def _implementation(name: str) -> Callable[..., Tensor]:
    first, roles, square = FIRST_SETTING[name], ROLES[name], name == "quadratic"

    def run(*arguments: Any) -> Tensor:
        x, (degree, base, backend, *orders) = arguments[0], arguments[first + 1 :]
        _check_orders(base, orders)
        weight, grad_output, row_weight = (None if position is None else arguments[position] for position in roles)
        _check_shapes(x, arguments[first], degree, weight, grad_output, row_weight, square)
        chosen = provider_of(x, degree, backend)
        return compute(name, chosen, arguments, chosen.takes_half)

    return run


def _fake(name: str) -> Callable[..., Tensor]:
    first = FIRST_SETTING[name]

    def run(*arguments: Any) -> Tensor:
        _check_orders(arguments[first + 2], arguments[first + 4 :])
        return reference.EMPTY_RESULT[name](*arguments)

    return run


# ---- registration


# Operations whose rows are independent, with the positions of their row tensors: a batch of rows is just more rows.
ROW_TENSORS = {"forward": (0, 2), "grad_input": (0, 2), "quadratic": (0,)}


def _vmap_rule(name: str) -> Callable:
    op, rows = raw[name], ROW_TENSORS.get(name, ())

    def fold(info, in_dims, *arguments):
        folded = list(arguments)
        for k in rows:
            if arguments[k] is not None:
                a, d = arguments[k], in_dims[k]
                a = a.expand(info.batch_size, *a.shape) if d is None else a.movedim(d, 0)
                folded[k] = a.reshape(-1, a.shape[-1])
        result = op(*folded)
        return result.reshape(info.batch_size, -1, result.shape[-1]), 0

    def rule(info, in_dims, *arguments):
        if rows and all(d is None or k in rows for k, d in enumerate(in_dims)) and info.batch_size:
            return fold(info, in_dims, *arguments)
        moved = [a if d is None else a.movedim(d, 0) for a, d in zip(arguments, in_dims, strict=True)]
        slices = [op(*(a if d is None else a[k] for a, d in zip(moved, in_dims, strict=True))) for k in range(info.batch_size)]
        return torch.stack(slices), 0

    return rule


def _register(name: str, closure: Closure) -> None:
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        derivatives.save(ctx, name, inputs)

    def backward(ctx: Any, q: Tensor) -> tuple[Tensor | None, ...]:
        return derivatives.backward(ctx, closure, name, ctx.needs_input_grad, q)

    library.impl(name, _implementation(name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"fastkan::{name}", _fake(name), lib=library)
    torch.library.register_autograd(f"fastkan::{name}", backward, setup_context=setup_context, lib=library)
    torch.library.register_vmap(f"fastkan::{name}", _vmap_rule(name), lib=library)


library = torch.library.Library("fastkan", "DEF")
for _name, _schema in SCHEMAS.items():
    library.define(_name + _schema)
raw = {name: getattr(torch.ops.fastkan, name).default for name in SCHEMAS}
_raw_closure = Closure(**raw)
for _name in SCHEMAS:
    _register(_name, _raw_closure)


# ---- several operations of one x in one call, where a backend makes them together


def _checked_provider(x: Tensor, weight: Tensor, grad_output: Tensor, row_weight: Tensor | None, *settings: Any) -> Any:
    knots, degree, base, backend, nu = settings
    _check_orders(base, (nu, nu + 1))
    _check_shapes(x, knots, degree, weight, grad_output, row_weight)
    return provider_of(x, degree, backend)


def _run_gradients(*arguments: Any) -> Any:
    *tensors, knots, degree, base, _, nu = arguments
    run = _checked_provider(*arguments).gradients
    return run(*tensors, knots.to(compute_dtype(tensors[0].dtype)), degree, base, nu)


def _run_sweep(*arguments: Any) -> Any:
    """What is not wanted is empty: an op returns tensors."""
    *tensors, knots, degree, base, _, nu, wanted = arguments
    run = _checked_provider(*arguments[:-1]).sweep
    made = run(*tensors, knots.to(compute_dtype(tensors[0].dtype)), degree, base, nu, wanted)
    return tuple(knots.new_empty(0) if t is None else t for t in made)


TOGETHER = f"Tensor x, Tensor weight, Tensor grad_output, Tensor? row_weight, {SETTINGS}"
library.define(f"gradients({TOGETHER}) -> (Tensor, Tensor)")
library.define(f"sweep({TOGETHER}, bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor)")
library.impl("gradients", _run_gradients, "CompositeExplicitAutograd")
library.impl("sweep", _run_sweep, "CompositeExplicitAutograd")
torch.library.register_fake("fastkan::gradients", lambda x, weight, *rest: (x.new_empty(x.shape), weight.new_empty(weight.shape)))


@torch.library.register_fake("fastkan::sweep")
def _fake_sweep(x: Tensor, weight: Tensor, grad_output: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    likes = (x, weight, x, grad_output)
    return tuple(t.new_empty(t.shape if want else 0) for t, want in zip(likes, rest[-1], strict=True))
