"""explore: a KAN that a reader can touch, as a widget in a notebook or as a page of its own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from fastkan.explain.plot import extent
from fastkan.explain.sketch import LayerSketch, sketch

if TYPE_CHECKING:
    from fastkan.explain.widget import Explorer

HERE = Path(__file__).parent
ROWS = 300  # samples that run through the net in the browser
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
<title>fastkan</title>
<link rel="icon" href="data:,">
<style>body {{ margin: 0; }}
{css}</style>
</head>
<body>
<script type="application/json" id="state">{state}</script>
<script type="module">
{js}
const values = {{ state: JSON.parse(document.getElementById("state").textContent), pruned: [], marked: [] }};
const listeners = {{}};
const model = {{
  get: (name) => values[name],
  set: (name, value) => {{
    values[name] = value;
    (listeners[`change:${{name}}`] ?? []).forEach((call) => call());
  }},
  on: (event, call) => (listeners[event] ??= []).push(call),
  off: () => {{}},
  save_changes: () => {{}},
}};
render({{ model, el: document.body }});
</script>
</body>
</html>
"""


def module() -> str:
    """The JavaScript of the widget and of the page."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("kan.js", "explore.js"))


def style() -> str:
    return (HERE / "explore.css").read_text(encoding="utf-8")


def explore(
    model: nn.Module, x: Tensor, *, in_names: Sequence[str] | None = None, out_names: Sequence[str] | None = None
) -> "Explorer":
    """A widget of a model for Jupyter, VS Code, Colab and marimo.

    Click an edge to see its function, its samples and its derivative, and to hide, prune or mark it. Sliders set the inputs, and
    what flows through the net lights up. The boxes stand as in plot.
    x: samples [..., I]; 300 of them go to the browser
    The other arguments: as for plot.
    returns: the widget. `pruned` and `marked` are lists of [layer, i, o], which may be set too. The model stays as it is until
    `apply()` takes its pruned edges away.
    raises: TypeError, ValueError naming the argument; ImportError without anywidget

    >>> import torch, fastkan
    >>> widget = fastkan.explain.explore(fastkan.KAN([2, 5, 1]), torch.rand(100, 2))
    >>> widget.pruned = [[0, 1, 3]]
    >>> widget.apply()
    """
    try:
        from fastkan.explain.widget import Explorer
    except ImportError as error:
        raise ImportError("explore needs anywidget: pip install 'fastkan[explain]'; explore_html needs nothing") from error
    return Explorer(model, state(model, x, in_names, out_names))


def explore_html(
    model: nn.Module,
    x: Tensor,
    path: str | Path,
    *,
    in_names: Sequence[str] | None = None,
    out_names: Sequence[str] | None = None,
) -> None:
    """Writes the explorer as one HTML file that needs no network.

    The arguments and what it raises: as for explore.

    >>> import tempfile, torch, fastkan
    >>> fastkan.explain.explore_html(fastkan.KAN([2, 5, 1]), torch.rand(100, 2), tempfile.mktemp(".html"))
    """
    text = json.dumps(state(model, x, in_names, out_names)).replace("<", "\\u003c")  # no name can end the script
    Path(path).write_text(PAGE.format(css=style(), js=module(), state=text), encoding="utf-8")


def state(model: nn.Module, x: Tensor, in_names: Sequence[str] | None, out_names: Sequence[str] | None) -> dict[str, Any]:
    """All that the browser knows of a model."""
    if x is None:
        raise TypeError("x: expected a tensor of samples, received None")
    drawn = sketch(model, x, in_names, out_names)
    right, bottom = extent(drawn)
    unit = max(13.0, min(88.0, 820 / max(right, bottom)))
    beside, top = 0.5 + 8 * max(map(len, drawn.out_names)) / unit, 0.5 + 7 * max(map(len, drawn.in_names)) / unit
    samples = drawn.layers[0].samples
    assert samples is not None
    return {
        "unit": unit,
        "view": [-0.2 * unit, -top * unit, (right + beside + 0.2) * unit, (bottom + top + 0.3 + beside) * unit],
        "in_names": drawn.in_names,
        "out_names": drawn.out_names,
        "samples": _short(samples[:: -(-len(samples) // ROWS)]),
        "layers": [_layer_state(layer) for layer in drawn.layers],
    }


def _layer_state(drawn: LayerSketch) -> dict[str, Any]:
    layer = drawn.stage.layer
    symbolic = layer.symbolic
    listed = [] if symbolic is None else list(zip(symbolic.edges, symbolic.affine.tolist(), strict=True))
    return {
        "degree": layer.degree,
        "activation": layer.activation,
        "knots": layer.knots.tolist(),
        "weight": _short(layer.weight),
        "bias": [0.0] * layer.out_features if layer.bias is None else _short(layer.bias),
        "alive": drawn.alive.tolist(),
        "formulas": {
            f"{i},{o}": {"name": name, "affine": affine, "text": drawn.formulas[i, o]} for (i, o, name), affine in listed
        },
        "sums": drawn.stage.sums,
        "arities": drawn.stage.arities,
        "importance": _short(drawn.importance),
        "ranges": _short(drawn.t[[0, -1]].T),
        "places": drawn.places._asdict(),
    }


def _short(values: Tensor) -> Any:
    """Nested lists of numbers with seven digits."""
    if values.ndim == 0:
        return float(f"{values.item():.7g}")
    return [_short(part) for part in values]
