"""What a part of the benchmark gives to the command: its runs, each of which makes a row of figures."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Run(NamedTuple):
    """what: shown while it runs. call(*settings) returns a row, or several."""

    what: str
    call: Callable[..., Any]
    settings: tuple
