"""The benchmarks' packages are an extra: without them there is nothing to collect here."""

from importlib.util import find_spec

collect_ignore = [] if all(map(find_spec, ("matplotlib", "rich", "sklearn", "tyro"))) else ["test_benchmarks.py"]
