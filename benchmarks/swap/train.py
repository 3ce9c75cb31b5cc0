"""One training of one variant of a model."""

import math
import time
from typing import Any, NamedTuple

import torch
from torch import nn

import fastkan
from benchmarks.swap.models import CASES, Case, built, wide
from benchmarks.swap.tasks import Batch, Task

CLIP = 1.0
LAST = 10  # steps whose losses are the training loss
ONE_BATCH = 40  # steps on a single row, of text on LETTERS of it: what an optimizer should be able to learn by heart
LETTERS = 8
SLACK = 0.02  # added to both losses of a ratio, so that two that are nearly 0 do not count


class Variant(NamedTuple):
    """settings: of replace_linear, or None for the model as it is."""

    settings: dict[str, Any] | None = None
    equal: str = ""  # parameters, time: the model as it is, wider or trained longer, as the swapped one would be


WIDE = {"grid_range": (-3.0, 3.0)}
VARIANTS = {
    "linear": Variant(),
    "swapped": Variant(WIDE),
    "swapped, G = 20": Variant(WIDE | {"grid_size": 20}),
    "swapped, (-1, 1)": Variant({}),
    "swapped, plain": Variant(WIDE | {"spline_scale": None}),
    "linear, equal parameters": Variant(equal="parameters"),
    "linear, equal time": Variant(equal="time"),
}
OPTIMIZERS = ("AdamW 0.0003", "AdamW 0.001", "AdamW 0.003", "SGD 0.3", "Muon 0.02")


class Muon:
    """Muon for all matrices, AdamW for the rest. It takes matrices only, so the weights [I, M, O] of KAN layers pass for
    [I M, O], with the step that it would give a linear layer [O, I].
    """

    def __init__(self, model: nn.Module, rate: float) -> None:
        parameters = list(model.parameters())
        self.flat = {p: nn.Parameter(p.detach().flatten(0, 1)) for p in parameters if p.ndim == 3}  # on the same memory
        groups = [{"params": [p for p in parameters if p.ndim == 2], "lr": rate}]
        for p, matrix in self.flat.items():
            inputs, _, outputs = p.shape
            own = max(1, len(matrix) / outputs)  # torch.optim.Muon multiplies by its root
            groups.append({"params": [matrix], "lr": rate * (max(1, outputs / inputs) / own) ** 0.5})
        self.muon = torch.optim.Muon([group for group in groups if group["params"]], rate)
        self.rest = torch.optim.AdamW([p for p in parameters if p.ndim < 2], 1e-3)

    def step(self) -> None:
        for p, matrix in self.flat.items():
            matrix.grad = None if p.grad is None else p.grad.flatten(0, 1)
        self.muon.step()
        self.rest.step()


def optimizer_of(name: str, model: nn.Module) -> Any:
    kind, rate = name.split()
    if kind == "Muon":
        return Muon(model, float(rate))
    if kind == "SGD":
        return torch.optim.SGD(model.parameters(), float(rate), momentum=0.9)
    return torch.optim.AdamW(model.parameters(), float(rate))


def step(model: nn.Module, task: Task, batch: Batch, optimizer: Any) -> float:
    loss = task.loss(model, batch)
    model.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    return loss.item()


def _size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def prepared(case: Case, variant: Variant, seed: int) -> nn.Module:
    width = case.width
    if variant.equal == "parameters":
        swapped = built(case, width, seed)
        fastkan.replace_linear(swapped, **WIDE)
        width = wide(case, _size(swapped))
    model = built(case, width, seed)
    if variant.settings is not None:
        fastkan.replace_linear(model, **variant.settings)
    return model


def seconds(case: Case, variant: Variant) -> float:
    """CPU time of a step, the least of several."""
    task, model, generator = case.task(), prepared(case, variant, 0), torch.Generator().manual_seed(0)
    optimizer, found = optimizer_of("AdamW 0.001", model), []
    for _ in range(12):
        batch, start = task.train(generator), time.process_time()
        step(model, task, batch, optimizer)
        found.append(time.process_time() - start)
    return min(found)


def trained(name: str, variant: str, optimizer: str, seed: int, one_batch: bool = False) -> dict[str, Any]:
    """A row: training and held-out loss; on one batch, the loss that is left."""
    case, chosen = CASES[name], VARIANTS[variant]
    task, model = case.task(), prepared(case, chosen, seed)
    steps = ONE_BATCH if one_batch else case.steps
    if chosen.equal == "time":
        steps = round(steps * seconds(case, VARIANTS["swapped"]) / seconds(case, VARIANTS["linear"]))
    generator, chosen_optimizer = torch.Generator().manual_seed(seed), optimizer_of(optimizer, model)
    fixed = _one(task.train(generator))
    torch.manual_seed(seed)  # dropout
    losses = [step(model.train(), task, fixed if one_batch else task.train(generator), chosen_optimizer) for _ in range(steps)]
    with torch.no_grad():
        held = task.loss(model.eval(), task.held).item()
    last = losses[-1:] if one_batch else losses[-LAST:]
    row = {"model": name, "variant": variant, "optimizer": optimizer, "seed": seed, "one_batch": one_batch, "steps": steps}
    return row | {"train": _finite(sum(last) / len(last)), "held": _finite(held), "parameters": _size(model)}


def _one(batch: Batch) -> Batch:
    text = "input_ids" in batch
    return {name: tensor[:1, :LETTERS] if text else tensor[:1] for name, tensor in batch.items()}


def _finite(loss: float) -> float:
    """JSON has no NaN; a model that diverged has a loss that no other has."""
    return loss if math.isfinite(loss) else 1e9
