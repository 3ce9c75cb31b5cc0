"""The tools beside these tests go by their bare names; without Triton there is nothing to test here."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
collect_ignore_glob = [] if find_spec("triton") else ["test_*.py"]
