"""fit of models that hold formulas: alone and beside splines, frozen, at the edges of domains, with starts and checkpoints."""

import pytest
import torch

from fastkan import KAN, fit, sparsify
from fastkan.train.lm import LevenbergMarquardt
from fastkan.train.objective import OfData
from fastkan.train.starts import restart

torch.manual_seed(0)
X = torch.rand(200, 2, dtype=torch.float64) * 2 - 1
WAVE = 2 * torch.sin(3 * X[:, :1] + 0.5) - 1
TRUE = torch.tensor([[3.0, 0.5, 2.0, -1.0]], dtype=torch.float64)
NEAR = (2.7, 0.3, 1.5, -0.5)


def made(widths, *layers, **settings):
    """A KAN whose layers hold these formulas."""
    model = KAN(widths, seed=0, dtype=torch.float64, **settings)
    for layer, formulas in zip(model.layers, layers, strict=False):
        layer.set_symbolic(formulas)
    return model


def wave(near=NEAR):
    return made([1, 1], {(0, 0): ("sin", near)})


def off(model, true=TRUE):
    return (model[0].symbolic.affine - true).abs().max()


# ---- formulas alone


@pytest.mark.parametrize("optimizer", ["lm", None])
@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_the_numbers_of_a_wave(optimizer, unit):
    """To 12 digits in so few steps as no other optimizer makes; whatever the unit of y."""
    model = wave((2.7, 0.3, 1.5 * unit, -0.5 * unit))
    history = fit(model, X[:, :1], unit * WAVE, optimizer=optimizer)
    size = torch.tensor([1, 1, unit, unit], dtype=torch.float64)
    assert off(model, TRUE * size).div(unit) < 1e-12 and len(history) <= 15
    assert ((model[0].symbolic.affine - TRUE * size) / size).abs().max() < 1e-12


@pytest.mark.parametrize("unit", [1e3, 1e-3])
def test_the_unit_of_x_takes_no_steps(unit):
    model = wave((2.7 / unit, 0.3, 1.5, -0.5))
    history = fit(model, unit * X[:, :1], WAVE)
    assert off(model, TRUE * torch.tensor([1 / unit, 1, 1, 1], dtype=torch.float64)) < 1e-12 and len(history) <= 11


def test_a_composite():
    y = torch.exp(torch.sin(torch.pi * X[:, :1]) + X[:, 1:] ** 2)
    first = {(0, 0): ("sin", (3.0, 0.2, 1.2, 0.1)), (1, 0): ("x**2", (0.9, 0.1, 1.2, -0.2))}
    model = made([2, 1, 1], first, {(0, 0): ("exp", (1.2, 0.1, 0.8, 0.1))})
    history = fit(model, X, y)
    assert (model(X) - y).abs().max() < 1e-12 and len(history) <= 25


def test_a_differential_equation():
    """u'' = -9 (u + 1) with u and u' at 0 has the wave as its solution."""
    x, zero = X[:, :1].clone().requires_grad_(), torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)

    def residual(model):
        u, start = model(x), model(zero)
        (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
        (slope,) = torch.autograd.grad(start.sum(), zero, create_graph=True)
        half = TRUE[0, 1]
        return second / 9 + u + 1, torch.cat((start - 2 * half.sin() + 1, slope - 6 * half.cos()), 1)

    model = wave()
    history = fit(model, residual=residual)
    assert off(model) < 1e-12 and len(history) <= 20


def test_as_many_steps_as_are_asked_for():
    """No smoothness is chosen between them."""
    assert len(fit(wave(), X[:, :1], WAVE, steps=6)) == 6


# ---- beside splines


@pytest.mark.parametrize("grids", [None, [4, 8]])
def test_a_formula_beside_a_spline(grids):
    """A cubic is a spline on every grid; the constants of both are one, so d alone is free."""
    y = WAVE + X[:, 1:] ** 3
    model = made([2, 1], {(0, 0): ("sin", NEAR)}, activation="zero")
    fit(model, X, y, grids=grids)
    assert (model(X) - y).abs().max() < 1e-9
    assert (model[0].symbolic.affine - TRUE)[:, :3].abs().max() < 1e-9
    assert model[0].grid_size in (grids or [5])


def test_what_is_frozen_stays():
    y = WAVE + X[:, 1:] ** 3
    model = made([2, 1], {(0, 0): ("sin", TRUE[0].tolist())}, activation="zero")
    model[0].symbolic.requires_grad_(False)
    fit(model, X, y)
    assert torch.equal(model[0].symbolic.affine, TRUE) and (model(X) - y).abs().max() < 1e-9
    with torch.no_grad():
        model[0].symbolic.affine.copy_(torch.tensor([NEAR]))
    model[0].symbolic.requires_grad_(True)
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    fit(model, X, y, update_grid=False)
    assert torch.equal(model[0].weight, before) and (model(X) - y).abs().max() < 1e-9


def test_a_restart_leaves_formulas_and_what_is_frozen():
    model = made([2, 2, 1], {(0, 0): ("sin", NEAR)}, bias=True)
    model[0].update_grid(3 * X)
    model[0].weight.requires_grad_(False)
    model[1].bias.requires_grad_(False).fill_(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    restart(model, 1)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["1.weight"]


def test_nothing_to_train_is_refused():
    """The weight could be trained, but all its edges are gone."""
    model = wave()
    model[0].symbolic.requires_grad_(False)
    with pytest.raises(ValueError, match="^model: expected something to train"):
        fit(model, X[:, :1], WAVE)


def test_starts_keep_the_numbers_of_formulas():
    """From afar sin(40 x) is not found: every start has the numbers that were given."""
    y = torch.sin(40 * X[:, :1]) + X[:, 1:] ** 3
    model = made([2, 1], {(0, 0): ("sin", (40.2, 0.1, 0.9, 0.0))}, activation="zero")
    with torch.no_grad():
        model[0].weight.mul_(1e3)
    fit(model, X, y, starts=3)
    assert (model(X) - y).abs().max() < 1e-9


# ---- domains


@pytest.mark.parametrize("damping", [1e-2, 1e-14])
def test_a_step_out_of_the_domain_is_no_end(damping):
    """From so far a whole step makes the logarithm's argument negative. The damping is small after other steps went well."""
    x = (X[:, :1] + 1) / 2
    y = torch.log(2 * x + 0.01)
    model = made([1, 1], {(0, 0): ("log", (1.0, 1.0, 2.0, 0.0))})
    stepper = LevenbergMarquardt(OfData(model, x, y), 0.0, 2**28, damping)
    for _ in range(40):
        if not stepper.done:
            stepper.step()
    assert (model(x) - y).abs().max() < 1e-12


def test_starts_out_of_the_domain_are_left_out():
    y = torch.log(1.2 + torch.sin(3 * X[:, :1]) + X[:, 1:] ** 2)
    model = made([2, 1, 1], {}, {(0, 0): ("log", (1.0, 0.5, 1.0, 0.0))})
    history = fit(model, X, y, starts=6, steps=20)
    assert history.train < 0.01 and model(X).isfinite().all()


@pytest.mark.parametrize(
    "start, culprit", [((1.0, -0.5, 1.0, 0.0), "it is the loss itself"), ((1.0, 0.0, 1.0, 0.0), "towards 0.symbolic.affine")]
)
def test_a_start_out_of_the_domain_or_on_its_edge_is_named(start, culprit):
    x = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    model = made([1, 1], {(0, 0): ("sqrt", start)})
    with pytest.raises(FloatingPointError, match=f"^step 0: the loss became nan; .*{culprit}"):
        fit(model, x, x)
    assert model[0].symbolic.affine.tolist() == [list(start)]


# ---- what else there is


def test_a_resumed_fit_is_the_same_bit_for_bit(tmp_path):
    def fresh():
        return made([2, 2, 1], {(0, 0): ("sin", NEAR)}, {(1, 0): ("exp", (1.0, 0.1, 0.5, 0.0))})

    def stop_after(count):
        def callback(history, model):
            if len(history) >= count:
                raise KeyboardInterrupt

        return callback

    y, path, settings = torch.exp(WAVE / 2) + X[:, 1:], tmp_path / "fit.safetensors", {"grids": [4, 8], "steps": 12, "starts": 3}
    whole, model = fresh(), fresh()
    expected = fit(whole, X, y, **settings)
    for count in (9, len(expected) - 20):
        fit(model, X, y, checkpoint=path, callback=stop_after(count), **settings)
        model = fresh()
    history = fit(model, X, y, checkpoint=path, **settings)
    assert all(
        torch.equal(one, other) for one, other in zip(model.state_dict().values(), whole.state_dict().values(), strict=True)
    )
    assert [row["train"] for row in history.rows] == [row["train"] for row in expected.rows]


@pytest.mark.parametrize("widths", [[1, 1], [2, 1]])
def test_a_grid_without_splines_is_not_warned_of(recwarn, widths):
    """The formula's input lies outside, the spline's, where there is one, does not."""
    model = made(widths, {(0, 0): ("sin", (0.27, 0.3, 1.5, -0.5))})
    x = X[:, : widths[0]] * torch.tensor([10.0, 0.5][: widths[0]], dtype=torch.float64)
    history = fit(model, x, WAVE, update_grid=False)
    assert history.train < 1e-9 and not [w for w in recwarn if "outside the grids" in str(w.message)]


def test_sparsify_refuses_formulas():
    with pytest.raises(ValueError, match="^model: expected splines alone"):
        sparsify(made([2, 1], {(0, 0): ("sin", NEAR)}), X, WAVE)
