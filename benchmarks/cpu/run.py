"""`python -m benchmarks cpu`, which is `make bench`: fastkan beside its peers, then KANs and MLPs trained on real data.

`train` is its last part alone; `plot` draws an earlier run anew.
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Literal

import tyro

from benchmarks import cases, peers
from benchmarks.cpu import networks, plot, report, speed, training
from benchmarks.document import read
from benchmarks.environment import environment, results_folder
from benchmarks.progress import CONSOLE, progress


def measure(
    sizes: Literal["default", "full", "baselines"] = "default",
    device: Literal["cpu", "cuda"] = "cpu",
    limit: float = 5.0,
    name: str = "",
) -> None:
    """Time and peak memory of KAN layers and the time of a small KAN beside their peers, then KANs on real data beside MLPs.

    Takes under 4 minutes on 2 quiet cores. Prints tables, and writes JSON, Markdown and plots to
    benchmarks/results/<machine>/<name>.

    Args:
        sizes: full has more sizes, degree 2 and bfloat16, and takes several times as long; baselines has many sizes, beside
            nn.Linear and MLPs only.
        device: Where the layers are measured. Networks stay on the CPU: they are too small for a GPU.
        limit: Seconds; a peer slower than this per call is skipped, and its row says so.
        name: Name of the result files, today's date by default.
    """
    found = environment(device)
    taking_part = peers.taking_part(device)
    if sizes == "baselines":
        taking_part = [peer for peer in taking_part if peer.family in ("fastkan", "baseline")]
    chosen = {"default": cases.DEFAULT, "full": cases.FULL, "baselines": cases.BASELINES}[sizes]
    total = sum(speed.steps(case, taking_part) for case in chosen) + networks.steps() + training.steps()
    with progress(total) as advance:
        rows = []
        for case in chosen:
            rows += speed.measure_case(case, taking_part, device, limit, advance)
        small = networks.measure(advance)
        trained = training.run(advance)
    document = {"environment": found, "limit_seconds": limit, "speed": rows, "networks": small, "training": trained}
    present(document, results_folder(found) / f"{name or date.today().isoformat()}.json")


def train(name: str = "") -> None:
    """KANs on real data beside MLPs. Writes JSON, Markdown and a plot to benchmarks/results/<machine>/<name>.

    Args:
        name: Name of the result files, today's date and -train by default.
    """
    found = environment("cpu")
    with progress(training.steps()) as advance:
        trained = training.run(advance)
    document = {"environment": found, "speed": [], "networks": [], "training": trained}
    present(document, results_folder(found) / f"{name or date.today().isoformat() + '-train'}.json")


def plot_again(path: tyro.conf.Positional[Path]) -> None:
    """Print and draw an earlier run of cpu or train anew.

    Args:
        path: The run's JSON.
    """
    present(read(path), path)


def present(document: dict, path: Path) -> None:
    """Write the document, its tables as Markdown and its plots beside it, and print the tables."""
    report.save(document, path)
    if document["speed"]:
        plot.plot_speed(document, path.with_suffix(".png"))
    plot.plot_training(document, path.with_name(path.stem + "-training.png"))
    for table in report.rich_tables(document):
        CONSOLE.print(table)
    CONSOLE.print(report.METHOD, report.TRAINING_METHOD, report.conditions(document), f"Written: {path} and beside it", sep="\n")


def _command(name: str, function: Callable[..., None], arguments: list[str]) -> int:
    tyro.cli(function, prog=f"python -m benchmarks {name}", args=arguments)
    return 0


def main(arguments: list[str]) -> int:
    return _command("cpu", measure, arguments)


def train_main(arguments: list[str]) -> int:
    return _command("train", train, arguments)


def plot_main(arguments: list[str]) -> int:
    return _command("plot", plot_again, arguments)
