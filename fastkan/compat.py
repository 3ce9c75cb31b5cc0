"""The private PyTorch predicates that routing needs, each used nowhere else (checked on torch 2.13)."""

import torch
from torch.autograd import forward_ad

functorch_active = torch._C._are_functorch_transforms_active  # inside torch.func.grad, vmap, jvp, ...


def dual_active() -> bool:
    """True inside a forward-mode level, where a dual tensor given to a raw op would lose its tangent in silence."""
    return forward_ad._current_level >= 0


def jvp_depth() -> int:
    """How many forward-mode transforms of torch.func are stacked."""
    jvp = torch._C._functorch.TransformType.Jvp
    return sum(level.key() == jvp for level in torch._C._functorch.get_interpreter_stack() or [])
