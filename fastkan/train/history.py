"""What a fit did, step by step."""

from typing import Any


class History:
    """Rows of a fit, one a step.

    rows: dicts of step, grid_size, loss, train, val, seconds. train and val are root mean squared errors in units of y (for a
        loss that is no sum of squares: the loss); val is None without held-back rows.
    stopped: why the fit ended
    grid_size: the one that the model has now
    grids: for each grid size tried, its (train, val)
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.stopped = ""
        self.grid_size: int | None = None
        self.grids: dict[int, tuple[float, float | None]] = {}

    @property
    def train(self) -> float:
        """The error on the training rows at the end."""
        return self.grids[self.grid_size][0] if self.grid_size in self.grids else self.rows[-1]["train"]

    @property
    def val(self) -> float | None:
        """The error on the held-back rows at the end."""
        return self.grids[self.grid_size][1] if self.grid_size in self.grids else self.rows[-1]["val"]

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        lines = [f"{'grid':>6} {'train':>10} {'val':>10}"]
        for size, (train, val) in self.grids.items():
            mark = " <" if size == self.grid_size else ""
            lines.append(f"{size:>6} {train:>10.3g} {'' if val is None else f'{val:.3g}':>10}{mark}")
        seconds = self.rows[-1]["seconds"] if self.rows else 0.0
        return "\n".join([*lines, f"{len(self.rows)} steps in {seconds:.1f} s: {self.stopped}"])
