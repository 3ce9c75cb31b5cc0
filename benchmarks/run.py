"""Measure fastkan against its peers, then train it on real data: `python benchmarks/run.py`."""

import sys
from datetime import date
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # at the end: an installed fastkan goes before the source tree

from benchmarks import cases, networks, plot, report, speed, training  # noqa: E402
from benchmarks.environment import environment, machine  # noqa: E402
from benchmarks.providers import providers  # noqa: E402


def main(
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
        limit: Seconds; a provider slower than this per call is skipped, and its row says so.
        name: Name of the result files, today's date by default.
    """
    found = environment(device)
    taking_part = providers(device)
    if sizes == "baselines":
        taking_part = [provider for provider in taking_part if provider.family in ("fastkan", "baseline")]
    chosen = {"default": cases.DEFAULT, "full": cases.FULL, "baselines": cases.BASELINES}[sizes]
    total = sum(speed.steps(case, taking_part) for case in chosen) + networks.steps() + training.steps()
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    console = Console(width=None if sys.stdout.isatty() else 130)  # a file would get 80 columns
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=total)

        def advance(what: str) -> None:
            progress.update(bar, advance=1, description=what)

        rows = []
        for case in chosen:
            rows += speed.measure_case(case, taking_part, device, limit, advance)
        small = networks.measure(advance)
        trained = training.run(advance)
    document = {"environment": found, "limit_seconds": limit, "speed": rows, "networks": small, "training": trained}
    folder = ROOT / "benchmarks" / "results" / machine(found)
    path = folder / f"{name or date.today().isoformat()}.json"
    report.save(document, path)
    plot.plot_speed(document, path.with_suffix(".png"))
    plot.plot_training(document, path.with_name(path.stem + "-training.png"))
    for table in report.rich_tables(document):
        console.print(table)
    console.print(report.METHOD, report.TRAINING_METHOD, report.conditions(document), f"Written: {path} and beside it", sep="\n")


if __name__ == "__main__":
    tyro.cli(main)
