"""`python -m benchmarks models`: what people do with a model, done with each after the swap: train, save, load, export."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.table import Table
from torch import Tensor, nn

import fastkan
from benchmarks.document import read, write
from benchmarks.environment import environment, results_folder
from benchmarks.progress import CONSOLE, progress
from benchmarks.swap.models import CASES, built
from benchmarks.swap.tasks import Batch
from benchmarks.swap.train import optimizer_of, step

STEPS = 20
ROWS = 4  # of an exported call


class Called(nn.Module):
    """A model as a function from tensors to one: the logits of those of transformers."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: Tensor) -> Tensor:
        y = self.model(**dict(zip(self.names, tensors, strict=True))) if self.names else self.model(*tensors)
        return y if isinstance(y, Tensor) else y.logits


def called(model: nn.Module, batch: Batch) -> tuple[Called, tuple[Tensor, ...]]:
    """The model as a function, and its arguments in a batch."""
    if hasattr(model, "config"):
        return Called(model, list(batch)), tuple(tensor[:ROWS] for tensor in batch.values())
    return Called(model, []), (batch["x" if "x" in batch else "input_ids"][:ROWS],)


def _saved_and_loaded(model: Any, name: str, call: Called, tensors: tuple[Tensor, ...], folder: Path) -> bool:
    """By save_pretrained and fastkan.from_pretrained for a model of transformers, else by its state and fastkan.restore."""
    y = call(*tensors)
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
        again = fastkan.from_pretrained(type(model), folder)
    else:
        torch.save(model.state_dict(), folder / "state.pt")
        state, again = torch.load(folder / "state.pt", weights_only=True), built(CASES[name], CASES[name].width, 1)
        fastkan.restore(again, state)
        again.load_state_dict(state)
    return torch.equal(Called(again.eval(), call.names)(*tensors), y)


def _difference(function: Any, call: Called, tensors: tuple[Tensor, ...]) -> float:
    y = call(*tensors)
    return float((function(*tensors) - y).abs().max() / y.abs().max())


def _exported(call: Called, tensors: tuple[Tensor, ...], folder: Path) -> float:
    """The relative difference of a .pt2 file, whose number of rows is free."""
    rows = torch.export.Dim("rows", min=2)
    shapes = {"tensors": tuple({0: rows} for _ in tensors)}
    program = torch.export.export(call, tensors, dynamic_shapes=shapes)
    torch.export.save(program, folder / "model.pt2")
    loaded = torch.export.load(folder / "model.pt2").module()
    return _difference(loaded, call, tuple(tensor[:2] for tensor in tensors))


def _in_onnxruntime(call: Called, tensors: tuple[Tensor, ...], folder: Path) -> float:
    """The relative difference of an ONNX file, whose number of rows is free."""
    import onnxruntime

    rows = torch.export.Dim("rows", min=2)
    shapes = {"tensors": tuple({0: rows} for _ in tensors)}
    torch.onnx.export(call, tensors, folder / "model.onnx", dynamo=True, dynamic_shapes=shapes, verbose=False, optimize=False)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    names = [given.name for given in session.get_inputs()]

    def run(*tensors: Tensor) -> Tensor:
        values = (tensor.numpy() for tensor in tensors)
        return torch.from_numpy(session.run(None, dict(zip(names, values, strict=True)))[0])

    return _difference(run, call, tuple(tensor[:2] for tensor in tensors))


def _tried(function: Any, *arguments: Any) -> float | str:
    """What an export gives, or the first line of what stopped it: models of others may not be exported as they are."""
    try:
        return function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"


EXPORTS = {"pt2": _exported, "onnx": _in_onnxruntime}


def _exports(call: Called, tensors: tuple[Tensor, ...]) -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as place:
        return {kind: _tried(export, call, tensors, Path(place)) for kind, export in EXPORTS.items()}


def treated(name: str) -> dict[str, Any]:
    """The row of a model."""
    case, task = CASES[name], CASES[name].task()
    model, generator = built(case, case.width, 0), torch.Generator().manual_seed(0)
    batch = task.train(generator)
    call, tensors = called(model.eval(), batch)
    with torch.no_grad():
        before = call(*tensors)
        plain = _exports(call, tensors)
        report = fastkan.replace_linear(model, grid_range=(-3.0, 3.0))
        change = float((call(*tensors) - before).abs().max())
    optimizer = optimizer_of("AdamW 0.003", model)
    losses = [step(model.train(), task, batch, optimizer) for _ in range(STEPS)]
    model.eval()
    row = {"model": name, "blocks": len(report.replaced), "refused": report.refused, "left": sorted(set(report.left.values()))}
    with torch.no_grad(), tempfile.TemporaryDirectory() as place:
        equal = _saved_and_loaded(model, name, call, tensors, Path(place))
        exported = _exports(call, tensors)
    row |= {"change": change, "losses": [losses[0], losses[-1]], "loaded_equal": equal}
    return row | exported | {f"{kind}_unswapped": value for kind, value in plain.items()}


def models(names: tuple[str, ...] = tuple(CASES), name: str = "models") -> None:
    """Swap every model, train it for some steps, save and load it, and export it. Takes half an hour.

    Args:
        names: Which models.
        name: Of the result file.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = environment("cpu")
    path, rows = results_folder(found) / f"{name}.json", []
    with progress(len(names)) as advance:
        for model in names:
            rows.append(treated(model))
            advance(model)
            write({"environment": found, "results": rows}, path)
    show(path)


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.0e}"


def show(path: Path) -> None:
    table = Table(
        "model", "blocks", "refused", "change", f"loss, {STEPS} steps", "loaded", ".pt2", "unswapped", "ONNX", "unswapped"
    )
    for row in read(path)["results"]:
        first, last = row["losses"]
        differences = (_cell(row[key]) for kind in EXPORTS for key in (kind, f"{kind}_unswapped"))
        equal = "equal" if row["loaded_equal"] else "different"
        sizes = (str(row["blocks"]), str(len(row["refused"])), _cell(row["change"]))
        table.add_row(row["model"], *sizes, f"{first:.2f} to {last:.2f}", equal, *differences)
    CONSOLE.print(table)


def main(arguments: list[str]) -> int:
    tyro.cli(models, args=arguments, prog="python -m benchmarks models")
    return 0
