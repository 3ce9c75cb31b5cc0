"""What a run says while it goes on, on the screen or in a file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

CONSOLE = Console(width=None if sys.stdout.isatty() else 130)  # a file would get 80 columns


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar of `total` steps; each call of what it gives is one step, and says what is going on."""
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=CONSOLE) as shown:
        bar = shown.add_task("", total=total)
        yield lambda what: shown.update(bar, advance=1, description=what)
