"""Pictures of models: what is in them, and that pyplot knows nothing of them."""

import subprocess
import sys
import types

import pytest
import torch
from torch import nn

import fastkan
from fastkan.explain import animate, plot, plot_edge, plot_history
from fastkan.explain.sketch import formula, sketch
from fastkan.nn import Columns, edges

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

X = torch.linspace(-0.8, 0.9, 60).reshape(-1, 3)


def made(widths=(3, 4, 2), **settings):
    return fastkan.KAN(list(widths), seed=0, **settings)


def symbolic():
    model = made((3, (2, 1), 2))
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1, 2] = False
    model.layers[0].set_mask(mask)
    model.layers[0].set_symbolic({(0, 1): ("sin", (3.0, 0.5, 2.0, -1.0))})
    return model


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def curves(figure):
    """How many curves of edges a picture has."""
    collections = [c for axes in figure.axes for c in axes.collections if c.get_zorder() == 5]
    return sum(len(collection.get_segments()) for collection in collections)


def test_every_edge_is_drawn_and_named():
    figure = plot(made(), X, in_names=["mass", "speed", "time"], out_names=["force", "work"])
    assert curves(figure) == 3 * 4 + 4 * 2
    assert {"mass", "speed", "time", "force", "work"} <= set(texts(figure))
    assert texts(figure).count("+") == 6


def test_gone_edges_formulas_and_products():
    figure = plot(symbolic(), X)
    assert curves(figure) == 3 * 4 - 1 + 3 * 2
    assert "2 sin(3 x + 0.5) - 1" in texts(figure)
    assert texts(figure).count("×") == 1


def test_names_of_chosen_columns():
    model = nn.Sequential(Columns([0, 2], 3), fastkan.KANLinear(2, 1))
    assert [text for text in texts(plot(model, X)) if text.startswith("x")] == ["x0", "x2"]


def test_large_models_are_summed_up():
    figure = plot(made((64, 64, 10)))
    assert curves(figure) == 12
    strongest = int(sketch(made((64, 64, 10))).layers[0].importance.argmax())
    assert any(text.endswith(f"layer 0: {strongest // 64} → {strongest % 64}") for text in texts(figure))


def test_opacity_is_importance():
    model = made()
    with torch.no_grad():
        model.layers[0].weight[1, :, 2] *= 50
    shades = next(c for c in plot(model, X).axes[0].collections if c.get_zorder() == 5).get_alpha().tolist()
    assert shades.index(max(shades)) == 1 * 4 + 2 and min(shades) < 0.3


def test_curves_density_and_support():
    model, x = made(), torch.cat((torch.full((30, 3), -0.5), torch.full((10, 3), -0.9)))
    layer = sketch(model, x).layers[0]
    torch.testing.assert_close(layer.values.float(), edges.edge_values(model.layers[0], layer.t.float()), atol=1e-5, rtol=1e-4)
    assert layer.density.count_nonzero(0).tolist() == [2, 2, 2]
    assert sorted(layer.density[:, 0].unique().tolist()) == pytest.approx([0, 1 / 3, 1])
    drawn = next(c for c in plot(model, x).axes[0].collections if c.get_zorder() == 5)
    shown = sum(len(segment) - torch.tensor(segment).isnan().any(1).sum().item() for segment in drawn.get_segments())
    assert shown < 12 * 15  # of 12 * 129 points


def test_models_are_left_alone_in_any_dtype():
    model = made(dtype=torch.bfloat16)
    model.layers[0].register_forward_hook(lambda *_: pytest.fail("a picture calls no hooks"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    plot(model, X.bfloat16())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_before_is_dashed():
    figure = plot(made(), X, before=made(grid_size=9))
    dashed = [c for c in figure.axes[0].collections if c.get_linestyle() and c.get_linestyle()[0][1]]
    assert sum(len(c.get_segments()) for c in dashed) == 20
    with pytest.raises(ValueError, match=r"^before: expected a model of the same widths"):
        plot(made(), before=made((3, 2, 2)))


@pytest.mark.parametrize("edge", [(0, 0, 1), (0, 2, 0), (1, 3, 1)])
def test_one_edge_and_its_derivative(edge):
    layer, i, o = edge
    model = symbolic() if layer == 0 else made()
    figure = plot_edge(model, layer, i, o, X, before=model)
    upper, _, lower = figure.axes
    t, value = (torch.as_tensor(part) for part in upper.lines[1].get_data())
    slope = torch.as_tensor(lower.lines[0].get_ydata())
    torch.testing.assert_close(torch.gradient(value, spacing=(t,))[0][2:-2], slope[2:-2], atol=0.02, rtol=0.02)
    assert len(plot_edge(model, layer, i, o).axes) == 2


@pytest.mark.parametrize("edge, name", [((2, 0, 0), "layer"), ((-1, 0, 0), "layer"), ((0, 3, 0), "i"), ((0, 0, 4), "o")])
def test_edges_that_are_not_there(edge, name):
    with pytest.raises(ValueError, match=rf"^{name}: expected a whole number from 0 to \d"):
        plot_edge(made(), *edge)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"model": nn.Linear(2, 2)}, TypeError, "model: expected KANLinear layers"),
        ({"model": nn.Sequential()}, TypeError, "model: expected at least one KANLinear"),
        ({"in_names": ["a"]}, ValueError, "in_names: expected 3 names"),
        ({"out_names": "ab"}, ValueError, "out_names: expected 2 names"),
        ({"x": torch.zeros(4, 2)}, ValueError, "x: expected last dimension 3"),
        ({"x": torch.zeros(0, 3)}, ValueError, "x: expected at least one row of finite numbers"),
        ({"x": torch.full((2, 3), torch.nan)}, ValueError, "x: expected at least one row of finite numbers"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        plot(**{"model": made(), **arguments})


@pytest.mark.parametrize(
    "name, affine, text",
    [
        ("x", (1, 0, 1, 0), "x"),
        ("x", (2, 1, 3, 0), "3 (2 x + 1)"),
        ("x**2", (1, 0, -1, 0.5), "-x² + 0.5"),
        ("x**3", (1.2345, -2, 1, 0), "(1.23 x - 2)³"),
        ("1/x", (1, 0, 2, 0), "2 1/x"),
        ("gaussian", (1, 0, 1, 0), "exp(-x²)"),
        ("0", (1, 1, 1, 4), "4"),
    ],
)
def test_formulas_read_well(name, affine, text):
    assert formula(name, affine) == text


def rows(val):
    return [{"step": s, "grid_size": 5 if s < 6 else 10, "train": 1 / (1 + s), "val": val and val / (1 + s)} for s in range(10)]


@pytest.mark.parametrize("val", [None, 2.0])
def test_history(val):
    axes = plot_history(types.SimpleNamespace(rows=rows(val))).axes[0]
    assert [line.get_label() for line in axes.lines if line.get_label()[0] != "_"] == ["train", "validation"][: 2 if val else 1]
    assert texts(axes.figure) == [" G = 10"]
    with pytest.raises(ValueError, match=r"^history: expected at least one row"):
        plot_history(types.SimpleNamespace(rows=[]))


def test_history_of_a_fit():
    history = fastkan.fit(made(), X, X[:, :2], grids=[3, 6], val=0.2, optimizer="lbfgs", steps=2)
    axes = plot_history(history).axes[0]
    assert len(axes.lines[0].get_xdata()) == len(history.rows)
    assert texts(axes.figure) == [" G = 6"]


def test_animation(tmp_path):
    from PIL import Image

    animate([made(), plot(symbolic_free()), made()], tmp_path / "a.gif", X)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3
    with pytest.raises(ValueError, match=r"^frames: expected pictures of one size, received 0"):
        animate([], tmp_path / "b.gif")


def symbolic_free():
    model = made()
    with torch.no_grad():
        model.layers[0].weight.mul_(-1)
    return model


def test_pyplot_is_never_touched():
    code = (
        "import sys, torch, fastkan\nfigure = fastkan.explain.plot(fastkan.KAN([2, 2, 1]), torch.rand(9, 2))\n"
        "assert figure._repr_png_()[:4] == b'\\x89PNG'\nassert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'fastkan\[explain\]'"):
        plot(made())
