"""Fit, prune, see: a formula of two of four inputs, found again from 1,000 rows."""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

import fastkan

ROWS, NAMES = 1000, ("a", "b", "c", "d")
GRIDS = (5, 10, 20, 50)


def hidden(x: Tensor) -> Tensor:
    """What the model is not told: [B, 4] -> [B, 1]."""
    return torch.exp(torch.sin(torch.pi * x[:, 1:2]) + x[:, 2:3] ** 2)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", default="fastkan-demo.png", help="file of the picture (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the rows and of the start (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)  # as fast as two on a quiet machine, and on a busy one 11 s instead of 40 to 78
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(arguments.seed)
    x, new = (2 * torch.rand(ROWS, len(NAMES), generator=generator, dtype=torch.float64) - 1 for _ in range(2))
    y = hidden(x)
    model = fastkan.KAN([len(NAMES), 5, 1], seed=arguments.seed, dtype=torch.float64)
    print(f"{ROWS} rows, {len(NAMES)} inputs {' '.join(NAMES)}, and a model that may use all of them: {model.widths}, 25 edges")

    small, candidates = fastkan.sparsify(model, x, y, seed=arguments.seed)
    print("\nedges  error, in standard deviations of y, on rows held back")
    for candidate in candidates[:6]:
        print(f"{candidate.edges:5}  {candidate.error:.1e}")
    read = [name for name, share in zip(NAMES, fastkan.explain.attribute(small, x).inputs, strict=True) if share > 0]
    print(f"\nkept: {small.widths}, of the inputs {' '.join(read)}")

    history = small.fit(x, y, grids=list(GRIDS), seed=arguments.seed)
    with torch.no_grad():
        error = (small(new) - hidden(new)).square().mean().sqrt().item()
    print(f"fitted on grids of {', '.join(map(str, GRIDS))} cells: kept {history.grid_size}, error on new rows {error:.1e}")

    output = Path(arguments.output)
    small.plot(x, in_names=NAMES, out_names=["y"]).savefig(output, dpi=150)
    print(f"{output}: its functions. The formula was exp(sin(pi b) + c^2). {time.perf_counter() - start:.0f} s.")
