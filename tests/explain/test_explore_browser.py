"""The explorer in a headless Chromium that has no network."""

import pytest
import torch
from explain import chromium
from torch import nn

import fastkan
from fastkan.explain import explore_html
from fastkan.nn import FUNCTIONS, Columns, edges

pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason="Chromium is not installed (Debian's package chromium)")
X = torch.linspace(-0.8, 0.9, 300, dtype=torch.float64).reshape(-1, 3)
READY = "document.querySelectorAll('[data-output]').length > 0"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    page = chromium.Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


def made(**settings):
    model = fastkan.KAN([3, (2, 1), 2], seed=0, dtype=torch.float64, **settings)
    model.layers[0].set_symbolic({(0, 1): ("sin", (3.0, 0.5, 2.0, -1.0))})
    return model


def shown(page, model, tmp_path, **names):
    path = tmp_path / "page.html"
    explore_html(model, X, path, **names)
    page.events.clear()
    page.open(path.as_uri(), READY)


def move(page, name, value):
    page.value(
        f"(() => {{ const s = document.querySelector('[data-input=\"{name}\"]'); s.value = {value};"
        " s.dispatchEvent(new Event('input')); })()"
    )


def outputs(page):
    values = page.value("[...document.querySelectorAll('[data-output]')].map((e) => Number(e.dataset.value))")
    return torch.tensor(values, dtype=torch.float64)


def moved(page, row):
    for name, value in zip(("x0", "x1", "x2"), row, strict=True):
        move(page, name, value)
    return outputs(page)


def test_click_an_edge_and_read_its_value(page, tmp_path):
    model = made()
    shown(page, model, tmp_path)
    moved(page, (0.3, -0.6, 0.1))
    page.click('[data-edge="0,1,2"]')
    value = page.value("Number(document.querySelector('.value').dataset.value)")
    expected = edges.edge_values(model.layers[0], torch.tensor([[0.3, -0.6, 0.1]], dtype=torch.float64))[0, 1, 2].item()
    assert value == pytest.approx(expected, abs=1e-6)
    assert page.value("document.querySelectorAll('.graph').length") == 2
    assert page.value("document.querySelectorAll('.rug').length") == len(X)
    page.click('[data-edge="0,0,1"]')
    assert "2 sin(3 x + 0.5) - 1" in page.value("document.querySelector('h3').textContent")
    assert not page.faults()
    assert [url.split(":")[0] for url in page.requests() if not url.startswith("data:")] == ["file"]


def test_prune_mark_and_hide(page, tmp_path):
    model = made()
    shown(page, model, tmp_path)
    full = moved(page, (0.3, -0.6, 0.1))
    page.click('[data-edge="0,1,2"]')
    page.click('[data-do="prune"]')
    mask = edges.present(model.layers[0])
    mask[1, 2] = False
    model.layers[0].set_mask(mask)
    with torch.no_grad():
        expected = model(torch.tensor([0.3, -0.6, 0.1], dtype=torch.float64))
        assert (expected - full).abs().max() > 1e-3
        torch.testing.assert_close(outputs(page), expected, atol=1e-6, rtol=1e-6)
        change = (model(X) - made()(X)).square().mean().sqrt().item()
    assert page.value("Number(document.querySelector('.effect').dataset.value)") == pytest.approx(change, rel=1e-4)
    page.click('[data-do="prune"]')
    torch.testing.assert_close(outputs(page), full)
    page.click('[data-do="mark"]')
    page.click('[data-do="hide"]')
    assert page.value("document.querySelector('[data-edge=\"0,1,2\"]').getAttribute('class')") == "edge chosen marked hidden"
    page.click('[data-do="show-all"]')
    assert page.value("document.querySelectorAll('.hidden').length") == 0


@pytest.mark.parametrize("activation", ["silu", "gelu", "tanh", "relu", "identity", "zero"])
def test_the_page_computes_what_the_model_does(page, tmp_path, activation):
    degree = 1 + len(activation) % 4
    model = made(activation=activation, degree=degree, grid_size=7)
    model.update_grid(X, eps=0.3)
    shown(page, model, tmp_path)
    with torch.no_grad():
        for row in ((0.3, -0.6, 0.1), (-0.79, 0.88, 0.0)):
            expected = model(torch.tensor(row, dtype=torch.float64))
            torch.testing.assert_close(moved(page, row), expected, atol=2e-6, rtol=2e-6)


def test_every_function_and_columns(page, tmp_path):
    layer = fastkan.KANLinear(1, len(FUNCTIONS), dtype=torch.float64)
    layer.set_symbolic({(0, o): (name, (0.5, 0.6, 2.0, 0.1)) for o, name in enumerate(FUNCTIONS)})
    shown(page, nn.Sequential(Columns([2], 3), layer), tmp_path, in_names=["x", "y", "<i>z"])
    move(page, "<i>z", 0.25)
    with torch.no_grad():
        expected = layer(torch.tensor([0.25], dtype=torch.float64))
    torch.testing.assert_close(outputs(page), expected, atol=1e-6, rtol=1e-6)


def test_sliders_light_the_net_up(page, tmp_path):
    shown(page, made(), tmp_path)
    state = "[...document.querySelectorAll('.node, .glow')].map((e) => e.style.fill + e.style.opacity).join()"
    moved(page, (0.3, -0.6, 0.1))
    before = page.value(state)
    move(page, "x1", 0.8)
    assert page.value(state) != before
    page.screenshot(tmp_path / "page.png")
    matplotlib = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed")
    picture = matplotlib.imread(tmp_path / "page.png")
    assert picture.shape[:2] == (760, 1180) and picture[..., :3].std() > 0.02
