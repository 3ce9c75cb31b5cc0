"""The five operations as torch ops, a family closed under differentiation: gradients of every order, reverse and forward.

    F_nu(x, W; r) forward      X_nu(x, W, g) grad_input      A_nu(x, g; r) grad_weight      (docs/design.md, section 3)
    N_nu,mu(x; r) gram         Q_nu,mu(x, C) quadratic, the adjoint of gram

Each derivative of one of them is a sum of the same five with nu + 1 and the cotangents in the places of W, g, C or r.
Dtypes: x, r, gram and quadratic share one; W, g, y share another (they differ under autocast only).
Three routes lead to the same raw ops (measured in docs/design.md): under torch.compile and torch.export the raw op with
`register_autograd`; under torch.func a Function with setup_context; in plain eager mode a cheaper Function.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastkan import backends, derivatives, reference
from fastkan.bases import check_base
from fastkan.compat import below_autograd, dual_active, functorch_active, jvp_depth, queryable, wanted_inputs
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


def _compute(name: str, provider: Any, arguments: Sequence[Any], takes_half: bool = False) -> Tensor:
    """Run one operation of a provider (a Backend, or the reference module), in its compute dtype unless it takes float16."""
    first = FIRST_SETTING[name]
    tensors, knots, (degree, base, _, *orders) = arguments[:first], arguments[first], arguments[first + 1 :]
    compute = compute_dtype(tensors[0].dtype)
    operands = tensors if takes_half else [None if t is None else t.to(compute) for t in tensors]
    result_dtype = tensors[1 if name in ("forward", "grad_weight") else 0].dtype
    return getattr(provider, name)(*operands, knots.to(compute), degree, base, *orders).to(result_dtype)


def _implementation(name: str) -> Callable[..., Tensor]:
    first, roles, square = FIRST_SETTING[name], ROLES[name], name == "quadratic"

    def run(*arguments: Any) -> Tensor:
        x, (degree, base, backend, *orders) = arguments[0], arguments[first + 1 :]
        _check_orders(base, orders)
        weight, grad_output, row_weight = (None if position is None else arguments[position] for position in roles)
        _check_shapes(x, arguments[first], degree, weight, grad_output, row_weight, square)
        chosen = backends.select(backend or backends.resolve(None), x.device, x.dtype, degree)
        return _compute(name, chosen, arguments, chosen.takes_half)

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

EAGER: dict[str, type[torch.autograd.Function]] = {}
FUNCTORCH: dict[str, type[torch.autograd.Function]] = {}


def _route(name: str) -> Callable[..., Tensor]:
    op = raw[name]

    def call(*arguments: Any) -> Tensor:
        if torch.compiler.is_compiling():  # also under export and the ONNX exporter
            if functorch_active() or dual_active():  # plain PyTorch, which these transforms can differentiate
                return _compute(name, reference, arguments)
            return op(*arguments)
        if functorch_active():
            if jvp_depth() > 1:
                raise NotImplementedError(
                    "forward mode over forward mode gives zeros in PyTorch (pytorch/pytorch#197867): "
                    "use torch.func.jacrev for one of the two"
                )
            return FUNCTORCH[name].apply(*arguments)
        if not torch.is_grad_enabled() and not dual_active():  # every first-order backward comes here too
            with below_autograd():
                return op(*arguments)
        return EAGER[name].apply(*map(queryable, arguments))

    call.__name__ = name
    return call


forward, grad_input, grad_weight, gram, quadratic = (_route(name) for name in SCHEMAS)


def _keep(ctx: Any, name: str, inputs: Sequence[Any]) -> None:
    derivatives.save(ctx, name, inputs)
    ctx.save_for_forward(*inputs[: FIRST_SETTING[name] + 1])
    ctx.set_materialize_grads(False)  # so that an absent tangent is None, not zeros


def _eager_function(name: str, closure: Closure) -> type[torch.autograd.Function]:
    """The cheap Function of plain eager mode: ctx in forward."""
    op = raw[name]

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Tensor:
            _keep(ctx, name, inputs)
            ctx.present = tuple(t is not None for t in inputs[: FIRST_SETTING[name] + 1])
            with below_autograd():
                return op(*inputs)

        @staticmethod
        def backward(ctx: Any, q: Tensor | None) -> tuple[Tensor | None, ...]:
            return derivatives.backward(ctx, closure, name, wanted_inputs(ctx, ctx.present), q)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
            return derivatives.jvp(ctx, closure, name, tangents)

    return Eager


def _functorch_function(name: str, closure: Closure) -> type[torch.autograd.Function]:
    """The Function that torch.func can transform; its apply costs 4-10x as much."""
    op = raw[name]

    class Functorch(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*inputs: Any) -> Tensor:
            return op(*inputs)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            _keep(ctx, name, inputs)

        @staticmethod
        def backward(ctx: Any, q: Tensor | None) -> tuple[Tensor | None, ...]:
            return derivatives.backward(ctx, closure, name, ctx.needs_input_grad, q)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
            return derivatives.jvp(ctx, closure, name, tangents)

    return Functorch


# ---- both gradients of F in one call, for plain first-order backward: nothing differentiates it


def _provider_of_both(x: Tensor, degree: int, backend: str) -> Any:
    return backends.select(backend or backends.resolve(None), x.device, x.dtype, degree).gradients


def _run_gradients(x: Tensor, weight: Tensor, grad_output: Tensor, row_weight: Tensor | None, *settings: Any) -> Any:
    knots, degree, base, backend, nu = settings
    _check_orders(base, (nu, nu + 1))
    _check_shapes(x, knots, degree, weight, grad_output, row_weight)
    run = _provider_of_both(x, degree, backend)
    return run(x, weight, grad_output, row_weight, knots.to(compute_dtype(x.dtype)), degree, base, nu)


library.define(f"gradients(Tensor x, Tensor weight, Tensor grad_output, Tensor? row_weight, {SETTINGS}) -> (Tensor, Tensor)")
library.impl("gradients", _run_gradients, "CompositeExplicitAutograd")
torch.library.register_fake("fastkan::gradients", lambda x, weight, *rest: (x.new_empty(x.shape), weight.new_empty(weight.shape)))


def gradients(x: Tensor, weight: Tensor, grad_output: Tensor, row_weight: Tensor | None, *settings: Any) -> Any:
    """(grad_input of order nu + 1, grad_weight of order nu) from a backend that makes both in one go; None where none does, or
    where a transform or a graph of the backward pass needs operations it can differentiate."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or functorch_active() or dual_active():
        return None
    if _provider_of_both(x, settings[1], settings[3]) is None:
        return None
    return torch.ops.fastkan.gradients.default(x, weight, grad_output, row_weight, *settings)


_closure = Closure(gradients, forward=forward, grad_input=grad_input, grad_weight=grad_weight, gram=gram, quadratic=quadratic)
for _name in SCHEMAS:
    EAGER[_name], FUNCTORCH[_name] = _eager_function(_name, _closure), _functorch_function(_name, _closure)
