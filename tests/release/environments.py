"""Fresh virtual environments, which cost gigabytes and so live no longer than their use."""

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PINS = ROOT / "constraints.txt"


def run(*command: object, **options: object) -> None:
    subprocess.run([str(word) for word in command], check=True, **options)


def clean_environment() -> dict[str, str]:
    """Of this process, without what would show the checkout to another Python."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "FASTKAN_BACKEND")}


@contextmanager
def fresh() -> Iterator[tuple[Path, Path]]:
    """The Python of a new environment, and an empty folder to run it in."""
    with tempfile.TemporaryDirectory(prefix="fastkan-") as folder:
        home, empty = Path(folder, "venv"), Path(folder, "empty")
        empty.mkdir()
        venv.create(home, with_pip=True)
        yield home / ("Scripts" if sys.platform == "win32" else "bin") / "python", empty
