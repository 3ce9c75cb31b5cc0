"""The private PyTorch predicates that routing needs, each used nowhere else (checked on torch 2.11, 2.13 and 2.14)."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

SUPPORTED = "torch 2.11 and newer, checked up to 2.14"


def private(path: str) -> Any:
    """torch.<path>, or an error that says which torch lacks it."""
    found: Any = torch
    for name in path.split("."):
        if not hasattr(found, name):
            raise ImportError(f"torch {torch.__version__} has no torch.{path}, which fastkan needs; fastkan supports {SUPPORTED}")
        found = getattr(found, name)
    return found


functorch_active = private("_C._are_functorch_transforms_active")  # inside torch.func.grad, vmap, jvp, ...

# A raw op called inside it skips PyTorch's autograd kernel, which has nothing to do where no graph is recorded: 4.4 of 21 us.
below_autograd = private("_C._AutoDispatchBelowAutograd")

_dispatch_modes = private("_C._len_torch_dispatch_stack")
_function_modes = private("_C._len_torch_function_stack")
tracing_state = private("_C._get_tracing_state")  # not None while torch.jit.trace records
_set_tracing_state = private("_C._set_tracing_state")
_has_any_global_hook = private("nn.modules.module._has_any_global_hook")
_dispatch_keys = private("_C._dispatch_keys")
_jvp = private("_C._functorch.TransformType.Jvp")
_interpreter_stack = private("_C._functorch.get_interpreter_stack")
_is_wrapped = private("_C._functorch.is_functorch_wrapped_tensor")
_unwrapped = private("_C._functorch.get_unwrapped")
_will_execute = private("_C._will_engine_execute_node")
_swap_tensor_impl = private("_C._swap_tensor_impl")

# The base of torch.autograd.Function, which takes itself through all levels of torch.func: 240 us a call where this takes 70.
SingleLevelFunction = private("autograd.function._SingleLevelFunction")

after_autograd = private("_C._after_autograd_keyset")  # of a kernel that calls its op again without autograd
any_requires_grad = private("_C._any_requires_grad")
_forward_mode = private("_C._is_fwd_grad_enabled")
_set_forward_mode = private("_C._set_fwd_grad_enabled")
_single_level = private("_C._functorch.get_single_level_autograd_function_allowed")
_set_single_level = private("_C._functorch.set_single_level_autograd_function_allowed")
_level = private("_C._functorch.current_level")
_without_batch = private("_C._functorch._unwrap_batched")
_with_batch = private("_C._functorch._add_batch_dim")
_excluded = private("_C._ExcludeDispatchKeyGuard")
_BATCHED = private("_C.DispatchKeySet")(private("_C.DispatchKey").FuncTorchBatched)
private("autograd.forward_ad._current_level")  # an int that changes: read where it is used


def swap_tensor(tensor: Tensor, other: Tensor) -> None:
    """Give a tensor object the data, shape and graph of another one. Graphs from before keep what they had.

    `.data =` changes data under a live graph, whose AccumulateGrad node then expects the old shape. (torch.utils.swap_tensors
    refuses a tensor that a graph or a weak reference holds, and swaps attributes too.)
    """
    _swap_tensor_impl(tensor, other)


def dual_active() -> bool:
    """True inside a forward-mode level, where a dual tensor given to a raw op would lose its tangent in silence."""
    return forward_ad._current_level >= 0


def version(tensor: Any) -> int:
    """How often a tensor was written to in place, also inside torch.func, whose saved tensors nobody else checks."""
    while isinstance(tensor, Tensor) and _is_wrapped(tensor):
        tensor = _unwrapped(tensor)
    return 0 if tensor is None or tensor.is_inference() else tensor._version


def observed() -> bool:
    """True where someone follows single operations or modules: a mode, or a hook on all modules."""
    return bool(_dispatch_modes() or _function_modes() or _has_any_global_hook())


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function where torch.jit.trace does not see it: there, sizes are numbers and comparisons of them give no warning."""

    def run(*arguments: Any) -> Any:
        state = tracing_state()
        _set_tracing_state(None)
        try:
            return function(*arguments)
        finally:
            _set_tracing_state(state)

    return run


def onnx_exporting() -> bool:
    """True inside torch.onnx.export. Nobody who does not export pays for the import of torch.onnx, and Dynamo cannot ask."""
    if torch.compiler.is_dynamo_compiling():
        return False
    return "torch.onnx" in sys.modules and torch.onnx.is_in_onnx_export()


def jagged_dim(tensor: Any) -> int:
    """Which dimension of a nested tensor is the ragged one."""
    return tensor._ragged_idx


def _keys(tensor: Tensor) -> int:
    return _dispatch_keys(tensor).raw_repr()


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
    return sum(level.key() == _jvp for level in _interpreter_stack() or [])


def queryable(tensor: Any) -> Any:
    """A leaf that requires grad as a view of itself, about which wanted_inputs can ask the engine at less cost."""
    return tensor.view_as(tensor) if isinstance(tensor, Tensor) and tensor.is_leaf and tensor.requires_grad else tensor


def _will_run(node: Any) -> bool:
    try:
        return _will_execute(node)
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


# ---- inside kernels of torch ops


def gradient_modes() -> tuple[bool, bool]:
    """Whether reverse and forward mode are on."""
    return torch.is_grad_enabled(), _forward_mode()


@contextlib.contextmanager
def set_gradient_modes(modes: tuple[bool, bool]) -> Iterator[None]:
    """A Function's forward runs with both off. The lower levels of torch.func are called from there and need theirs."""
    before = gradient_modes()
    torch._C._set_grad_enabled(modes[0])
    _set_forward_mode(modes[1])
    try:
        yield
    finally:
        torch._C._set_grad_enabled(before[0])
        _set_forward_mode(before[1])


def apply_in_kernel(function: Any, *arguments: Any) -> Any:
    """Apply a node in an op's autograd kernel, which sees one level of torch.func at a time."""
    if not functorch_active():
        return function.apply(*arguments)
    before = _single_level()
    _set_single_level(True)
    try:
        return function.apply(*arguments)
    finally:
        _set_single_level(before)


def in_a_batch(rule: Callable[..., Any], op: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """An op's answer at the present level of vmap.

    rule(size, dims, *arguments): the answer, batch first, for arguments whose batch of that size is dimension dims[k] or None.
    (torch.library.register_vmap takes 100 us for the same.)
    """
    level = _level()
    pairs = [_without_batch(a, level) if isinstance(a, Tensor) else (a, None) for a in arguments]
    plain, dims = [a for a, _ in pairs], [d for _, d in pairs]
    size = next((a.shape[d] for a, d in pairs if d is not None), None)
    with _excluded(_BATCHED):
        return op(*plain) if size is None else _with_batch(rule(size, dims, *plain), 0, level)
