"""Last part of `python -m benchmarks cpu`, and all of `train`: an MLP against the same network after fastkan.replace_linear.

The data are real. Everything but the layers is the same: split, seeds, batches, optimiser, epochs; these were fixed beforehand,
none was searched for. The epoch that counts is the best one on validation rows; test rows are only looked at.
A wider MLP with as many parameters as the KAN tells whether size alone did it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy
import torch
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import fastkan

SEEDS = (0, 1, 2)
HIDDEN = 32
BATCH = 64
OPTIMISER = {"lr": 3e-3, "weight_decay": 1e-2}  # AdamW
GRID_RANGE = (-3.0, 3.0)  # standardised inputs lie inside, but for the tails
PARTS = ("train", "validation", "test")
Data = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Task:
    """A data set and its measure of success: accuracy of classes, R2 of a number."""

    name: str
    load: Callable[[], tuple[numpy.ndarray, numpy.ndarray]]
    epochs: int
    classes: int = 0

    @property
    def metric(self) -> str:
        return "accuracy" if self.classes else "R²"


TASKS = (
    Task("digits", lambda: datasets.load_digits(return_X_y=True), epochs=30, classes=10),
    Task("diabetes", lambda: datasets.load_diabetes(return_X_y=True), epochs=40),
    Task("Friedman 1", lambda: datasets.make_friedman1(1500, noise=0.1, random_state=0), epochs=60),
)


def data(task: Task) -> Data:
    """60 % train, 20 % validation, 20 % test; means and deviations come from the training rows."""
    x, y = task.load()
    rows = numpy.arange(len(x))
    settings = {"random_state": 0, "stratify": y if task.classes else None}
    train, rest = train_test_split(rows, test_size=0.4, **settings)
    if task.classes:
        settings["stratify"] = y[rest]
    validation, test = train_test_split(rest, test_size=0.5, **settings)
    x = StandardScaler().fit(x[train]).transform(x)
    if not task.classes:
        y = StandardScaler().fit(y[train, None]).transform(y[:, None]).astype(numpy.float32)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    return {name: (x[part], y[part]) for name, part in zip(PARTS, (train, validation, test), strict=True)}


def _perceptron(features: int, hidden: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


def _kan(features: int, hidden: int, outputs: int) -> nn.Module:
    model = _perceptron(features, hidden, outputs)
    fastkan.replace_linear(model, grid_range=GRID_RANGE)
    return model


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _wide_perceptron(features: int, hidden: int, outputs: int) -> nn.Module:
    """As many parameters as the KAN has with `hidden`."""
    target = _parameters(_kan(features, hidden, outputs))
    return _perceptron(features, round((target - outputs) / (features + outputs + 1)), outputs)


MODELS = {
    "MLP": _perceptron,
    "wider MLP": _wide_perceptron,
    "KAN (replace_linear)": _kan,
}


@torch.no_grad()
def score(model: nn.Module, x: Tensor, y: Tensor, classes: int) -> float:
    """Accuracy, or R² = 1 - residual / variance about the mean."""
    prediction = model(x)
    if classes:
        return float((prediction.argmax(1) == y).float().mean())
    return float(1 - (prediction - y).square().sum() / (y - y.mean()).square().sum())


def train(task: Task, model_name: str, seed: int, advance: Callable[[], None]) -> dict:
    """One training run: the metric after every epoch, and the time of an epoch without its evaluation."""
    rows = data(task)
    x, y = rows["train"]
    torch.manual_seed(seed)
    model = MODELS[model_name](x.shape[1], HIDDEN, task.classes or 1)
    optimiser = torch.optim.AdamW(model.parameters(), **OPTIMISER)
    loss = nn.CrossEntropyLoss() if task.classes else nn.MSELoss()
    shuffle = torch.Generator().manual_seed(seed)
    curves: dict[str, list[float]] = {"validation": [], "test": []}
    seconds = []
    for _ in range(task.epochs):
        start = time.perf_counter()
        for batch in torch.randperm(len(x), generator=shuffle).split(BATCH):
            optimiser.zero_grad()
            loss(model(x[batch]), y[batch]).backward()
            optimiser.step()
        seconds.append(time.perf_counter() - start)
        for part, curve in curves.items():
            curve.append(score(model, *rows[part], task.classes))
        advance()
    best = int(numpy.argmax(curves["validation"]))
    return {
        "dataset": task.name,
        "metric": task.metric,
        "model": model_name,
        "seed": seed,
        "parameters": _parameters(model),
        "rows": {part: len(rows[part][0]) for part in PARTS},
        "epoch_seconds": float(numpy.median(seconds)),
        "best_epoch": best + 1,
        "result": curves["test"][best],
        "curves": curves,
    }


def run(advance: Callable[[str], None], tasks: tuple[Task, ...] = TASKS) -> list[dict]:
    """One record per (data set, seed, model); models take turns, so that the machine's mood falls on all."""
    records = []
    for task in tasks:
        for seed in SEEDS:
            for model in MODELS:
                text = f"{task.name}: {model}, seed {seed}"
                records.append(train(task, model, seed, lambda text=text: advance(text)))
    return records


def steps(tasks: tuple[Task, ...] = TASKS) -> int:
    return sum(task.epochs for task in tasks) * len(SEEDS) * len(MODELS)
