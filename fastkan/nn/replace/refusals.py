"""Why a block is not replaced: its exchange would break the model, or lose something of the block's in silence."""

from torch import nn
from torch.nn.utils import parametrize

from fastkan.dtypes import DTYPES
from fastkan.nn.grid import in_ddp
from fastkan.nn.replace.fused import attention_of, avoidable
from fastkan.nn.replace.model import Model, memory
from fastkan.nn.replace.readers import readings

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
         "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")  # fmt: skip
TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
OLD_NORMS = {"WeightNorm": "weight_norm", "SpectralNorm": "spectral_norm"}

ADAPTERS = ("BaseTunerLayer", "AuxiliaryTrainingWrapper")  # peft's, by the names of their classes

# What a wrapper is built by, by the name of its class. It keeps the parameters, shapes or code of the model that it was given.
WRAPPERS = {
    "DataParallel": "DataParallel(model)",
    "DistributedDataParallel": "DistributedDataParallel(model)",
    "FullyShardedDataParallel": "FullyShardedDataParallel(model)",
    "FSDPModule": "fully_shard(model)",
    "OptimizedModule": "torch.compile(model)",
    "DeepSpeedEngine": "deepspeed.initialize(model=model)",
}


def wrapped_by(module: nn.Module) -> str | None:
    """How a wrapper was built around a model, or None for a module that is no wrapper."""
    return next((WRAPPERS[cls.__name__] for cls in type(module).__mro__ if cls.__name__ in WRAPPERS), None)


def check_bare(model: nn.Module, call: str) -> None:
    """ValueError for a model that is wrapped: the wrapper would go on with the parameters, shapes or code of before."""
    if way := wrapped_by(model):
        kind = type(model).__name__
        raise ValueError(f"model: expected a model before it is wrapped, received {kind}; call {call}(model) first, then {way}")
    first = next(model.parameters(), None)
    if first is not None and in_ddp(first):
        raise ValueError(
            "model: expected a model before it is wrapped, received one inside DistributedDataParallel, which would not average "
            f"the new parameters; call {call}(model) first, then {WRAPPERS['DistributedDataParallel']}"
        )


def _around(model: Model, name: str) -> str | None:
    """What an enclosing module, or a wrapper that became the block's class, has against an exchange of the block."""
    for module in (*(module for _, module in model.ancestors(name)), model.modules[name]):
        if call := wrapped_by(module):
            return f"it is inside {type(module).__name__}; call replace_linear(model) first, then {call}"
        if any(cls.__name__ in ADAPTERS for cls in type(module).__mro__):
            return f"it is inside peft's {type(module).__name__}; call replace_linear(model) first, then get_peft_model"
    return None


def _patched(block: nn.Module) -> str | None:
    """What was attached to the block itself and would be lost with it."""
    if hasattr(block, "_hf_hook"):
        return "accelerate's hook moves its weights (device_map, cpu_offload); replace first, then dispatch"
    if "forward" in block.__dict__ or block._compiled_call_impl is not None:
        return "its forward is patched or compiled in place, which a new layer would lose"
    for hook in block._forward_pre_hooks.values():
        if name := OLD_NORMS.get(type(hook).__name__):
            return f"torch.nn.utils.{name} computes its weight; remove_{name} first"
    if any(getattr(block, hooks) for hooks in HOOKS):
        return "it has hooks, which a new layer would lose"
    return None


def _attention(model: Model, name: str) -> str | None:
    """What keeps the attention around an out_proj from calling it: code that is not its class's, or that may read the weight."""
    attention = attention_of(model, name)
    if attention is None:
        return None
    if "forward" in attention.__dict__ or attention._compiled_call_impl is not None:
        return "its attention's forward is patched or compiled in place"
    if any(getattr(attention, hooks) for hooks in HOOKS):
        return "its attention has hooks; replace first, then attach them"
    if id(attention) in model.held:
        return f"{model.held[id(attention)]} holds its attention too, outside of the modules"
    return None


def _parameters(model: Model, block: nn.Module, meta: bool) -> str | None:
    """What the block's parameters have against an exchange."""
    for label, parameter in block.named_parameters(recurse=False):
        if model.owners[memory(parameter)] > 1:
            return f"its {label} is tied to another module's"
        if type(parameter) is not nn.Parameter:
            return f"its {label} is a {type(parameter).__name__}"
        if any(getattr(parameter, hooks) for hooks in TENSOR_HOOKS):
            return f"its {label} has hooks, which a new parameter would lose"
        if parameter.is_meta and not meta:
            return f"its {label} is on the meta device, so there is no function to keep; load the model first"
    return None


def refusal(model: Model, names: list[str], block: nn.Module, plain: type, label: str, meta: bool = False) -> str | None:
    """Why the block that sits at all of `names` cannot be replaced, or None.

    plain, label: the class that it must have exactly, and its name
    meta: whether a block without values is fine, because they will be loaded
    """
    for name in names:
        if reason := _around(model, name):
            return reason
        if owner := next((owner for owner, source in readings(model, name) if not avoidable(owner, source)), None):
            return f"{type(owner).__name__} reads its .weight directly"
        if reason := _attention(model, name):
            return reason
    if id(block) in model.held:
        return f"{model.held[id(block)]} holds it too, outside of the modules, and would go on with it"
    if parametrize.is_parametrized(block):
        return "its parameters are parametrized (torch.nn.utils.parametrize)"
    if type(block) is not plain:
        return f"{type(block).__name__} is a subclass of {label} with behaviour of its own"
    if reason := _patched(block):
        return reason
    if not isinstance(block._parameters.get("weight"), nn.Parameter):
        return "its weight is no plain parameter"
    if block.weight.dtype not in DTYPES:
        return f"its dtype is {block.weight.dtype}"
    return _parameters(model, block, meta)
