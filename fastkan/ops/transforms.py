"""The ops' kernels for autograd and for vmap, which PyTorch's dispatcher calls: under torch.func, and in programs of compilers.

Under torch.func every transform is a level, and the dispatcher takes an op through them one by one. So a kernel sees tensors of
its own level; what it calls goes to the level below. A Function that torch.func itself takes through the levels costs 240 us a
call and level of grad, and 100 to 290 one of vmap; these kernels cost 70 and 40.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastkan.ops import derivatives
from fastkan.ops.derivatives import Closure
from fastkan.ops.table import Operation
from fastkan.ops.torch_private import (
    SingleLevelFunction,
    after_autograd,
    any_requires_grad,
    apply_in_kernel,
    below_autograd,
    dual_active,
    functorch_active,
    gradient_modes,
    in_a_batch,
    jvp_depth,
    set_gradient_modes,
    version,
    wanted_inputs,
)

# ---- autograd


def _node(operation: Operation, op: Any, of_ops: Closure, outside: Callable[[], Closure | None]) -> type[Any]:
    """The operation's node in graphs, of reverse and of forward mode."""
    tensors = operation.first_setting + 1  # knots too

    class Node(SingleLevelFunction):
        @staticmethod
        def forward(ctx: Any, below: Any, modes: Any, *inputs: Any) -> Tensor:
            derivatives.save(ctx, operation, inputs)
            ctx.save_for_forward(*inputs[:tensors])
            ctx.set_materialize_grads(False)  # so that an absent tangent is None, not zeros
            ctx.versions = None
            if modes is None:
                ctx.present = (False, False, *[t is not None for t in inputs[:tensors]])
                with below_autograd():
                    return op.redispatch(below, *inputs)
            ctx.versions = [version(t) for t in inputs[:tensors]]
            with set_gradient_modes(modes), below_autograd():
                return op.redispatch(below, *inputs)

        @staticmethod
        def backward(ctx: Any, q: Tensor | None) -> tuple[Tensor | None, ...]:
            if ctx.versions is not None and [version(t) for t in ctx.saved_tensors] != ctx.versions:
                raise RuntimeError(f"{operation.name}: one of its tensors has been modified by an inplace operation since")
            closure, need = of_ops, ctx.needs_input_grad
            if ctx.versions is None and (eager := outside()):
                closure, need = eager, wanted_inputs(ctx, ctx.present)
            return None, None, *derivatives.backward(ctx, closure, operation, need[2:], q)

        @staticmethod
        def jvp(ctx: Any, below: None, modes: None, *tangents: Tensor | None) -> Tensor | None:
            return derivatives.jvp(ctx, of_ops, operation, tangents)

    return Node


def _autograd_kernel(
    operation: Operation, op: Any, of_ops: Closure, outside: Callable[[], Closure | None]
) -> Callable[..., Tensor]:
    """Records a node where a derivative can be asked for."""
    node = _node(operation, op, of_ops, outside)

    def run(keyset: Any, *inputs: Any) -> Tensor:
        below, depth = keyset & after_autograd, jvp_depth()
        if depth > 1:
            raise NotImplementedError(
                "forward mode over forward mode gives zeros in PyTorch (pytorch/pytorch#197867): "
                "use torch.func.jacrev for one of the two"
            )
        if dual_active() or depth or (torch.is_grad_enabled() and any_requires_grad(*inputs)):
            return apply_in_kernel(node, below, gradient_modes() if functorch_active() else None, *inputs)
        with below_autograd():
            return op.redispatch(below, *inputs)

    return run


# ---- vmap


def _vmap_rule(operation: Operation, op: Any) -> Callable[..., Tensor]:
    """One call for a batch of calls.

    Rows of a batch are more rows, and outputs of a batch are more outputs. Else it is a call whose tensors all have one more
    dimension. The folds hold for such calls too, in a vmap around another one.
    """
    rows, outputs = set(operation.row_tensors), set(operation.output_tensors)
    tensors = operation.first_setting + 1

    def rule(size: int, dims: Sequence[int | None], *arguments: Any) -> Tensor:
        batched = {k for k, d in enumerate(dims) if d is not None}
        moved = [a if d is None else a.movedim(d, 0) for a, d in zip(arguments, dims, strict=True)]

        def expanded(k: int) -> Tensor:
            return moved[k] if k in batched else moved[k].expand(size, *moved[k].shape)

        if batched == outputs:
            each = moved[min(outputs)].shape[-1]
            for k in outputs:
                moved[k] = moved[k].movedim(0, -2).flatten(-2)
            return op(*moved).unflatten(-1, (size, each)).movedim(-2, 0)
        if batched <= rows:
            each = moved[0].shape[-2]
            for k in rows:
                moved[k] = None if moved[k] is None else expanded(k).movedim(0, -3).flatten(-3, -2)
            return op(*moved).unflatten(-2, (size, each)).movedim(-3, 0)
        full: list[Any] = [None if moved[k] is None else expanded(k) for k in range(tensors)]
        if full[0].ndim == 3:
            return op(*full, *moved[tensors:])
        each = full[0].shape[1]
        flat = [None if a is None else a.flatten(0, 1) for a in full]
        return op(*flat, *moved[tensors:]).unflatten(0, (size, each))

    return rule


def register(
    operation: Operation, library: torch.library.Library, op: Any, of_ops: Closure, outside: Callable[[], Closure | None]
) -> None:
    """Give an op its kernels.

    of_ops: the closure made of ops, for what the dispatcher calls. outside: that of plain eager mode, or None where a backward
    pass is not in it.
    """
    rule = _vmap_rule(operation, op)
    library.impl(operation.torch_name, _autograd_kernel(operation, op, of_ops, outside), "Autograd", with_keyset=True)
    library.impl(operation.torch_name, lambda *arguments: in_a_batch(rule, op, arguments), "FuncTorchBatched")
