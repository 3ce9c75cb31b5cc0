"""What the models learn: batches for training and for holding back, all made here or from files that every Python has."""

import argparse
import inspect
import textwrap
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]
CHARACTERS = 96  # printable ASCII and the line feed
LENGTH = 32


class Task(NamedTuple):
    """train(generator) draws a batch; held is one that training never sees; loss(model, batch) is differentiated."""

    train: Callable[[torch.Generator], Batch]
    held: Batch
    loss: Callable[[nn.Module, Batch], Tensor]


# ---- text: the source of two modules of Python to learn from, of a third to hold back


def _codes(*modules: Any) -> Tensor:
    text = "".join(map(inspect.getsource, modules))
    return torch.tensor([min(max(ord(c) - 31, 0), CHARACTERS - 1) for c in text])


def _windows(codes: Tensor, rows: int, length: int, generator: torch.Generator) -> Tensor:
    starts = torch.randint(len(codes) - length, (rows,), generator=generator)
    return codes[starts[:, None] + torch.arange(length)]


def text(shape: Callable[[Tensor, torch.Generator], Batch], length: int = LENGTH, rows: int = 16) -> Task:
    """Windows of characters, made into the arguments of a model of transformers, whose output has the loss."""
    seen, unseen = _codes(typing, argparse), _codes(textwrap)

    def draw(codes: Tensor, count: int, generator: torch.Generator) -> Batch:
        return shape(_windows(codes, count, length, generator), generator)

    held = draw(unseen, 128, torch.Generator().manual_seed(1))
    return Task(lambda generator: draw(seen, rows, generator), held, lambda model, batch: model(**batch).loss)


def causal(codes: Tensor, generator: torch.Generator) -> Batch:
    """The next character."""
    return {"input_ids": codes, "labels": codes}


def masked(codes: Tensor, generator: torch.Generator) -> Batch:
    """Characters behind a mask of 15 %."""
    hidden = torch.rand(codes.shape, generator=generator) < 0.15
    hidden[:, 0] = True  # a loss of none is NaN
    return {"input_ids": codes.masked_fill(hidden, CHARACTERS), "labels": codes.masked_fill(~hidden, -100)}


def halves(codes: Tensor, generator: torch.Generator) -> Batch:
    """The second half from the first."""
    first, second = codes.chunk(2, dim=1)
    return {"input_ids": first + 1, "labels": second + 1}  # 0 is T5's padding


def next_characters() -> Task:
    """For a model of plain torch that gives logits."""
    task = text(causal)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        logits = model(batch["input_ids"])
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())

    return task._replace(loss=loss)


def spoken() -> Task:
    """Six words out of 10, each four frames of its own pattern of eight bands, in noise."""
    patterns = torch.randn(10, 8, 4, generator=torch.Generator().manual_seed(2))

    def draw(rows: int, generator: torch.Generator) -> Batch:
        words = torch.randint(10, (rows, 6), generator=generator)
        features = patterns[words].permute(0, 2, 1, 3).flatten(2)
        return {"input_features": features + 0.3 * torch.randn(features.shape, generator=generator), "labels": words + 5}

    held = draw(128, torch.Generator().manual_seed(1))
    return Task(lambda generator: draw(16, generator), held, lambda model, batch: model(**batch).loss)


# ---- images and tables


def _table(x: Any, y: Any, rows: int, loss: Callable[[Tensor, Tensor], Tensor]) -> Task:
    """A fifth of the rows is held back."""
    order = np.random.default_rng(0).permutation(len(x))
    x, y = torch.as_tensor(x[order], dtype=torch.float32), torch.as_tensor(y[order])
    cut = len(x) * 4 // 5

    def draw(generator: torch.Generator) -> Batch:
        index = torch.randint(cut, (rows,), generator=generator)
        return {"x": x[index], "y": y[index]}

    return Task(draw, {"x": x[cut:], "y": y[cut:]}, lambda model, batch: loss(model(batch["x"]), batch["y"]))


def digits(shape: tuple[int, ...] = (1, 8, 8)) -> Task:
    """Handwritten digits of 8 by 8."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return _table((x / 8 - 1).reshape(-1, *shape), y, 64, nn.functional.cross_entropy)


def digits_for_transformers() -> Task:
    task = digits()

    def renamed(batch: Batch) -> Batch:
        return {"pixel_values": batch["x"], "labels": batch["y"]}

    train, held = task.train, renamed(task.held)
    return Task(lambda generator: renamed(train(generator)), held, lambda model, batch: model(**batch).loss)


def _regression(x: Any, y: Any) -> Task:
    y = ((y - y.mean()) / y.std()).astype("float32")
    return _table(2 * (x - x.min(0)) / (x.max(0) - x.min(0)) - 1, y[:, None], 64, nn.functional.mse_loss)


def friedman() -> Task:
    """Friedman's first function: ten inputs, of which five matter, y with a deviation of 1; the loss is 1 - R2."""
    from sklearn.datasets import make_friedman1

    return _regression(*make_friedman1(2500, random_state=0))


def diabetes() -> Task:
    """442 rows of ten inputs: little to learn beyond a line."""
    from sklearn.datasets import load_diabetes

    return _regression(*load_diabetes(return_X_y=True))
