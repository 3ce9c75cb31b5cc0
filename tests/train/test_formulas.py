"""fit of models that hold formulas: alone and beside splines, frozen, at the edges of domains, with starts and checkpoints."""

import torch

from fastkan import KAN
from fastkan.train.starts import restart

torch.manual_seed(0)
X = torch.rand(200, 2, dtype=torch.float64) * 2 - 1
NEAR = (2.7, 0.3, 1.5, -0.5)


def made(widths, *layers, **settings):
    """A KAN whose layers hold these formulas."""
    model = KAN(widths, seed=0, dtype=torch.float64, **settings)
    for layer, formulas in zip(model.layers, layers, strict=False):
        layer.set_symbolic(formulas)
    return model


def test_a_restart_leaves_formulas_and_what_is_frozen():
    model = made([2, 2, 1], {(0, 0): ("sin", NEAR)}, bias=True)
    model[0].update_grid(3 * X)
    model[0].weight.requires_grad_(False)
    model[1].bias.requires_grad_(False).fill_(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    restart(model, 1)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["1.weight"]
