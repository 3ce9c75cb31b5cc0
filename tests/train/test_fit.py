"""fit: every optimizer, data and residuals, grids, starts, held-back rows, and what it says of itself."""

import pytest
import torch

import fastkan
from fastkan import KAN, fit

torch.manual_seed(0)
X = torch.rand(300, 2, dtype=torch.float64) * 2 - 1
Y = torch.exp(torch.sin(torch.pi * X[:, :1]) + X[:, 1:] ** 2)
TEST = torch.rand(200, 2, dtype=torch.float64) * 1.9 - 0.95
GOAL = torch.exp(torch.sin(torch.pi * TEST[:, :1]) + TEST[:, 1:] ** 2)


def made(widths=(2, 1, 1), seed=0, **settings):
    return KAN(widths, seed=seed, dtype=torch.float64, **settings)


def rmse(model, x=X, y=Y):
    return (model(x) - y).square().mean().sqrt().item()


def test_grids_to_seven_digits():
    model = made()
    history = fit(model, X, Y, grids=[5, 10, 20, 40])
    assert history.grid_size == model[0].grid_size == 40
    assert rmse(model) < 2e-6 and rmse(model, TEST, GOAL) < 2e-5
    assert history.train == pytest.approx(rmse(model)) and list(history.grids) == [5, 10, 20, 40]
    assert "40" in str(history) and history.stopped == "done"


@pytest.mark.parametrize(
    "optimizer, settings, error",
    [
        ("lm", {}, 0.02),
        ("lbfgs", {}, 0.03),
        ("ssbroyden", {"steps": 150}, 0.03),
        ("adamw", {"steps": 400}, 0.2),
        ("adamw", {"steps": 300, "batch_size": 64, "lr": 2e-2}, 0.2),
    ],
)
def test_optimizers(optimizer, settings, error):
    """On a net that is stuck from no start: one hidden sum would be."""
    model = made((2, 5, 1))
    history = fit(model, X, Y, optimizer=optimizer, **settings)
    assert rmse(model) < error
    assert history.rows[-1]["train"] < history.rows[0]["train"]
    assert [row["step"] for row in history.rows] == list(range(len(history)))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.LBFGS, torch.optim.RMSprop])
def test_an_optimizer_of_ones_own(kind):
    model = made((2, 3, 1))
    before = rmse(model)
    optimizer = kind(model.parameters(), lr=1e-2)
    grids = None if kind is torch.optim.LBFGS else [4, 8]
    fit(model, X, Y, optimizer=optimizer, grids=grids, steps=40)
    assert rmse(model) < 0.7 * before
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}
    assert model[0].grid_size in (4, 5, 8)


def test_the_choice_without_a_name():
    """lm in float64, lbfgs in float32, adamw with batches: told apart by what a step is."""
    model = made().float()
    history = fit(model, X.float(), Y.float(), steps=3)
    assert len(history) == 3 and rmse(model, X.float(), Y.float()) < 0.5
    assert len(fit(made(), X, Y, batch_size=100, steps=7)) == 7


def test_held_back_rows_choose_the_grid():
    """With 5 % noise finer grids fit the noise."""
    noisy = Y + 0.05 * Y.std() * torch.randn(Y.shape, dtype=Y.dtype, generator=torch.Generator().manual_seed(1))
    model = made()
    history = fit(model, X, noisy, grids=[3, 5, 10, 20, 40])
    assert history.grid_size <= 20
    finest = made()
    fit(finest, X, noisy, grids=[40], val=0)
    assert rmse(finest, X, noisy) < rmse(model, X, noisy)
    assert rmse(model, TEST, GOAL) < rmse(finest, TEST, GOAL)


def test_val_given_as_rows_is_not_trained_on():
    model = made()
    wrong = (TEST, GOAL + 1)
    history = fit(model, X, Y, val=wrong, steps=10)
    assert history.val == pytest.approx(rmse(model, *wrong))
    assert rmse(model) < 0.1


def test_early_stopping_keeps_the_best():
    model = made((2, 8, 1), grid_size=30)
    history = fit(model, X[:40], Y[:40], val=(TEST, GOAL), optimizer="adamw", lr=5e-2, steps=2000, patience=5)
    vals = [row["val"] for row in history.rows]
    assert history.val == pytest.approx(min(vals)) == pytest.approx(rmse(model, TEST, GOAL))


def test_weights_of_rows():
    wrong = Y.clone()
    wrong[::2] += 1
    weight = torch.ones(len(X), dtype=torch.float64)
    weight[::2] = 0
    for optimizer in ("lm", "lbfgs"):
        model = made()
        fit(model, X, wrong, weight=weight, optimizer=optimizer, starts=4)
        assert rmse(model, X[1::2], Y[1::2]) < 0.05 < rmse(model, X, wrong)


def test_units_of_y_do_not_matter():
    small, large = made(), made()
    one, other = fit(small, X, Y, steps=12), fit(large, X, 1e6 * Y, steps=12)
    assert other.train == pytest.approx(1e6 * one.train, rel=0.5)


def test_classes():
    classes = (X[:, 0] * X[:, 1] > 0).long()
    model = made((2, 4, 2))
    history = fit(model, X, classes, loss="cross_entropy", optimizer="adamw", lr=3e-2, steps=200, val=0.2)
    assert (model(X).argmax(1) == classes).double().mean() > 0.9
    assert history.rows[-1]["train"] < 0.4


def test_a_loss_of_ones_own():
    model = made((2, 3, 1))
    fit(model, X, Y, loss=lambda output, y: (output - y).abs().mean(), optimizer="adamw", steps=300)
    assert (model(X) - Y).abs().mean() < 0.2


def test_a_penalty():
    weights = []
    for factor in (0, 1e-2):
        model = made((2, 3, 1))
        fit(model, X, Y, optimizer="adamw", steps=100, penalty=lambda m, f=factor: f * sum(p.abs().sum() for p in m.parameters()))
        weights.append(sum(p.abs().sum() for p in model.parameters()).item())
    assert weights[1] < 0.8 * weights[0]


@pytest.mark.parametrize("optimizer, settings", [("lm", {}), ("ssbroyden", {"steps": 200}), ("lbfgs", {})])
def test_a_differential_equation(optimizer, settings):
    """u'' = -pi^2 sin(pi x) with u(-1) = u(1) = 0."""
    x = torch.linspace(-1, 1, 60, dtype=torch.float64)[:, None].requires_grad_()
    ends = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)

    def residual(model):
        (first,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
        return 0.1 * (second + torch.pi**2 * torch.sin(torch.pi * x)), model(ends)

    model = KAN([1, 3, 1], grid_size=8, degree=5, seed=0, dtype=torch.float64)
    history = fit(model, residual=residual, optimizer=optimizer, **settings)
    assert (model(x) - torch.sin(torch.pi * x)).abs().max() < 1e-2
    assert history.val is None and len(history) > 1


def test_residual_that_mixes_rows_is_refused():
    with pytest.raises(ValueError, match="^residual: expected row b"):
        fit(made(), residual=lambda model: model(X) - model(X).mean(0))


def test_grids_follow_what_layers_receive():
    """The data lie outside the grid of the layers at first."""
    model = made((2, 3, 1), grid_range=(-0.2, 0.2))
    fit(model, 5 * X, Y, steps=20)
    assert model.coverage(5 * X)[0] == 1
    still = made((2, 3, 1), grid_range=(-0.2, 0.2))
    knots = still[0].knots.clone()
    with pytest.warns(UserWarning, match="^fit: values lie outside the grids.* 9[0-9]% in layer 0") as caught:
        fit(still, 5 * X, Y, steps=5, update_grid=False)
    assert len(caught) == 1
    assert torch.equal(still[0].knots, knots)


def test_starts_escape_where_one_start_is_stuck():
    """x y on [2, 2, 1]: seeds 0 and 3 stick at half of its size."""
    errors = {}
    for starts in (1, 8):
        model = made((2, 2, 1), seed=3)
        fit(model, X, X[:, :1] * X[:, 1:], steps=20, starts=starts, seed=3)
        errors[starts] = rmse(model, X, X[:, :1] * X[:, 1:])
    assert errors[8] < 0.02 < 0.1 < errors[1]


def test_the_same_seed_gives_the_same_and_global_random_state_stays():
    state = torch.get_rng_state()
    models = [made(), made()]
    for model in models:
        fit(model, X, Y, grids=[4, 8], steps=8, seed=3)
    assert torch.equal(models[0](X), models[1](X))
    assert torch.equal(torch.get_rng_state(), state)


def test_products_masks_and_frozen_layers():
    model = made((2, (1, 1), 1))
    fit(model, X, X[:, :1] * X[:, 1:], grids=[4])
    assert rmse(model, X, X[:, :1] * X[:, 1:]) < 1e-4
    model = made((2, 3, 1))
    model[0].set_mask(torch.tensor([[True, True, False], [False, True, True]]))
    frozen = model[1].weight.detach().clone()
    model[1].weight.requires_grad_(False)
    fit(model, X, Y, steps=6, starts=1, update_grid=False)
    assert torch.equal(model[1].weight, frozen)
    assert (model[0].weight[0, :, 2] == 0).all() and (model[0].weight[1, :, 0] == 0).all()


def test_other_modules_train_too():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), fastkan.KANLinear(3, 1)).double()
    before = rmse(model)
    fit(model, X, Y, steps=5)
    assert rmse(model) < 0.5 * before


def test_memory_of_lm_does_not_change_the_answer():
    models = [made((2, 3, 1)), made((2, 3, 1))]
    for model, memory in zip(models, (2**28, 2**16), strict=True):
        fit(model, X, Y, steps=4, starts=1, memory=memory)
    torch.testing.assert_close(models[0](X), models[1](X), rtol=1e-6, atol=1e-8)
