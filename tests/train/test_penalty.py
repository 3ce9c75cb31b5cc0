"""pykan's regularisation: its numbers, gradients, and what a fit with it does."""

import pytest
import torch

from fastkan import KAN, fit
from fastkan.train import EdgePenalty
from fastkan.train.penalty import METRICS

torch.manual_seed(0)
X = torch.rand(60, 2, dtype=torch.float64) * 2 - 1


def made(**settings):
    return KAN([2, 3, 1], seed=0, dtype=torch.float64, **settings)


def pykan_of(model):
    """pykan's net with the same functions."""
    kan = pytest.importorskip("kan", reason="pykan is not installed")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        net = kan.KAN(width=[2, 3, 1], grid=5, k=3, auto_save=False, symbolic_enabled=False)
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        for theirs, ours in zip(net.act_fun, model.layers, strict=True):
            theirs.grid.copy_(ours.knots)
            theirs.coef.copy_(ours.weight[:, :-1].permute(0, 2, 1))
            theirs.scale_base.copy_(ours.weight[:, -1])
            theirs.scale_sp.fill_(1)
    assert torch.allclose(net(X), model(X))
    return net


@pytest.mark.parametrize("metric", ["edge_forward_spline_n", "edge_forward_spline_u", "edge_backward"])
@pytest.mark.parametrize("parts", [(1.0, 0.0, 0.0, 0.0), (0.0, 2.0, 0.0, 0.0), (1.0, 2.0, 3.0, 4.0)])
def test_numbers_are_those_of_pykan(metric, parts):
    torch.use_deterministic_algorithms(False)  # pykan's lstsq has no such algorithm
    model = made()
    net = pykan_of(model)
    if "backward" in metric:
        net.attribute()
        net.node_attribute()
    expected = 0.1 * net.reg(metric, *parts)
    # its scores have 1e-4 in a denominator
    tolerance = 1e-2 if "backward" in metric else 1e-9
    torch.testing.assert_close(EdgePenalty(X, 0.1, *parts, metric=metric)(model), expected.detach(), rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_gradients(metric):
    model = made()
    penalty = EdgePenalty(X[:20], 0.3, coef=0.1, coefdiff=0.2, metric=metric)
    weight = model[0].weight.detach().clone().requires_grad_()

    def at(weight):
        with torch.no_grad():
            model[0].weight.copy_(weight)
        (gradient,) = torch.autograd.grad(penalty(model), model[0].weight)
        return penalty(model).item(), gradient

    value, gradient = at(weight)
    direction = torch.randn_like(weight)
    step = 1e-6
    slope = (at(weight.detach() + step * direction)[0] - at(weight.detach() - step * direction)[0]) / (2 * step)
    assert value > 0 and gradient.abs().max() > 0
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-5)


def test_formulas_count_in_the_sum_alone():
    model = made()
    sizes = {metric: EdgePenalty(X, 1.0, entropy=0, metric=metric)(model).item() for metric in METRICS[::2][:2]}
    assert sizes["edge_forward_spline_n"] == pytest.approx(sizes["edge_forward_sum"])
    model[0].set_symbolic({(0, 0): ("sin", (3.0, 0, 1, 0))})
    named = {metric: EdgePenalty(X, 1.0, entropy=0, metric=metric)(model).item() for metric in sizes}
    assert named["edge_forward_sum"] > named["edge_forward_spline_n"] + 0.5


def test_a_fit_with_it_has_smaller_edges():
    """By their deviations: those over an input's deviation do not fall where hidden nodes shrink."""
    size = EdgePenalty(X, 1.0, entropy=0, metric="edge_forward_spline_u")
    totals = []
    for lamb in (0.0, 5e-2):
        model = made()
        penalty = EdgePenalty(X, lamb, entropy=0, metric="edge_forward_spline_u")
        fit(model, X, X[:, :1] ** 2, optimizer="adamw", steps=300, penalty=penalty)
        totals.append(size(model).item())
    assert totals[1] < 0.7 * totals[0]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"lamb": -1}, "^lamb: expected"),
        ({"entropy": float("nan")}, "^entropy: expected"),
        ({"metric": "edge"}, "^metric: expected one of"),
        ({"x": X[:1]}, "^x: expected at least two rows"),
        ({"x": X / 0}, "^x: expected finite"),
    ],
)
def test_bad_input(changed, message):
    with pytest.raises(ValueError, match=message):
        EdgePenalty(**{"x": X, "lamb": 0.1, **changed})


def test_models_of_another_kind_are_refused():
    with pytest.raises(TypeError, match=r"^model: expected a fastkan\.KAN"):
        EdgePenalty(X, 0.1)(torch.nn.Linear(2, 1))
