"""The operations of the table as torch ops: schema, implementation and fake. Callers use routes.py, which adds the rest.

Dtypes: x, row_weight, gram and quadratic share one; weight, grad_output and y share another (they differ under autocast only).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastkan import backends
from fastkan.dtypes import compute_dtype
from fastkan.ops import several
from fastkan.ops.table import FUSED_NAME, FUSED_SCHEMA, FUSED_TENSORS, OPERATIONS, Operation, Settings, Wanted
from fastkan.splines.activations import check_activation

# ---- implementation: check, choose the backend, compute in float32 or float64 (docs/design.md, section 4)


def _check_orders(activation: str, orders: Sequence[int]) -> None:
    for order in orders:
        check_activation(activation, order)


class _Shapes:
    """Raises if the tensors of a call do not fit together, so that no kernel reads or writes outside of them.

    What a user passes was checked before; but `.data`, and so `refine`, can resize a saved tensor that takes no gradient.
    """

    def __init__(self, tensors: Sequence[str]) -> None:
        self.names = tensors
        place = {name: tensors.index(name) if name in tensors else None for name in FUSED_TENSORS}
        self.weight, self.grad_output, self.row_weight = place["weight"], place["grad_output"], place["row_weight"]
        self.form = tensors.index("form") if "form" in tensors else None

    def check(self, tensors: Sequence[Any], knots: Tensor, degree: int) -> None:
        (rows, inputs), slots = tensors[0].shape, knots.shape[1] - degree
        fits, outputs = inputs == knots.shape[0], None
        if self.weight is not None:
            in_features, own_slots, outputs = tensors[self.weight].shape
            fits = fits and in_features == inputs and own_slots == slots
        if self.form is not None:
            fits = fits and tensors[self.form].shape == (inputs, slots, slots)
        if self.grad_output is not None:
            shape = tensors[self.grad_output].shape
            fits = fits and shape[0] == rows and outputs in (None, shape[1])
        if self.row_weight is not None and tensors[self.row_weight] is not None:
            fits = fits and tensors[self.row_weight].shape == (rows, inputs)
        if not fits:
            named = {**dict(zip(self.names, tensors, strict=True)), "knots": knots}
            received = ", ".join(f"{name} {tuple(t.shape)}" for name, t in named.items() if t is not None)
            raise RuntimeError(
                f"shapes: expected tensors of one layer of degree {degree}, received {received}; was one resized after forward?"
            )


def _backend_of(x: Tensor, settings: Settings, operation: str) -> backends.Backend:
    """The named backend, or for '' the first that serves x; RuntimeError with the reasons where there is none."""
    return backends.select(settings.backend or backends.resolve(None), x.device, x.dtype, settings.degree, operation)


def compute(
    operation: Operation, backend: backends.Backend, tensors: Sequence[Any], settings: Settings, orders: Sequence[int]
) -> Tensor:
    """Run an operation on a backend, in the compute dtype unless it takes 16-bit tensors."""
    dtype = compute_dtype(tensors[0].dtype)
    operands = tensors if backend.takes_16_bit else [None if t is None else t.to(dtype) for t in tensors]
    run = getattr(backend.operations, operation.name)
    answer = run(*operands, settings.knots.to(dtype), settings.degree, settings.activation, *orders)
    return answer.to(tensors[operation.position_of_like].dtype)


def _implementation(operation: Operation) -> Callable[..., Tensor]:
    shapes = _Shapes(operation.tensors)

    def run(*arguments: Any) -> Tensor:
        tensors, settings, orders = operation.split(arguments)
        _check_orders(settings.activation, orders)
        backend = _backend_of(tensors[0], settings, operation.name)
        if tensors[0].ndim == 2:
            shapes.check(tensors, settings.knots, settings.degree)
            return compute(operation, backend, tensors, settings, orders)
        several.check_first(shapes.check, tensors, settings.knots, settings.degree)
        return compute_several(operation, backend, tensors, settings, orders)

    return run


def compute_several(
    operation: Operation, backend: backends.Backend, tensors: Sequence[Any], settings: Settings, orders: Sequence[int]
) -> Tensor:
    """N calls at once: all tensors have one more dimension in front."""
    x, knots = tensors[0], settings.knots
    if operation.name == "grad_weight" and several.products_serve(x, knots):
        run = _backend_of(x, settings, "grad_input").operations.grad_input
        made = several.grad_weights(run, tensors, settings, orders[0])
        return made.to(tensors[operation.position_of_like].dtype)
    calls = several.calls_of((*tensors, knots))
    results = [compute(operation, backend, own, settings._replace(knots=grid), orders) for *own, grid in calls]
    return torch.stack(results) if results else operation.empty(tensors, settings)


def _fake(operation: Operation) -> Callable[..., Tensor]:
    def run(*arguments: Any) -> Tensor:
        tensors, settings, orders = operation.split(arguments)
        _check_orders(settings.activation, orders)
        return operation.empty(tensors, settings)

    return run


# ---- registration


library = torch.library.Library("fastkan", "DEF")
for _operation in OPERATIONS.values():
    library.define(_operation.schema)
raw = {name: getattr(torch.ops.fastkan, operation.torch_name).default for name, operation in OPERATIONS.items()}
for _operation in OPERATIONS.values():
    library.impl(_operation.torch_name, _implementation(_operation), "CompositeExplicitAutograd")
    torch.library.register_fake(f"fastkan::{_operation.torch_name}", _fake(_operation), lib=library)


# ---- several gradients of one x in one call


_fused_shapes = _Shapes(FUSED_TENSORS)
NOTHING = torch.empty(0, device="cpu")


def _one_by_one(
    backend: backends.Backend, tensors: Sequence[Any], settings: Settings, nu: int, wanted: Wanted
) -> list[Tensor | None]:
    x, weight, grad_output, row_weight = tensors

    def run(name: str, operands: Sequence[Any], order: int) -> Tensor:
        able = backend if hasattr(backend.operations, name) else _backend_of(x, settings, name)
        return compute(OPERATIONS[name], able, operands, settings, (order,))

    of_input = (x, weight, grad_output)
    return [
        run("grad_input", of_input, nu + 1) if wanted.grad_input else None,
        run("grad_weight", (x, grad_output, row_weight), nu) if wanted.grad_weight else None,
        run("grad_input", of_input, nu) if wanted.grad_row_weight else None,
        run("forward", (x, weight, row_weight), nu) if wanted.forward else None,
    ]


def _run_fused(*arguments: Any) -> tuple[Tensor, ...]:
    """The results that `Wanted` names, from a backend that makes them in one pass, else operation by operation.

    In the place of what is not wanted stands NOTHING: an op returns tensors, and a new empty one costs 2 us.
    """
    *tensors, knots, degree, activation, name, nu, flags = arguments
    settings, wanted = Settings(knots, degree, activation, name), Wanted(*flags)
    _check_orders(activation, (nu, nu + 1))
    backend = _backend_of(tensors[0], settings, "forward")
    if tensors[0].ndim == 2:
        _fused_shapes.check(tensors, knots, degree)
        return _fuse(backend, tensors, settings, nu, wanted)
    several.check_first(_fused_shapes.check, tensors, knots, degree)
    calls = several.calls_of((*tensors, knots))
    made = [_fuse(backend, own, settings._replace(knots=grid), nu, wanted) for *own, grid in calls]
    if not made:
        return _fake_fused(*arguments)
    return tuple(torch.stack(each) if want else NOTHING for want, each in zip(wanted, zip(*made, strict=True), strict=True))


def _fuse(backend: backends.Backend, tensors: Sequence[Any], settings: Settings, nu: int, wanted: Wanted) -> tuple[Tensor, ...]:
    knots, degree, activation, _ = settings
    made = None
    if backend.fused_gradients:
        made = backend.fused_gradients(*tensors, knots.to(compute_dtype(tensors[0].dtype)), degree, activation, nu, wanted)
    if made is None:
        made = _one_by_one(backend, tensors, settings, nu, wanted)
    return tuple(NOTHING if t is None else t for t in made)


def _fake_fused(x: Tensor, weight: Tensor, grad_output: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    likes = (x, weight, x, grad_output)
    return tuple(t.new_empty(t.shape if wanted else 0) for t, wanted in zip(likes, rest[-1], strict=True))


library.define(FUSED_SCHEMA)
library.impl(FUSED_NAME, _run_fused, "CompositeExplicitAutograd")
torch.library.register_fake(f"fastkan::{FUSED_NAME}", _fake_fused, lib=library)
raw_fused_gradients = torch.ops.fastkan.kan_linear_fused_gradients.default
