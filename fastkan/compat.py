"""The private PyTorch predicates that routing needs, each used nowhere else (checked on torch 2.11, 2.13 and 2.14)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.modules import module

functorch_active = torch._C._are_functorch_transforms_active  # inside torch.func.grad, vmap, jvp, ...


# A raw op called inside it skips PyTorch's autograd kernel, which has nothing to do where no graph is recorded: 4.4 of 21 us.
below_autograd = torch._C._AutoDispatchBelowAutograd


def dual_active() -> bool:
    """True inside a forward-mode level, where a dual tensor given to a raw op would lose its tangent in silence."""
    return forward_ad._current_level >= 0


def observed() -> bool:
    """True where someone follows single operations or modules: a mode, the tracer of torch.jit, a hook on all modules."""
    torch_c = torch._C
    modes = torch_c._len_torch_dispatch_stack() or torch_c._len_torch_function_stack()
    return bool(modes or torch_c._get_tracing_state() or module._has_any_global_hook())


def _keys(tensor: Tensor) -> int:
    return torch._C._dispatch_keys(tensor).raw_repr()


def _empty_keys(inference: bool) -> int:
    with torch.inference_mode(inference):
        return _keys(torch.empty(0, device="cpu"))


_PLAIN_KEYS = (_empty_keys(False), _empty_keys(True))


def plain_on_cpu(tensor: Tensor) -> bool:
    """True where its memory on the CPU says all: no negative bit, no sparse layout, no batch of a vmap.

    (is_grads_batched runs a vmap of its own, which functorch_active does not report.)
    """
    return _keys(tensor) in _PLAIN_KEYS


def jvp_depth() -> int:
    """How many forward-mode transforms of torch.func are stacked."""
    jvp = torch._C._functorch.TransformType.Jvp
    return sum(level.key() == jvp for level in torch._C._functorch.get_interpreter_stack() or [])


def queryable(tensor: Any) -> Any:
    """A leaf that requires grad as a view of itself, about which wanted_inputs can ask the engine at less cost."""
    return tensor.view_as(tensor) if isinstance(tensor, Tensor) and tensor.is_leaf and tensor.requires_grad else tensor


def _will_run(node: Any) -> bool:
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # a leaf whose gradient torch.autograd.grad returns: raised at 25 us, a view costs every step 5 to 10
        return True


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
    return tuple(wanted and (edge is None or _will_run(edge)) for wanted, edge in zip(need, edges, strict=True))
