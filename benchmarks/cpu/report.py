"""The finished document as JSON, as rich tables on the screen and as Markdown for the README."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy
from rich.table import Table

from benchmarks.cpu.speed import LINEAR, PYKAN
from benchmarks.display import MEBIBYTE, by_time, digits, grouped
from benchmarks.document import write

METHOD = (
    "Time: median (20 % to 80 % quantile) of interleaved rounds in rotating order; ratios are medians of the "
    "rounds' ratios. Peak memory: beyond parameters, input and results, on the CPU in a fresh process per "
    "figure, to about 0.1 MiB. Every KAN layer computes the same function and was checked against a float64 "
    "reference before it was timed. Baselines compute another function; MLPs are Linear-SiLU-Linear, equal FLOPs "
    "means p + 2 multiply-adds per KAN edge."
)
TRAINING_METHOD = (
    "Training: same split (60 % train, 20 % validation, 20 % test), seeds, batches, AdamW and epochs for all; "
    "result on the test rows at the epoch that was best on the validation rows, mean ± standard deviation over 3 "
    "seeds. The wider MLP has as many parameters as the KAN."
)
SPEED_HEADER = (
    "peer",
    "time, ms",
    "time / nn.Linear",
    f"× faster than {PYKAN}",
    "peak MiB",
    "rounds",
    "note",
)
TRAINING_HEADER = ("data", "model", "parameters", "test metric", "ms per epoch")


class Section(NamedTuple):
    """One table: the first cell of a row names it."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def _speed_cells(metrics: dict[str, dict]) -> tuple[str, ...]:
    time = metrics["time"]
    name = time["peer"] + (" (baseline)" if time["family"] == "baseline" else "")
    if time["p50"] is None:
        note = textwrap.shorten(f"{time['status']}: {time['reason']}", 90, placeholder=" …")
        return (name, *["–"] * 5, note)
    linear, pykan = (metrics.get(f"time / {base}") for base in (LINEAR, PYKAN))
    memory = metrics.get("peak memory")
    p20, p50, p80 = (digits(1e3 * time[key]) for key in ("p20", "p50", "p80"))
    return (
        name,
        f"{p50} ({p20} to {p80})",
        digits(linear["p50"]) if linear else "–",
        digits(1 / pykan["p50"]) if pykan else "–",
        digits(memory["p50"] / MEBIBYTE) if memory else "–",
        str(time["count"]),
        "",
    )


def _training_rows(records: list[dict]) -> list[tuple[str, ...]]:
    rows = []
    for (dataset, metric, model), seeds in grouped(records, "dataset", "metric", "model").items():
        results = [record["result"] for record in seeds]
        result = f"{metric} {numpy.mean(results):.4f} ± {numpy.std(results, ddof=1):.4f}"
        epoch = numpy.median([record["epoch_seconds"] for record in seeds])
        rows.append((dataset, model, f"{seeds[0]['parameters']:,}", result, digits(1e3 * epoch)))
    return rows


def sections(document: dict) -> Iterator[Section]:
    for (case, mode), rows in grouped(document["speed"] + document["networks"], "case", "mode").items():
        yield Section(f"{case}: {mode}", SPEED_HEADER, [_speed_cells(metrics) for metrics in by_time(rows).values()])
    yield Section("Training", TRAINING_HEADER, _training_rows(document["training"]))


def conditions(document: dict) -> str:
    """What belongs under every table and plot: machine, versions, commit, and whether it was quiet."""
    found = document["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items() if version)
    shares = [row["elsewhere"] for row in document["speed"] if row["elsewhere"] is not None]
    quiet = f", at most {max(shares):.0%} of it busy with other programs" if shares else ""
    return (
        f"{found['gpu'] or found['processor']}, {found['fastkan']['threads']} threads on {found['cores']} cores{quiet}; "
        f"torch {found['fastkan']['torch']}, {packages}; commit {found['commit']}, {found['date'][:10]}."
    )


def rich_tables(document: dict) -> Iterator[Table]:
    for section in sections(document):
        table = Table(title=section.title, title_justify="left")
        for column in section.header:
            words = column in ("peer", "note", "data", "model")
            table.add_column(column, justify="left" if words else "right")
        for row in section.rows:
            table.add_row(*row, style="bold" if row[0].startswith("fastkan") else None)
        yield table


def markdown(document: dict) -> str:
    parts = [METHOD, TRAINING_METHOD, conditions(document)]
    for section in sections(document):
        lines = [section.header, ["---"] * len(section.header), *section.rows]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts.append(f"**{section.title}**\n\n{table}")
    return "\n\n".join(parts) + "\n"


def save(document: dict, path: Path) -> None:
    """The whole document as JSON at `path`, and its tables as Markdown beside it."""
    write(document, path)
    path.with_suffix(".md").write_text(markdown(document), encoding="utf-8")
