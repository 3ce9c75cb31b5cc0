"""What operations of one x in one pass save on the CPU: `python benchmarks/sweeps.py`, into benchmarks/results/<machine>/.

Of single calls with row weights, first order, and of a whole step of a physics-informed loss with u_xx, with the passes of the
CPU core and without. Each row is the time in one pass / the time apart.
"""

import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # at the end: an installed fastkan goes before the source tree

import fastkan  # noqa: E402
from benchmarks import report, timing  # noqa: E402
from benchmarks.environment import environment, machine  # noqa: E402
from benchmarks.modes import Step  # noqa: E402
from fastkan import backends, ops  # noqa: E402

SIZES = ((2, 5), (5, 1), (2, 16), (16, 16), (16, 1), (32, 32), (64, 64), (256, 256))
NETWORKS = ([2, 5, 1], [2, 16, 16, 1], [2, 32, 32, 1], [2, 64, 64, 1])
DTYPES = (torch.float32, torch.float64)


def compare(together: Step, apart: Step) -> dict[str, Any]:
    calls = {"together": together, "apart": apart}
    rounds = timing.interleave(calls, dict.fromkeys(calls, 0.0), "cpu", lambda: None)
    found: dict[str, Any] = {}
    for name, seconds in rounds.seconds.items():
        found[f"{name}, us"] = round(1e6 * timing.Spread.of([t for t in seconds if t is not None]).p50, 1)
    saved = timing.ratio(rounds.seconds["together"], rounds.seconds["apart"])
    return found | {"together / apart": round(saved.p50, 3), "elsewhere": rounds.elsewhere}


def of_layer(inputs: int, outputs: int, grid_size: int, dtype: torch.dtype, rows: int = 1000) -> list[dict[str, Any]]:
    """X_2 and F_1; X_2, A_1 and F_1; X_2, A_1 and X_1: gradients of X_1, without and with the weight's, and of F_1."""
    layer = fastkan.KANLinear(inputs, outputs, bias=False, grid_size=grid_size, dtype=dtype)
    x, r = torch.rand(rows, inputs, dtype=dtype) * 2 - 1, torch.randn(rows, inputs, dtype=dtype)
    weight, g, settings = layer.weight.detach(), torch.randn(rows, outputs, dtype=dtype), (layer.knots, 3, "silu")
    cpu = backends.select("cpu", x.device, dtype, 3)
    single = {
        "X": lambda: cpu.grad_input(x, weight, g, *settings, 2),
        "XA": lambda: cpu.gradients(x, weight, g, r, *settings, 1),
        "F": lambda: cpu.forward(x, weight, r, *settings, 1),
        "X_1": lambda: cpu.grad_input(x, weight, g, *settings, 1),
    }
    wanted = {("X", "F"): (1, 0, 0, 1), ("XA", "F"): (1, 1, 0, 1), ("XA", "X_1"): (1, 1, 1, 0)}
    found = []
    for parts, which in wanted.items():
        times = compare(
            lambda which=which: cpu.sweep(x, weight, g, r, *settings, 1, which), lambda parts=parts: [single[p]() for p in parts]
        )
        size = {"batch": rows, "in_features": inputs, "out_features": outputs, "grid_size": grid_size}
        found.append({"operations": " + ".join(parts), "dtype": str(dtype)[6:]} | size | times)
    return found


def of_network(widths: list[int], dtype: torch.dtype, rows: int) -> dict[str, Any]:
    net, served = fastkan.KAN(widths).to(dtype), ops._closure.sweep
    x = torch.rand(rows, widths[0], dtype=dtype, requires_grad=True)

    def step(sweep: Any) -> None:
        ops._closure.sweep = sweep
        u = net(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(slope[:, 0].sum(), x, create_graph=True)
        net.zero_grad()
        (second[:, :1] + u).square().mean().backward()
        ops._closure.sweep = served

    times = compare(lambda: step(served), lambda: step(None))
    return {"operations": "step with u_xx", "dtype": str(dtype)[6:], "batch": rows, "widths": widths} | times


def main() -> None:
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
    report.save_json({"environment": found, "rows": rows}, ROOT / "benchmarks" / "results" / machine(found) / "sweeps.json")


if __name__ == "__main__":
    main()
