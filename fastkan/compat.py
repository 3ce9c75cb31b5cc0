"""The private PyTorch predicates that routing needs, each used nowhere else (checked on torch 2.11, 2.13 and 2.14)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

functorch_active = torch._C._are_functorch_transforms_active  # inside torch.func.grad, vmap, jvp, ...


def dual_active() -> bool:
    """True inside a forward-mode level, where a dual tensor given to a raw op would lose its tangent in silence."""
    return forward_ad._current_level >= 0


def jvp_depth() -> int:
    """How many forward-mode transforms of torch.func are stacked."""
    jvp = torch._C._functorch.TransformType.Jvp
    return sum(level.key() == jvp for level in torch._C._functorch.get_interpreter_stack() or [])


def queryable(tensor: Any) -> Any:
    """A leaf that requires grad as a view of itself: wanted_inputs can ask the engine about any node but a leaf's."""
    return tensor.view_as(tensor) if isinstance(tensor, Tensor) and tensor.is_leaf and tensor.requires_grad else tensor


def wanted_inputs(ctx: Any, present: tuple[bool, ...]) -> tuple[bool, ...]:
    """Inside an eager Function's backward: which gradients this pass uses; `present` says which arguments were tensors.

    needs_input_grad only knows what requires grad: torch.autograd.grad(y, x) would pay for the weight's gradient as well, which
    every derivative of a PINN does.
    """
    need = ctx.needs_input_grad[: len(present)]
    if torch.compiler.is_compiling():  # compiled autograd traces this and drops what is not used
        return need
    nodes = iter(ctx.next_functions)  # one for each tensor argument
    edges = [next(nodes)[0] if is_tensor else None for is_tensor in present]
    will_run = torch._C._will_engine_execute_node
    return tuple(wanted and (edge is None or will_run(edge)) for wanted, edge in zip(need, edges, strict=True))
