"""What gradients of one x in one pass save on the CPU: `python -m benchmarks fused-gradients` writes fused-gradients.json.

Of single calls with row weights, first order, and of a whole step of a physics-informed loss with u_xx, with fused gradients and
without. Each row is the time in one pass / the time apart.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import fastkan
from benchmarks import document, timer
from benchmarks.environment import environment, results_folder
from benchmarks.modes import Step
from fastkan import backends
from fastkan.ops.table import Wanted

SIZES = ((2, 5), (5, 1), (2, 16), (16, 16), (16, 1), (32, 32), (64, 64), (256, 256))
NETWORKS = ([2, 5, 1], [2, 16, 16, 1], [2, 32, 32, 1], [2, 64, 64, 1])
DTYPES = (torch.float32, torch.float64)


def compare(together: Step, apart: Step) -> dict[str, Any]:
    calls = {"together": together, "apart": apart}
    rounds = timer.interleave(calls, dict.fromkeys(calls, 0.0), "cpu", lambda: None)
    found: dict[str, Any] = {}
    for name, seconds in rounds.seconds.items():
        found[f"{name}, us"] = round(1e6 * timer.Spread.of(seconds).p50, 1)
    saved = timer.ratio(rounds.seconds["together"], rounds.seconds["apart"])
    return found | {"together / apart": round(saved.p50, 3), "elsewhere": rounds.elsewhere}


def of_layer(inputs: int, outputs: int, grid_size: int, dtype: torch.dtype, rows: int = 1000) -> list[dict[str, Any]]:
    """What the gradients of grad_input_1 need, without and with the weight's, and what those of forward_1 need."""
    layer = fastkan.KANLinear(inputs, outputs, bias=False, grid_size=grid_size, dtype=dtype)
    x, r = torch.rand(rows, inputs, dtype=dtype) * 2 - 1, torch.randn(rows, inputs, dtype=dtype)
    weight, g, settings = layer.weight.detach(), torch.randn(rows, outputs, dtype=dtype), (layer.knots, 3, "silu")
    cpu = backends.select("cpu", x.device, dtype, 3)
    fused = partial(cpu.fused_gradients, x, weight, g, r, *settings, 1)
    single = {
        "grad_input": lambda: cpu.operations.grad_input(x, weight, g, *settings, 2),
        "both gradients": lambda: fused(Wanted(True, True)),
        "forward": lambda: cpu.operations.forward(x, weight, r, *settings, 1),
        "grad_row_weight": lambda: cpu.operations.grad_input(x, weight, g, *settings, 1),
    }
    wanted = {
        ("grad_input", "forward"): Wanted(True, False, False, True),
        ("both gradients", "forward"): Wanted(True, True, False, True),
        ("both gradients", "grad_row_weight"): Wanted(True, True, True, False),
    }
    found = []
    for parts, which in wanted.items():
        times = compare(partial(fused, which), lambda parts=parts: [single[part]() for part in parts])
        size = {"batch": rows, "in_features": inputs, "out_features": outputs, "grid_size": grid_size}
        found.append({"operations": " + ".join(parts), "dtype": str(dtype)[6:]} | size | times)
    return found


def pair_and_single(cpu: backends.Backend, *arguments: Any) -> list[Tensor | None]:
    """fused_gradients where only the gradients of x and weight come from one pass, and the third result from another."""
    *call, (grad_input, grad_weight, grad_row_weight, forward) = arguments
    x, weight, g, r, *settings, nu = call
    made = list(cpu.fused_gradients(*call, Wanted(grad_input, grad_weight)))
    if grad_row_weight:
        made[2] = cpu.operations.grad_input(x, weight, g, *settings, nu)
    if forward:
        made[3] = cpu.operations.forward(x, weight, r, *settings, nu)
    return made


def of_network(widths: list[int], dtype: torch.dtype, rows: int) -> dict[str, Any]:
    net = fastkan.KAN(widths).to(dtype)
    x = torch.rand(rows, widths[0], dtype=dtype, requires_grad=True)
    cpu = backends.select("cpu", x.device, dtype, 3)
    together, apart = cpu.fused_gradients, partial(pair_and_single, cpu)
    way = together

    def step(chosen: Callable[..., Any]) -> None:
        nonlocal way
        way = chosen
        u = net(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(slope[:, 0].sum(), x, create_graph=True)
        net.zero_grad()
        (second[:, :1] + u).square().mean().backward()

    with backends.registry.replaced("cpu", fused_gradients=lambda *arguments: way(*arguments)):
        times = compare(partial(step, together), partial(step, apart))
    return {"operations": "step with u_xx", "dtype": str(dtype)[6:], "batch": rows, "widths": widths} | times


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="python -m benchmarks fused-gradients", description=__doc__).parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for dtype in DTYPES:
        for grid_size in (5, 16):
            for inputs, outputs in SIZES:
                rows += of_layer(inputs, outputs, grid_size, dtype)
        rows += [of_network(widths, dtype, batch) for widths in NETWORKS for batch in (1, 1000, 10000)]
    for row in rows:
        print(*row.values(), sep="  ")
    found = environment("cpu")
    document.write({"environment": found, "rows": rows}, results_folder(found) / "fused-gradients.json")
    return 0
