"""fit: one call from data, or from a differential equation, to a trained model."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastkan.nn.jacobian import parameters_of
from fastkan.train import checks
from fastkan.train.checkpoint import Checkpoint
from fastkan.train.history import History
from fastkan.train.objective import Loss, Objective, OfData, OfResidual, Residual
from fastkan.train.optimizers import Penalty
from fastkan.train.stages import Plan, Stages

HELD = 5  # one row in five is held back where grid sizes are compared
LM_WEIGHTS = 2000  # up to so many weights a step of 'lm' takes a fraction of a second


def fit(
    model: nn.Module,
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    residual: Residual | None = None,
    val: tuple[Tensor, Tensor] | float | None = None,
    loss: str | Loss = "mse",
    weight: Tensor | None = None,
    optimizer: str | torch.optim.Optimizer | None = None,
    lr: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    grids: Sequence[int] | None = None,
    update_grid: bool = True,
    starts: int | None = None,
    seed: int = 0,
    penalty: Penalty | None = None,
    patience: int | None = None,
    seconds: float | None = None,
    callback: Callable[[History, nn.Module], Any] | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    memory: int = 2**28,
) -> History:
    """Train a model with KAN layers, on data or on residuals; their formulas (`KANLinear.set_symbolic`) beside their splines.

    x, y: rows [B, I] and targets, in the model's dtype: [B, O], or classes [B] for loss="cross_entropy"
    residual: in the place of x and y a function of the model that returns residuals [B, ...], or several such tensors; the sum
        of their mean squares is the loss. It may hold derivatives of the model.
    val: rows (x, y) to hold back, or a share of the rows. None: a fifth while grid sizes are compared, else none
    loss: mse, cross_entropy, or a function of output and y
    weight: of rows [B]; only their ratios count
    optimizer: lm (Levenberg-Marquardt on the exact Jacobian), lbfgs, ssbroyden, adamw, or a torch.optim.Optimizer. None: lm for
        least squares in float64 with up to 2,000 weights, adamw with batch_size, else lbfgs
    lr: for lbfgs and adamw
    steps: for each grid size; None: 50 of lm, 20 of lbfgs (each 20 iterations), 500 of ssbroyden, 1,000 of others
    batch_size: rows a step; None: all
    grids: grid sizes to go through, coarse to fine. With held-back rows the model ends at the smallest whose error is within one
        standard error of the best. None: the present one
    update_grid: let grids follow what the layers receive, at each stage and whenever it leaves them
    starts: how many starts, the model's own first; the best after a few steps goes on. The others draw splines anew and set
        biases back; the numbers of formulas and what is frozen stay. Without splines to train there is one. None: 8 of lm, or 2
        from 800 weights on; 1 of others
    penalty: a function of the model, added to the loss; not with lm
    patience: end a stage after so many looks at the held-back rows without a better one
    seconds: end after so long, with the best so far
    callback: called with the history and the model after every step; returning True ends the fit
    progress: a tqdm bar
    checkpoint: a path that ends in .safetensors; written while fitting, and if it exists, gone on from
    memory: of lm, in bytes: what the rows of the Jacobian may take at once. Five matrices [P, P] of P weights come on top.
    returns: the history. Ctrl-C ends a fit as `seconds` does.
    raises: TypeError, ValueError naming the argument; FloatingPointError where the loss is no longer finite. The model is then as
        it was at the last look.

    >>> import torch, fastkan
    >>> x = torch.rand(500, 2, dtype=torch.float64) * 2 - 1
    >>> y = torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:] ** 2)
    >>> model = fastkan.KAN([2, 1, 1], dtype=torch.float64, seed=0)
    >>> history = fastkan.fit(model, x, y, grids=[5, 10, 20])
    >>> history.train < 1e-4
    True
    """
    checks.check_model(model)
    for name, value in (("steps", steps), ("batch_size", batch_size), ("starts", starts), ("patience", patience)):
        if value is not None:
            checks.check_whole(name, value, 1)
    for name, number in (("lr", lr), ("seconds", seconds), ("memory", memory)):
        if number is not None:
            checks.check_positive(name, number)
    checks.check_loss(loss)
    sizes = None if grids is None else checks.check_grids(grids)
    train, held, chosen = _objectives(model, x, y, residual, val, loss, weight, grids, seed)
    if sizes is not None and train.rows is not None and sizes[-1] > train.rows:
        raise ValueError(f"grids: expected at most {train.rows} cells, one a row, received {sizes[-1]}")
    if batch_size is not None and train.rows is None:
        raise ValueError("batch_size: expected data x, y with it; a residual chooses its own rows")
    kind = _optimizer(optimizer, model, train, batch_size)
    if isinstance(kind, torch.optim.LBFGS) and sizes is not None:
        raise ValueError("optimizer: expected 'lbfgs' by name with grids, received a torch.optim.LBFGS, which keeps old shapes")
    if penalty is not None and kind == "lm":
        raise ValueError("penalty: expected another optimizer than 'lm', which takes sums of squares only; use 'lbfgs'")
    if patience is not None and held is None:
        raise ValueError("patience: expected held-back rows, received val=None")
    if kind == "lm" and batch_size is not None:
        raise ValueError("batch_size: expected None with 'lm', which needs all rows; use 'adamw'")
    plan = Plan(kind, lr, steps, batch_size, sizes, update_grid, starts, seed, penalty, int(memory), refit_all=chosen)
    kept = None if checkpoint is None else Checkpoint(checkpoint)
    with _bar(progress) as bar:
        return Stages(model, train, held, plan, kept, (patience, seconds, callback, bar)).run()


def _objectives(
    model: nn.Module, x: Any, y: Any, residual: Any, val: Any, loss: Any, weight: Any, grids: Any, seed: int
) -> tuple[Objective, OfData | None, bool]:
    """What is trained on, what is held back, and whether the latter was chosen here."""
    if residual is not None:
        if x is not None or y is not None:
            raise ValueError("residual: expected no x and y beside it")
        if not callable(residual):
            raise TypeError(f"residual: expected a function of the model, received {type(residual).__name__}")
        if val is not None or weight is not None or loss != "mse":
            raise ValueError("residual: expected no val, weight or loss beside it")
        return OfResidual(model, residual), None, False
    if x is None or y is None:
        raise ValueError("x, y: expected both, or a residual")
    checks.check_rows("x", x, model)
    checks.check_targets("y", x, y, model, loss)
    weight = None if weight is None else checks.check_weight(weight, x, loss)
    scale = 1.0
    if loss == "mse" and len(y) > 1:
        scale = float(y.std()) or 1.0
    whole = OfData(model, x, y, weight, loss, scale)
    if isinstance(val, tuple | list):
        if len(val) != 2:
            raise ValueError(f"val: expected (x, y) or a share of the rows, received {len(val)} tensors")
        checks.check_rows("val x", val[0], model)
        checks.check_targets("val y", val[0], val[1], model, loss)
        return whole, OfData(model, val[0], val[1], None, loss, scale), False
    share = val
    if share is None:
        share = 1 / HELD if grids is not None and len(grids) > 1 and len(x) >= 2 * HELD else 0
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise ValueError(f"val: expected (x, y) or a share of the rows from 0 to 1, received {val!r}")
    if not share:
        return whole, None, False
    count = max(1, round(share * len(x)))
    if count >= len(x):
        raise ValueError(f"val: expected rows to be left to train on, received {share} of {len(x)} rows")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    return whole.part(order[count:]), whole.part(order[:count]), val is None


def _optimizer(optimizer: Any, model: nn.Module, train: Objective, batch_size: int | None) -> Any:
    """The optimizer's name, or the user's own."""
    if optimizer is not None:
        checks.check_optimizer(optimizer, model)
        if optimizer == "lm" and not train.squares:
            raise ValueError("optimizer: expected a sum of squares for 'lm', received another loss; use 'lbfgs' or 'adamw'")
        if optimizer == "lm" and next(model.parameters()).dtype != torch.float64:
            raise ValueError("optimizer: expected a model in float64 for 'lm', which squares rounding errors; use model.double()")
        return optimizer
    if batch_size is not None:
        return "adamw"
    weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
    double = next(model.parameters()).dtype == torch.float64
    return "lm" if train.squares and double and weights <= LM_WEIGHTS and _has_jacobian(model) else "lbfgs"


def _has_jacobian(model: nn.Module) -> bool:
    try:
        parameters_of(model)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def _bar(progress: bool) -> Iterator[Any]:
    if not progress:
        yield None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress: needs tqdm: pip install 'fastkan[train]'") from error
    with tqdm(unit=" steps") as bar:
        yield bar
