"""`fastkan.jet` beside nested torch.autograd.grad on the CPU: `python -m benchmarks jets` writes jets.json.

A whole step of a physics-informed loss with value, gradient and Laplacian, its gradients towards the weights included. Each row
is the time of a step, and how often a jet's fits into nested differentiation's.
"""

import argparse
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import fastkan
from benchmarks import document, timer
from benchmarks.environment import environment, results_folder

NETWORKS = (([2, 10, 1], 1000), ([2, 10, 1], 10000), ([5, 32, 32, 1], 1000), ([10, 32, 32, 1], 1000))
DTYPES = (torch.float64, torch.float32)


def nested(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
    """u [B, 1], its gradient's columns and its Laplacian, by a differentiation of every column."""
    x = x.detach().requires_grad_()
    u = model(x)
    (gradient,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    columns = gradient.unbind(1)
    second = [torch.autograd.grad(du.sum(), x, create_graph=True)[0][:, k] for k, du in enumerate(columns)]
    return u, [du[:, None] for du in columns], torch.stack(second).sum(0)[:, None]


def step(way: Any, model: nn.Module, x: Tensor) -> list[Tensor]:
    """The gradients of a loss of all three."""
    u, first, second = way(model, x)
    loss = (second - 1).square().mean() + 0.1 * u.square().mean() + 0.1 * first[0].square().mean()
    model.zero_grad()
    loss.backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def network(kind: str, widths: list[int], dtype: torch.dtype) -> nn.Module:
    if kind == "KAN":
        return fastkan.KAN(widths, dtype=dtype, seed=0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, dtype=dtype), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def compare(kind: str, widths: list[int], rows: int, dtype: torch.dtype) -> dict[str, Any]:
    model, x = network(kind, widths, dtype), 2 * torch.rand(rows, widths[0], dtype=dtype) - 1
    calls = {"nested": partial(step, nested, model, x), "jet": partial(step, fastkan.jet, model, x)}
    expected, made = calls["nested"](), calls["jet"]()
    error = max(float((a - b).norm() / b.norm()) for a, b in zip(made, expected, strict=True))
    if error > torch.finfo(dtype).eps ** 0.5:
        raise RuntimeError(f"{kind} {widths}: the gradients differ by {error:.0e}")
    rounds = timer.interleave(calls, dict.fromkeys(calls, 0.0), "cpu", lambda: None)
    found: dict[str, Any] = {"network": kind, "widths": widths, "batch": rows, "dtype": str(dtype)[6:]}
    for name, seconds in rounds.seconds.items():
        found[f"{name}, us"] = round(1e6 * timer.Spread.of(seconds).p50, 1)
    ratio = timer.ratio(rounds.seconds["nested"], rounds.seconds["jet"])
    spread = {"p20": round(ratio.p20, 2), "p80": round(ratio.p80, 2)}
    return found | {"nested / jet": round(ratio.p50, 2)} | spread | {"elsewhere": rounds.elsewhere}


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="python -m benchmarks jets", description=__doc__).parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [compare(kind, *size, dtype) for kind in ("KAN", "MLP") for size in NETWORKS for dtype in DTYPES]
    for row in rows:
        print(*row.values(), sep="  ")
    found = environment("cpu")
    document.write({"environment": found, "rows": rows}, results_folder(found) / "jets.json")
    return 0
