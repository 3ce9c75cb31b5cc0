"""What fit accepts: every argument is checked here, once, before anything changes."""

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from fastkan.functional import check_tensor
from fastkan.nn import KANLinear
from fastkan.nn.edges import present
from fastkan.nn.grid import ranks

OPTIMIZERS = ("lm", "lbfgs", "ssbroyden", "adamw")
LOSSES = ("mse", "cross_entropy")


def check_model(model: Any) -> list[KANLinear]:
    """The KAN layers of a model that can be trained, in the only process: others would fit other rows, and drift apart."""
    if ranks() > 1:
        raise RuntimeError(f"expected one process, received {ranks()}; fit in one, and load its state in the others")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, received {type(model).__name__}")
    layers = [module for module in model.modules() if isinstance(module, KANLinear)]
    if not layers:
        raise ValueError(f"model: expected at least one KANLinear, received {type(model).__name__} without any")
    gone = {id(layer.weight) for layer in layers if not present(layer).any()}
    if not any(p.requires_grad and id(p) not in gone for p in model.parameters()):
        raise ValueError("model: expected something to train, received a model whose parameters are all frozen or without edges")
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"model: expected finite parameters, received NaN or infinity in {name}")
    return layers


def check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | Integral) or int(value) < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, received {value!r}")


def check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | Real) or not float(value) > 0:
        raise ValueError(f"{name}: expected a number above 0, received {value!r}")


def check_finite(name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not (fine := tensor.isfinite().reshape(len(tensor), -1).all(1)).all():
        bad = (~fine).nonzero().flatten().tolist()
        raise ValueError(
            f"{name}: expected finite values, received NaN or infinity in {len(bad)} rows, the first is row {bad[0]}"
        )


def check_rows(name: str, x: Any, model: nn.Module) -> None:
    """x [B, ...] on the model's device and in its dtype, with finite values."""
    check_tensor(name, x)
    if x.ndim < 2 or not len(x):
        raise ValueError(f"{name}: expected rows [B, I] with B of at least 1, received shape {tuple(x.shape)}")
    parameter = next(model.parameters())
    if x.device != parameter.device:
        raise ValueError(f"{name}: expected the model's device {parameter.device}, received {x.device}")
    if x.dtype != parameter.dtype:
        raise TypeError(f"{name}: expected the model's dtype {parameter.dtype}, received {x.dtype}")
    check_finite(name, x)


def check_targets(name: str, x: Tensor, y: Any, model: nn.Module, loss: Any) -> None:
    """y that fits the model's output for x, whose shapes must not be broadcast against each other."""
    if not isinstance(y, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, received {type(y).__name__}")
    if y.device != x.device:
        raise ValueError(f"{name}: expected x's device {x.device}, received {y.device}")
    if len(y.shape) == 0 or len(y) != len(x):
        raise ValueError(f"{name}: expected {len(x)} rows as x has, received shape {tuple(y.shape)}")
    with torch.no_grad():
        output = model(x[:1])
    if loss == "cross_entropy":
        if y.dtype != torch.int64 or y.ndim != 1:
            raise ValueError(f"{name}: expected class numbers [B] in int64, received shape {tuple(y.shape)} in {y.dtype}")
        if y.min() < 0 or y.max() >= output.shape[-1]:
            raise ValueError(f"{name}: expected classes from 0 to {output.shape[-1] - 1}, received {y.min()} to {y.max()}")
    elif loss == "mse":
        expected = (len(x), *output.shape[1:])
        if y.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, the model's output, received {tuple(y.shape)}")
        if y.dtype != output.dtype:
            raise TypeError(f"{name}: expected the model's dtype {output.dtype}, received {y.dtype}")
    check_finite(name, y)


def check_weight(weight: Any, x: Tensor, loss: Any) -> Tensor:
    """Weights of rows [B], brought to the mean 1."""
    check_tensor("weight", weight, 1)
    if len(weight) != len(x) or weight.device != x.device or weight.dtype != x.dtype:
        raise ValueError(
            f"weight: expected shape ({len(x)},) in {x.dtype} on {x.device}, received {tuple(weight.shape)} in {weight.dtype} on "
            f"{weight.device}"
        )
    if not weight.isfinite().all() or weight.min() < 0 or weight.sum() <= 0:
        raise ValueError("weight: expected finite numbers of at least 0, not all 0")
    if loss not in LOSSES:
        raise ValueError(
            "weight: expected one of the losses 'mse' and 'cross_entropy' with it; a loss of your own weights its rows"
        )
    return weight / weight.mean()


def check_grids(grids: Any) -> list[int]:
    if not isinstance(grids, Sequence) or isinstance(grids, str) or not len(grids):
        raise ValueError(f"grids: expected a list of grid sizes, received {grids!r}")
    for size in grids:
        check_whole("grids", size, 1)
    if list(grids) != sorted(set(grids)):
        raise ValueError(f"grids: expected sizes that rise, received {list(grids)}")
    return [int(size) for size in grids]


def check_optimizer(optimizer: Any, model: nn.Module) -> None:
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer: expected one of {', '.join(OPTIMIZERS)} or a torch.optim.Optimizer, received {optimizer!r}"
            )
    elif not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer: expected a name or a torch.optim.Optimizer, received {type(optimizer).__name__}")
    else:
        own = {id(p) for p in model.parameters()}
        if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            raise ValueError("optimizer: expected one of the model's parameters, received those of another model")


def check_loss(loss: Any) -> None:
    if loss not in LOSSES and not isinstance(loss, Callable):  # type: ignore[arg-type]
        raise ValueError(f"loss: expected {' or '.join(LOSSES)} or a function of output and y, received {loss!r}")
