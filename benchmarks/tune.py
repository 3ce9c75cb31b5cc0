"""Try tiles beside those of kernels/tiles.py on the GPU at hand: `python -m benchmarks tune` prints entries for measured.py.

For every size, dtype and operation the rule's tile and its neighbours (one field changed) run interleaved; a neighbour that
does not compile, or whose answer is not the rule's, drops out with the reason. So does the experimental unfused path.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks import document, timer
from benchmarks.environment import environment, results_folder

SIZES = ((65536, 256, 256), (8192, 1024, 1024), (4096, 4096, 4096), (65536, 64, 64), (1024, 64, 64))
TINY = ((80, 20, 72), (20, 4, 5))  # to try the machinery without a GPU
OPERATIONS = {"forward": 0, "grad_input": 1, "grad_weight": 0, "fused_gradients": 0}  # with the order that training asks for
WORTH = 0.97  # a tile enters the table below this ratio of the rule's time
UNFUSED = "unfused"


def neighbours(tile: Any) -> Iterator[Any]:
    """Tiles that differ in one field: sizes halved and doubled, a stage more or less, 4 or 8 warps."""
    for field in ("rows", "columns", "inputs", "slots", "depth"):
        value = getattr(tile, field)
        yield from (dataclasses.replace(tile, **{field: size}) for size in (value // 2, 2 * value) if size)
    yield from (dataclasses.replace(tile, stages=count) for count in (tile.stages - 1, tile.stages + 1) if count)
    yield dataclasses.replace(tile, warps=12 - tile.warps)


class Choice:
    """A call, the tile that the rule plans for it, and the key under which a measured tile would go first."""

    def __init__(self, name: str, arguments: tuple[Any, ...], device: torch.device) -> None:
        from fastkan import kernels
        from fastkan.kernels import devices, plan

        self.call = lambda: getattr(kernels, name)(*arguments)
        self.card = dataclasses.replace(devices.card(device), measured={})
        with devices.on(self.card):
            planned = getattr(plan, name)(*arguments)
        self.key, self.rule = (planned.key, planned.tile) if planned else (None, None)

    def run(self, tile: Any = None, unfused: bool = False) -> Any:
        from fastkan import experimental
        from fastkan.kernels import devices

        card = dataclasses.replace(self.card, measured={self.key: tile} if tile else {})
        with devices.on(card), experimental.use(unfused=unfused):
            return self.call()


def operands(size: tuple[int, int, int], dtype: torch.dtype, device: str) -> dict[str, Any]:
    import fastkan

    B, I, O = size
    x = torch.rand(B, I, device=device) * 2 - 1
    weight, g = torch.randn(I, 9, O, device=device) / (9 * I) ** 0.5, torch.randn(B, O, device=device)
    knots = fastkan.splines.knots.uniform(I, 5, 3, (-1, 1)).to(device=device, dtype=torch.float32)
    return {"x": x.to(dtype), "weight": weight.to(dtype), "g": g.to(dtype), "knots": knots}


def arguments_of(name: str, t: dict[str, Any]) -> tuple[Any, ...]:
    tensors = {
        "forward": (t["x"], t["weight"], None),
        "grad_input": (t["x"], t["weight"], t["g"]),
        "grad_weight": (t["x"], t["g"], None),
        "fused_gradients": (t["x"], t["weight"], t["g"], None),
    }[name]
    return (*tensors, t["knots"], 3, "silu", OPERATIONS[name])


def same(answer: Any, expected: Any) -> bool:
    pairs = zip(answer, expected, strict=True) if isinstance(answer, tuple) else ((answer, expected),)
    return all(((a - e).double().norm() <= 1e-2 * e.double().norm()).item() for a, e in pairs)


def tune(name: str, size: tuple[int, int, int], dtype: torch.dtype, device: str) -> dict[str, Any]:
    """The times of one operation by tile, as ratios to the rule's, and the table entry of the best."""
    choice = Choice(name, arguments_of(name, operands(size, dtype, device)), torch.device(device))
    expected = choice.run()
    row: dict[str, Any] = {"operation": name, "size": size, "dtype": str(dtype), "dropped": {}}
    if choice.key is None:  # gradients of a layer that is not small: its parts are tuned by themselves
        return row | {"kernel": None}
    key, rule = choice.key, choice.rule
    calls: dict[str, Callable[[], Any]] = {"rule": choice.run}
    tiles = {"rule": rule}
    candidates = {str(tile): {"tile": tile} for tile in neighbours(rule)}
    if name != "fused_gradients":
        candidates[UNFUSED] = {"unfused": True}
    for label, settings in candidates.items():
        try:
            answer = choice.run(**settings)
            reason = None if same(answer, expected) else "another answer"
        except Exception as error:  # a compiler's or a driver's: the tile is out, the others go on
            reason = f"{type(error).__name__}: {str(error)[-200:]}"
        if reason:
            row["dropped"][label] = reason
        else:
            calls[label] = lambda settings=settings: choice.run(**settings)
            tiles[label] = settings.get("tile")
    seconds = {label: min(timer.timed(call, 1, device) for _ in range(2)) for label, call in calls.items()}
    rounds = timer.interleave(calls, seconds, device, lambda: None)
    base = rounds.seconds["rule"]
    ratios = {label: timer.ratio(times, base).p50 for label, times in rounds.seconds.items()}
    best = min(ratios, key=ratios.get)
    entry = f"{key}: {tiles[best]}" if ratios[best] < WORTH and best != UNFUSED else None
    return row | {
        "kernel": key[0], "rule": str(rule), "seconds": statistics.median(t for t in base if t is not None),
        "ratios": dict(sorted(ratios.items(), key=lambda pair: pair[1])), "entry": entry,
    }  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=480, help="start nothing new after this long, but one in any case")
    parser.add_argument("--tiny", action="store_true", help="small sizes in Triton's interpreter: tries the machinery only")
    parser.add_argument("--folder", type=Path, help="where the JSON goes; benchmarks/results/<gpu> by default")
    options = parser.parse_args(arguments)
    device = "cpu" if options.tiny else "cuda"
    until = time.monotonic() + options.seconds
    found = environment(device)
    path = (options.folder or results_folder(found)) / f"{date.today().isoformat()}-tiles.json"
    rows: list[dict[str, Any]] = []
    dtypes = (torch.float16,) if options.tiny else (torch.bfloat16, torch.float32, torch.float16)
    tasks = [(name, size, dtype) for dtype in dtypes for size in (TINY if options.tiny else SIZES) for name in OPERATIONS]
    for name, size, dtype in tasks:
        if rows and time.monotonic() > until:
            print(f"time is up: {len(tasks) - len(rows)} of {len(tasks)} not reached")
            break
        rows.append(tune(name, size, dtype, device))
        document.write({"environment": found, "rows": rows}, path)
        if rows[-1]["kernel"]:
            ratios = rows[-1]["ratios"]
            label, ratio = next(iter(ratios.items()))
            print(f"{name} {size} {dtype}: best {ratio:.2f} of the rule's time with {label}; {UNFUSED} {ratios.get(UNFUSED)}")
    print("MEASURED entries:", *[f"    {row['entry']}," for row in rows if row.get("entry")], f"Written: {path}", sep="\n")
    return 0
