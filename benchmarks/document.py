"""Results on disk: rows of one metric each, and the one way a document becomes JSON."""

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One metric of one peer on one case in one mode; without a value, status and reason say why."""

    case: str
    batch: int
    in_features: int
    out_features: int
    grid_size: int
    degree: int
    dtype: str
    device: str
    mode: str
    peer: str
    family: str
    metric: str
    unit: str
    p20: float | None = None
    p50: float | None = None
    p80: float | None = None
    count: int = 0
    elsewhere: float | None = None
    status: str = "ok"
    reason: str = ""


def _json(document: dict) -> str:
    """One row or record a line, so that the difference between two runs can be read."""
    dump = partial(json.dumps, ensure_ascii=False)
    parts = []
    for key, value in document.items():
        lines = isinstance(value, list) and value
        text = "[\n" + ",\n".join(map(dump, value)) + "\n]" if lines else dump(value)
        parts.append(f"{dump(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def write(document: dict, path: Path) -> None:
    """Never half a file: whoever kills a run leaves the file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_suffix(".partial")
    partial_file.write_text(_json(document), encoding="utf-8")
    os.replace(partial_file, path)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
