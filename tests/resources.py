"""Tables of what compiled kernels take of a GPU (registers, shared memory, spills): one JSON object of rows, a row a line."""

import json
from pathlib import Path
from typing import Any

Table = dict[str, dict[str, Any]]


def load(path: Path) -> Table:
    """The committed table; empty where no table has been committed."""
    return json.loads(path.read_text()) if path.is_file() else {}


def save(path: Path, table: Table) -> None:
    path.parent.mkdir(exist_ok=True)
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in sorted(table.items()))
    path.write_text(f"{{\n{rows}\n}}\n")


def differences(committed: Table, made: Table) -> list[str]:
    """What changed from the committed table to the one made here, a line a row."""
    lines = [f"{key}: gone" for key in committed.keys() - made.keys()]
    lines += [f"{key}: new" for key in made.keys() - committed.keys()]
    for key in committed.keys() & made.keys():
        old, new = committed[key], made[key]
        changed = [f"{name} {old.get(name)} -> {new.get(name)}" for name in {**old, **new} if old.get(name) != new.get(name)]
        lines += [f"{key}: {', '.join(changed)}"] if changed else []
    return sorted(lines)
