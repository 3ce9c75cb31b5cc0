"""The structure of docs/design.md, section 6, and the size budgets that keep it readable."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fastkan"

# Which modules of the package each key may import: arrows point one way. A key is a file or a folder whose files share a rule;
# the longest key that fits counts.
ALLOWED = {
    "dtypes": set(),
    "experimental": set(),
    "splines.activations": set(),
    "splines.uniform": set(),
    "splines.knots": set(),
    "reference": {"splines.activations"},
    "kernels": {"kernels", "experimental", "splines.uniform", "backends.cache"},
    "backends.cache": set(),
    "experimental.two_four": {"experimental", "backends.cache", "dtypes", "splines.uniform"},
    "backends": {"backends", "reference", "dtypes", "experimental.two_four"},
    "ops": {"ops", "backends", "reference", "dtypes", "splines.activations"},
    "splines": set(),  # its __init__
    "splines.refit": {"splines.banded", "splines.knots", "splines.local"},
    "functional": {"ops", "dtypes", "splines.activations"},
    "nn": {"nn", "functional", "ops", "reference", "dtypes", "splines"},
    "tools": {"tools", "nn", "ops", "backends", "dtypes"},
    "__main__": {"tools"},
}
# Folders of capabilities to come stand on the public layer, and not on each other.
CAPABILITIES = ("train", "explain", "interop", "distributed", "export", "pde")
ALLOWED |= {name: {name, "nn", "functional", "splines"} for name in CAPABILITIES}
ALLOWED["formulas"] = {"formulas", "train", "explain", *ALLOWED["train"]}  # names what train has found, and draws it
ALLOWED["export"] |= {"ops"}  # it says what an operation is where fastkan is not


def python_files():
    return [p for folder in ("fastkan", "kernels", "benchmarks", "tests") for p in (ROOT / folder).rglob("*.py")] + [
        ROOT / "setup.py"
    ]


def imports(path):
    """Dotted names below fastkan that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("fastkan.") for alias in node.names if alias.name.startswith("fastkan."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fastkan":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = any((ROOT / p).exists() for p in (_file(name), _folder(name), _file(name, ""), _folder(name, "")))
                yield (name if is_module else node.module).removeprefix("fastkan").removeprefix(".")


def _file(name, top="fastkan"):
    return Path(top, *name.split(".")[1:]).with_suffix(".py")


def _folder(name, top="fastkan"):
    return Path(top, *name.split(".")[1:], "__init__.py")


def rule_of(name):
    """The key in ALLOWED for a dotted name below fastkan."""
    fitting = [part for part in ALLOWED if fits(name, [part])]
    return max(fitting, key=len, default=None)


def fits(name, allowed):
    return any(name == part or name.startswith(f"{part}.") for part in allowed)


@pytest.mark.parametrize(
    "path", sorted([*PACKAGE.rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]), ids=lambda path: str(path.relative_to(ROOT))
)
def test_arrows_point_one_way(path):
    relative = path.relative_to(PACKAGE if PACKAGE in path.parents else ROOT).with_suffix("")
    name = ".".join(part for part in relative.parts if part != "__init__")
    if not name:  # fastkan/__init__.py gathers what users see
        return
    rule = rule_of(name)
    assert rule, f"{name} has no rule: add it to ALLOWED"
    wrong = [target for target in imports(path) if target not in ("", "_C") and not fits(target, ALLOWED[rule])]
    assert not wrong, f"{name} may not import {wrong}"


def test_only_ops_imports_the_backends():
    """And fastkan/__init__.py, for use_backend, and tools, which report on them. The cache stands below all of them."""
    for path in PACKAGE.rglob("*.py"):
        top = path.relative_to(PACKAGE).parts[0]
        if any(fits(name, ["backends"]) and name != "backends.cache" for name in imports(path)):
            assert top in ("__init__.py", "ops", "backends", "tools"), path


@pytest.mark.parametrize(("module", "file"), [("fastkan._C", "native.py"), ("fastkan.kernels", "triton.py")])
def test_one_file_reaches_the_native_module_and_one_the_kernels(module, file):
    assert [path.name for path in PACKAGE.rglob("*.py") if f'"{module}"' in path.read_text()] == [file]


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


def test_no_helper_of_tests_hides_another():
    """tests/ is first on sys.path: a module there hides one of the same name that a folder below imports."""
    top = {p.name for p in (ROOT / "tests").glob("*.py")} - {"conftest.py"}
    below = {p.name for p in (ROOT / "tests").glob("*/**/*.py")}
    assert not top & below


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
