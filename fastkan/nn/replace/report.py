"""What replace_linear did, as names with reasons, as one table and as a dict for JSON."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

FORMAT = 2  # of config(); a reader refuses a higher one. 1 had no spline_scale


def _pattern(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _merged(names: list[str]) -> str:
    """Names of one pattern as one, with * for the indices that differ."""
    parts = [set(part) for part in zip(*(name.split(".") for name in names), strict=True)]
    return ".".join(part.pop() if len(part) == 1 else "*" for part in parts) or "the model itself"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def as_config(layers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Settings by name, as JSON gives them back."""
    return json.loads(json.dumps({"format": FORMAT, "layers": layers}))


@dataclass(frozen=True)
class ReplaceReport:
    """What replace_linear did; str(report) is a table, in which blocks that differ only in their indices share a line.

    replaced: names of the replaced blocks
    refused: {name: reason} of the blocks that were asked for, and whose exchange would break or lose something
    left: {name: reason} of what holds weights and was not asked for, or is no linear block
    changed: {name: what} of modules around the blocks that had to be set differently
    parameters: how many the model had before and has afterwards
    dry_run: whether nothing was changed
    """

    replaced: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    parameters: tuple[int, int] = (0, 0)
    dry_run: bool = False
    classes: dict[str, str] = field(default_factory=dict, repr=False)
    layers: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    def config(self) -> dict[str, Any]:
        """The replaced blocks and their settings, for JSON and fastkan.restore: {"format": 2, "layers": {name: settings}}."""
        return as_config(self.layers)

    def _rows(self) -> list[tuple[str, ...]]:
        entries = [("replaced", name, "") for name in self.replaced]
        for action, names in (("refused", self.refused), ("left alone", self.left), ("changed", self.changed)):
            entries += [(action, name, reason) for name, reason in names.items()]
        groups: dict[tuple[str, str, str, str], list[str]] = {}
        for action, name, reason in entries:
            groups.setdefault((action, self.classes.get(name, ""), _pattern(name), reason), []).append(name)
        return [(action, _merged(names), str(len(names)), kind, reason) for (action, kind, _, reason), names in groups.items()]

    def __str__(self) -> str:
        counts = Counter({"replaced": len(self.replaced), "refused": len(self.refused), "left alone": len(self.left)})
        before, after = self.parameters
        said = ", ".join(f"{action} {count}" for action, count in counts.items() if count or action == "replaced")
        head = f"{'dry run, nothing changed: ' * self.dry_run}{said}; parameters: {before:,} before, {after:,} after"
        rows = self._rows()
        return "\n".join([head, *_aligned([("", "name", "count", "class", "reason"), *rows])]) if rows else head
