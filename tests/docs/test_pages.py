"""The code that readers copy runs, links lead somewhere, and the site builds."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(?:python|\{code-cell\}[^\n]*)\n(?::[^\n]*\n)*(.*?)^```", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!http|#)([^)#]+)[^)]*\)")


def code_of(page):
    return BLOCK.findall(page.read_text())


def run(page):
    """Run a page's blocks in order, in the page's own names, as a reader's session has them."""
    names = {"__name__": "page"}
    for block in code_of(page):
        exec(compile(block, str(page), "exec"), names)
    return names


@pytest.mark.parametrize("page", [page for page in PAGES if code_of(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_cell_is_nested(page):
    """In a list neither the site nor the test above would run it."""
    assert not re.search(r"^[ \t]+```(?:python|\{code-cell\})", page.read_text(), flags=re.MULTILINE)


def test_readme_trains(capsys):
    names = run(ROOT / "README.md")
    assert "replaced 2;" in capsys.readouterr().out
    assert names["loss"].item() < 0.2


def test_tutorials_train(capsys):
    assert run(ROOT / "docs/tutorials/first-layer.md")["loss"].item() < 1e-2
    assert run(ROOT / "docs/tutorials/swap-a-block.md")["after"] > 0.9
    assert run(ROOT / "docs/tutorials/pde.md")["error"].item() < 1e-2


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_page_is_in_the_contents():
    pages = {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in PAGES[1:]} - {"index"}
    listed = set()
    for page in PAGES[1:]:
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
            entries = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {str((page.parent / entry).resolve().relative_to(ROOT / "docs")) for entry in entries}
    assert listed == pages


@pytest.mark.proof
@pytest.mark.skipif(not importlib.util.find_spec("sphinx"), reason="Sphinx is not installed (make docs installs it)")
def test_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", ROOT / "docs", tmp_path / "site"]
    subprocess.run(command, check=True)
    assert (tmp_path / "site" / "index.html").exists()
