"""The explorer in JupyterLab, from a click in the browser to Python and back."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time

import pytest
from explain import chromium

pytestmark = pytest.mark.skipif(
    chromium.PROGRAM is None or importlib.util.find_spec("jupyterlab") is None, reason="needs Chromium and jupyterlab"
)
CELLS = (
    "import torch, fastkan\nmodel = fastkan.KAN([2, 3, 1], seed=0)\n"
    "widget = fastkan.explain.explore(model, torch.rand(300, 2) * 2 - 1)\nwidget",
    "widget.apply()\nprint('pruned', widget.pruned, model.layers[0].mask.tolist())",
    "widget.pruned = [[0, 0, 0]]",
)
SLIDER = "document.querySelector('[data-input=\"x0\"]')"


@pytest.fixture
def lab(tmp_path):
    """The address of a server whose notebook holds the cells."""
    cells = [
        {"cell_type": "code", "id": f"c{k}", "source": text, "metadata": {}, "outputs": [], "execution_count": None}
        for k, text in enumerate(CELLS)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "book.ipynb").write_text(json.dumps(notebook))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    options = ("--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=")
    more = ("--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={tmp_path}", "--ServerApp.log_level=ERROR")
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options, *more], env=os.environ | own)
    end = time.monotonic() + chromium.SECONDS
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as asks:
            if not asks.connect_ex(("127.0.0.1", port)):
                break
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}/lab/tree/book.ipynb"
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()


def run(page, number):
    page.click(f'[data-windowed-list-index="{number}"] .jp-InputPrompt')
    page.wait("document.body.innerText.includes('| Idle')")  # the kernel, in the bar below
    page.value("window.jupyterapp.commands.execute('notebook:run-cell'); 0")


def test_from_a_click_to_python_and_back(lab, tmp_path):
    page = chromium.Page(tmp_path / "profile", offline=False)
    page.open(lab, "!!window.jupyterapp && document.querySelectorAll('.jp-Cell').length === 3")
    run(page, 0)
    page.wait("document.querySelectorAll('[data-edge]').length === 9")
    page.click('[data-edge="0,1,2"]')
    page.click('[data-do="prune"]')
    run(page, 1)
    shown = "[...document.querySelectorAll('pre')].map((e) => e.textContent).find((text) => text.startsWith('pruned'))"
    page.wait(f"!!{shown}")
    assert page.value(shown).strip() == "pruned [[0, 1, 2]] [[True, True, True], [True, True, False]]"
    run(page, 2)
    page.wait("document.querySelector('[data-edge=\"0,0,0\"]').classList.contains('pruned')")
    assert not page.value("document.querySelector('[data-edge=\"0,1,2\"]').classList.contains('pruned')")

    page.value(f"{SLIDER}.scrollIntoView(); {SLIDER}.focus()")
    before = page.value(f"Number({SLIDER}.value)")
    page.press("ArrowUp", 38)  # JupyterLab's key for the cell above
    assert page.value(f"Number({SLIDER}.value)") > before
    assert not page.faults()
    page.close()
