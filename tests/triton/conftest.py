"""Puts the tools beside these tests on the import path. Without Triton the folder is skipped."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
collect_ignore_glob = [] if find_spec("triton") else ["test_*.py"]
