"""Live models of pykan as KANs and back: the same function in and beside the grids, to rounding."""

import random

import numpy as np
import pytest
import torch
from interop import pykan_models as pykan

import fastkan
from fastkan import KAN
from fastkan.interop import from_pykan, to_pykan
from fastkan.interop.pykan.names import FORMULAS
from fastkan.nn import FUNCTIONS

pytest.importorskip("kan", reason="pykan is not installed")
WIDTHS = [
    ([2, 1], {}),
    ([2, 5, 1], {"grid": 7, "k": 2}),
    ([3, [2, 2], [1, 1], 2], {"grid": 4}),
    ([2, [1, 2], [0, 1], [1, 1]], {"mult_arity": [[], [2, 3], [4], [2]], "grid": [3, 4, 5], "k": [3, 1, 4]}),
]


def rounding(model, x):
    """The error of PyTorch's own arithmetic in a pykan model's dtype, at least a few units in the last place."""
    dtype = model.act_fun[0].coef.dtype
    y = model(x).detach()
    exact = pykan.cast(model, torch.float64)(x.double()).detach()
    pykan.cast(model, dtype)
    own = (y - exact).abs().max().item()
    return exact, max(own, 4 * torch.finfo(dtype).eps * exact.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("width, settings", WIDTHS)
def test_a_model_is_the_same_here_and_back(width, settings, dtype):
    theirs = pykan.make(width, dtype, **settings)
    x = pykan.samples(theirs).to(dtype)
    ours = from_pykan(theirs)
    exact, error = rounding(theirs, x)
    assert ours(x).dtype == dtype
    assert (ours(x) - exact).abs().max() <= 8 * error
    assert (to_pykan(ours)(x) - exact).abs().max() <= 8 * error
    outside = (x.abs() > 2.2).any(1).double().mean()
    assert 0.1 < outside < 0.9  # so both are tested


def test_gradients_are_those_of_pykan():
    theirs = pykan.make([2, [2, 1], 1], affine=False)
    x = pykan.samples(theirs).requires_grad_()
    ours = from_pykan(theirs)
    (expected,) = torch.autograd.grad(theirs(x).sum(), x)
    (received,) = torch.autograd.grad(ours(x).sum(), x)
    torch.testing.assert_close(received, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("base_fun", ["silu", "identity", "zero", torch.nn.GELU(), torch.tanh, torch.nn.functional.relu])
def test_base_functions(base_fun):
    theirs = pykan.make([2, 2, 1], base_fun=base_fun)
    x = pykan.samples(theirs)
    ours = from_pykan(theirs)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(to_pykan(ours)(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_an_unknown_base_function_is_named():
    with pytest.raises(ValueError, match=r"base_fun: expected silu, .*, received .*softplus"):
        from_pykan(pykan.make([2, 1], base_fun=torch.nn.functional.softplus))


def test_masks_are_gone_edges_and_scale_what_is_neither_0_nor_1():
    theirs = pykan.make([2, 3, 1])
    theirs.act_fun[0].mask.data[0] = torch.tensor([0.0, 0.5, 1.0])
    x = pykan.samples(theirs)
    ours = from_pykan(theirs)
    assert ours.layers[0].mask.tolist() == [[False, True, True], [True, True, True]]
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(to_pykan(ours)(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_an_input_whose_samples_were_all_equal():
    """pykan's splines are 0 on the knots that it leaves; ours get knots that can be trained."""
    theirs = pykan.make([2, 3, 1], moved=False)
    x = pykan.samples(theirs)
    x[:, 1] = 0.5
    theirs.act_fun[0].update_grid_from_samples(x)
    assert (theirs.act_fun[0].grid[1] == 0.5).all()
    ours = from_pykan(theirs)
    assert (ours.layers[0].knots.diff(dim=1) > 0).all()
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_single_equal_knots_are_refused():
    """pykan computes no B-splines there."""
    theirs = pykan.make([2, 1], moved=False)
    theirs.act_fun[0].grid.data[1, 4] = theirs.act_fun[0].grid.data[1, 5]
    with pytest.raises(ValueError, match="knots: expected finite ones that rise, received others for input 1 and 0 more"):
        from_pykan(theirs)


def test_every_formula_of_pykan_is_here():
    from kan.utils import SYMBOLIC_LIB

    assert set(SYMBOLIC_LIB) <= set(FORMULAS)
    assert set(FORMULAS.values()) <= set(FUNCTIONS)
    model = pykan.make([1, len(SYMBOLIC_LIB)], affine=False)
    for o, name in enumerate(SYMBOLIC_LIB):
        model.fix_symbolic(0, 0, o, name, fit_params_bool=False, log_history=False)
        model.symbolic_fun[0].affine.data[o, 0] = torch.tensor([0.3, 0.4, 1.7, 0.2 * (name != "0")])
    x = torch.linspace(0.1, 1.5, 50, dtype=torch.float64)[:, None]
    torch.testing.assert_close(from_pykan(model)(x), model(x), rtol=1e-12, atol=1e-12)


def test_formulas_beside_splines_with_affine_maps():
    theirs = pykan.make([2, [2, 1], 1])
    for i, o, name in [(0, 0, "sin"), (1, 2, "x^2"), (0, 3, "gaussian"), (1, 0, "0")]:
        theirs.fix_symbolic(0, i, o, name, fit_params_bool=False, log_history=False)
    theirs.symbolic_fun[0].affine.data[0, 0] = torch.tensor([2.0, 0.3, 1.5, 0.7])
    theirs.symbolic_fun[0].mask.data[0, 0] = 0.25
    x = pykan.samples(theirs)
    ours = from_pykan(theirs)
    assert sorted(ours.layers[0].symbolic.edges) == [(0, 0, "sin"), (0, 3, "gaussian"), (1, 2, "x**2")]
    assert not ours.layers[0].mask[1, 0]
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(to_pykan(ours)(x), theirs(x), rtol=1e-11, atol=1e-11)


def test_formulas_count_only_where_pykan_computes_them():
    theirs = pykan.make([2, 1])
    theirs.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False, log_history=False)
    theirs.symbolic_enabled = False
    x = pykan.samples(theirs)
    assert from_pykan(theirs).layers[0].symbolic is None
    torch.testing.assert_close(from_pykan(theirs)(x), theirs(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"0"}))
def test_our_formulas_run_in_pykan(name):
    ours = KAN([1, 1], dtype=torch.float64)
    ours.layers[0].set_symbolic({(0, 0): (name, (0.4, 0.1, 2.0, -1.0))})
    x = torch.linspace(0.1, 2.0, 20, dtype=torch.float64)[:, None]
    theirs = to_pykan(ours)
    torch.testing.assert_close(theirs(x), ours(x), rtol=1e-12, atol=1e-12)
    (expression,), _ = theirs.symbolic_formula()
    values = [float(expression.subs("x_1", float(t)).evalf()) for t in x]
    torch.testing.assert_close(torch.tensor(values, dtype=torch.float64)[:, None], ours(x).detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(from_pykan(theirs)(x), ours(x), rtol=1e-12, atol=1e-12)


def test_an_edge_that_is_spline_and_formula_is_refused():
    theirs = pykan.make([2, 2, 1])
    theirs.fix_symbolic(0, 1, 0, "sin", fit_params_bool=False, log_history=False)
    theirs.set_mode(0, 1, 0, "sn")
    with pytest.raises(ValueError, match=r"layer 0: .*both at once on \(1, 0\); in pykan, set_mode"):
        from_pykan(theirs)
    theirs.act_fun[0].scale_sp.data[1, 0] = theirs.act_fun[0].scale_base.data[1, 0] = 0
    x = pykan.samples(theirs)
    torch.testing.assert_close(from_pykan(theirs)(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_formulas_that_fastkan_has_not_are_named():
    theirs = pykan.make([2, 1])
    theirs.fix_symbolic(0, 1, 0, lambda x: x**7, log_history=False, fit_params_bool=False)
    with pytest.raises(ValueError, match=r"layer 0: expected formulas .*, received anonymous on edge \(1, 0\)"):
        from_pykan(theirs)
    theirs.symbolic_fun[0].funs_name[0][1] = "x^5"  # which it is not
    with pytest.raises(ValueError, match=r"layer 0, edge \(1, 0\): expected the function 'x\^5' that its name says"):
        from_pykan(theirs)


def test_pruned_models_and_pruned_inputs(capsys):
    theirs = pykan.make([4, [3, 1], 2], affine=False)
    theirs(pykan.samples(theirs))
    theirs = theirs.prune_input(active_inputs=[1, 3], log_history=False)
    theirs.act_fun[0].mask.data[1, 0] = 0
    x = torch.randn(50, 4, dtype=torch.float64)
    pykan.cast(theirs, torch.float64)
    ours = from_pykan(theirs, in_features=4)
    assert ours[0].in_features == 4 and from_pykan(theirs)[0].in_features == 4  # up to the last that it reads
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    back = to_pykan(ours)
    torch.testing.assert_close(back(x), theirs(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="in_features: expected at least 4, as the model reads column 3, received 3"):
        from_pykan(theirs, in_features=3)


def test_a_pykan_model_of_ours_goes_on_in_pykan(tmp_path, monkeypatch):
    """It trains, prunes and saves there."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    ours = KAN([2, (2, 1), 1], grid_size=4, seed=0)
    theirs = to_pykan(ours)
    x = torch.rand(100, 2) * 2 - 1
    y = x[:, :1] * x[:, 1:]
    data = {"train_input": x, "train_label": y, "test_input": x, "test_label": y}
    before = (theirs(x) - y).square().mean().sqrt().item()
    losses = theirs.fit(data, steps=3, update_grid=False)["train_loss"]
    assert losses[-1] < before
    theirs.saveckpt("ck")
    torch.testing.assert_close(from_pykan("ck")(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_no_random_state_is_touched():
    ours = KAN([2, 3, 1])
    theirs = to_pykan(ours)
    torch.manual_seed(5)
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())
    from_pykan(to_pykan(ours))
    from_pykan(theirs)
    after = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


def test_what_pykan_cannot_hold_is_refused():
    mixed = fastkan.interop.assembled.make_kan([fastkan.KANLinear(2, 2), fastkan.KANLinear(2, 1, activation="tanh")])
    with pytest.raises(ValueError, match="model: expected one activation in all layers, .*, received silu, tanh"):
        to_pykan(mixed)
    with pytest.raises(TypeError, match="model: expected a fastkan.KAN, received Linear"):
        to_pykan(torch.nn.Linear(2, 2))
    scaled = fastkan.interop.assembled.make_kan([fastkan.KANLinear(2, 1, spline_scale=1.0)])
    with pytest.raises(TypeError, match=r"set_spline_scale\(None\)"):
        to_pykan(scaled)


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match=r"source: expected a pykan model .*, received Linear without width, mult_arity"):
        from_pykan(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="config: expected None, as the source holds its own, received one"):
        from_pykan(pykan.make([2, 1]), {})
