"""The explorer without a browser: what goes to it, and what comes back from it."""

import importlib.util
import json
import sys

import pytest
import torch
from torch import nn

import fastkan
from fastkan.explain import explore, explore_html
from fastkan.nn import Columns, edges

X = torch.linspace(-0.8, 0.9, 60).reshape(-1, 3)
needs_anywidget = pytest.mark.skipif(not importlib.util.find_spec("anywidget"), reason="anywidget is not installed")


def made():
    model = fastkan.KAN([3, (2, 1), 2], seed=0)
    model.layers[0].set_symbolic({(0, 1): ("sin", (3.0, 0.5, 2.0, -1.0)), (1, 1): ("x", (1.0, 0.0, 1.0, 0.0))})
    return model


def test_page_is_one_file_that_asks_for_nothing(tmp_path):
    name = "</script><b>speed"
    explore_html(made(), X, tmp_path / "a.html", in_names=["mass", name, "time"])
    text = (tmp_path / "a.html").read_text()
    assert text.count("</script>") == 2 and name not in text
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    state = json.loads(text.split('id="state">')[1].split("</script>")[0])
    assert state["in_names"][1] == name
    assert torch.tensor(state["samples"]).allclose(X)


def test_many_samples_are_thinned_out(tmp_path):
    explore_html(fastkan.KAN([3, 1]), torch.rand(5000, 3), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    assert len(json.loads(text.split('id="state">')[1].split("</script>")[0])["samples"]) <= 300


@needs_anywidget
def test_pruned_edges_leave_the_model_when_applied():
    model = made()
    widget = explore(nn.Sequential(Columns([2, 1, 0], 3), *model), X)
    before = model(X)
    widget.pruned = [[0, 0, 1], [0, 2, 3], [1, 1, 0]]
    assert torch.equal(model(X), before)
    widget.apply()
    alive = [edges.alive(layer) for layer in model.layers]
    assert [(~mask).nonzero().tolist() for mask in alive] == [[[0, 1], [2, 3]], [[1, 0]]]
    assert model.layers[0].symbolic.edges == [(1, 1, "x")]
    values = edges.edge_values(model.layers[0], X)
    torch.testing.assert_close(values[:, 1, 1], X[:, 1])
    assert (values[:, 0, 1] == 0).all()


@needs_anywidget
@pytest.mark.parametrize("name", ["pruned", "marked"])
@pytest.mark.parametrize("edge", [[0, 3, 0], [2, 0, 0], [0, 0, 4], [0, 0], [-1, 0, 0]])
def test_edges_that_are_not_there(name, edge):
    widget = explore(made(), X)
    with pytest.raises(ValueError, match=rf"^{name}: expected edges \[layer, i, o\]"):
        setattr(widget, name, [edge])
    assert getattr(widget, name) == []


def test_samples_are_needed(tmp_path):
    with pytest.raises(TypeError, match=r"^x: expected a tensor of samples, received None"):
        explore_html(made(), None, tmp_path / "a.html")


def test_without_anywidget(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "fastkan.explain.widget", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'fastkan\[explain\]'"):
        explore(made(), X)
