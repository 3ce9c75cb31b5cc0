"""The structure of docs/design.md, section 6, and the size budgets that keep it readable."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fastkan"

# Which modules of the package each room may import: arrows point one way.
ALLOWED = {
    "compat": set(),
    "precision": set(),
    "uniform": set(),
    "kernels": {"kernels", "reference", "precision", "uniform"},
    "bases": set(),
    "derivatives": set(),
    "reference": {"bases"},
    "compiled": {"reference", "precision", "_C"},
    "sparse": {"compiled", "uniform"},
    "backends": {"compiled", "reference", "sparse"},
    "library": {"precision", "backends", "reference", "bases", "derivatives"},
    "ops": {"library", "reference", "compat", "derivatives"},
    "stack": {"ops", "backends", "compat", "derivatives"},
    "functional": {"ops", "backends", "bases"},
    "grid": {"ops", "reference"},
    "info": {"backends"},
    "profile": {"precision", "profile", "backends", "functional", "info", "nn"},
    "__main__": {"info", "profile"},
    "nn": {"nn", "functional", "stack", "grid", "reference", "backends", "bases"},
}


def python_files():
    return [p for folder in ("fastkan", "kernels", "benchmarks", "tests") for p in (ROOT / folder).rglob("*.py")] + [
        ROOT / "setup.py"
    ]


def imports(path):
    """Top-level parts of fastkan that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("fastkan."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fastkan":
            parts = node.module.split(".")
            yield from (parts[1:2] if len(parts) > 1 else [alias.name for alias in node.names])


@pytest.mark.parametrize(
    "path", sorted([*PACKAGE.rglob("*.py"), *(ROOT / "kernels").glob("*.py")]), ids=lambda path: str(path.relative_to(ROOT))
)
def test_arrows_point_one_way(path):
    relative = path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT)
    room = relative.parts[0].removesuffix(".py")
    if room != "__init__":
        assert set(imports(path)) <= ALLOWED[room]


@pytest.mark.parametrize(("provider", "room"), [("fastkan._C", "compiled.py"), ("fastkan.kernels", "backends.py")])
def test_one_room_reaches_the_compiled_core_and_one_the_kernels(provider, room):
    assert [path.name for path in PACKAGE.rglob("*.py") if provider in path.read_text()] == [room]


def test_no_bare_import_of_kernels():
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not any(name.split(".")[0] == "kernels" for name in names), path


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_python_budgets(path):
    text = path.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            docstring = ast.get_docstring(node, clean=False)
            assert length - (docstring or "").count("\n") <= 60, f"{node.name}: {length} lines"


@pytest.mark.parametrize("path", sorted((ROOT / "csrc").rglob("*.*")), ids=lambda path: str(path.relative_to(ROOT)))
def test_native_budgets(path):
    text = path.read_text()
    assert text.count("\n") <= 300
    assert "torch/" not in text and "ATen" not in text  # the core knows no libtorch


def test_nothing_built_is_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    assert not [name for name in tracked if name.endswith((".so", ".pyc", "_build.json"))]


def test_package_runs_no_code_from_files():
    """No pickle, eval or exec in the package: loading what a stranger sent cannot run code."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not any(a.name in ("pickle", "marshal", "subprocess") for a in node.names), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), path
