"""expand_width, expand_depth and perturb: what is built in stays, what is new can be trained."""

import pytest
import torch

import fastkan
from fastkan.formulas import expand_depth, expand_width, kanpiler, perturb
from fastkan.nn.edges import alive, present

pytest.importorskip("sympy")
D = torch.float64


def models():
    net = fastkan.KAN([3, (2, 2), (1, 1), 2], arity=3, dtype=D, seed=0)
    net.layers[0].set_symbolic({(0, 0): ("sin", (2.0, 0.1, 1, 0.5)), (2, 3): ("x**2", (1, 0, 1, 0))})
    mask = present(net.layers[1])
    mask[0, 0] = mask[2, 3] = False
    net.layers[1].set_mask(mask)
    return {
        "splines": fastkan.KAN([3, 4, 2, 2], dtype=D, seed=0),
        "products and formulas": net,
        "kanpiled": kanpiler(["x*y + exp(z)", "sin(x*y*z)"], ranges=(0.5, 1)),
    }


def samples(model):
    return 0.5 + 0.5 * torch.rand(50, model.layers[0].in_features, dtype=D, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", list(models()))
@pytest.mark.parametrize(("sums", "products", "arity"), [(2, 0, 2), (0, 1, 3), (1, 2, 2), (0, 0, 2)])
def test_wider_is_the_same_function(name, sums, products, arity):
    model = models()[name]
    x = samples(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for layer in range(1, len(model.layers)):
        wider = expand_width(model, layer, sums, products, arity)
        assert torch.allclose(wider(x), model(x), rtol=0, atol=1e-13)
        old, new = ((w if isinstance(w, tuple) else (w, 0)) for w in (model.widths[layer], wider.widths[layer]))
        assert new == (old[0] + sums, old[1] + products)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", list(models()))
def test_new_edges_are_splines_that_get_gradients(name):
    model = models()[name]
    wider = expand_width(model, 1, sums=1, products=1)
    wider(samples(model)).square().sum().backward()
    before, after = (sum(int(present(layer).sum()) for layer in one.layers) for one in (model, wider))
    inputs, outputs = model.layers[0].in_features, model.layers[1].out_features
    assert after == before + 3 * inputs + 2 * outputs
    product = wider.layers[1].in_features - 1
    assert wider.layers[1].weight.grad[product].abs().amax(0).min() > 0
    assert wider.layers[1].weight[product].abs().max() == 0


def test_formulas_and_edges_that_are_gone_stay():
    model = models()["products and formulas"]
    wider = expand_width(model, 2, sums=1)
    assert [sorted(e[2] for e in m.layers[0].symbolic.edges) for m in (model, wider)] == [["sin", "x**2"]] * 2
    gone = [int((~alive(m.layers[1])).sum()) for m in (model, wider)]
    assert gone == [2, 2]


def test_grids_of_new_nodes_hold_what_they_receive():
    model = fastkan.KAN([2, 3, 1], grid_range=(10, 20), dtype=D, seed=1)
    model.layers[1].update_grid(model.layers[0](10 + 10 * torch.rand(500, 2, dtype=D)))
    wider = expand_width(model, 1, sums=2, products=1)
    x = 10 + 10 * torch.rand(2000, 2, dtype=D)
    nodes = wider[1](wider[0](x))
    knots, p = wider.layers[1].knots, wider.layers[1].degree
    inside = (nodes >= knots[:, p]) & (nodes <= knots[:, -1 - p])
    assert inside.double().mean(0)[[3, 4, 5]].min() > 0.99


def test_training_uses_what_is_new():
    """x y is known, the rest of the function is learned."""
    x = 2 * torch.rand(300, 2, dtype=D) - 1
    y = (x[:, 0] * x[:, 1] + 0.3 * torch.sin(3 * x[:, 0] + x[:, 1]))[:, None]
    known = expand_depth(kanpiler("x*y"))
    start = float((known(x).detach() - y).square().mean().sqrt())
    model = expand_width(known, 1, sums=2)
    fastkan.fit(model, x, y, starts=1, steps=30)
    assert float((model(x).detach() - y).square().mean().sqrt()) < 0.02 * start


@pytest.mark.parametrize("name", list(models()))
def test_deeper_is_the_same_function_everywhere(name):
    model = models()[name]
    deeper = expand_depth(model)
    x = samples(model)
    assert torch.allclose(deeper(x), model(x), rtol=0, atol=1e-13)
    assert deeper.widths == [*model.widths, model.widths[-1] if isinstance(model.widths[-1], int) else sum(model.widths[-1])]
    assert present(deeper.layers[-1]).all()
    if name == "splines":
        assert torch.allclose(deeper(5 * x), model(5 * x), rtol=0, atol=1e-13)
    deeper(x).sum().backward()
    assert (deeper.layers[-1].weight.grad.abs().amax(1) > 0).all()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [((0, 1), "layer"), ((3, 1), "from 1 to 2"), ((1, -1), "sums"), ((1, 0, 1.5), "products"), ((1, 0, 1, 1), "arity")],
)
def test_width_refuses(settings, reason):
    with pytest.raises(ValueError, match=reason):
        expand_width(fastkan.KAN([1, 2, 2, 1]), *settings)
    with pytest.raises(TypeError, match="KAN"):
        expand_depth(torch.nn.Linear(1, 1))


# ---- perturb


def counts(model):
    return [(int(present(layer).sum()), len(layer.symbolic.edges) if layer.symbolic else 0) for layer in model.layers]


def test_perturb_present_moves_what_is_there_and_opens_nothing():
    model = kanpiler("x*y + exp(z)", ranges=(0.5, 1))
    moved = perturb(model, 0.1, seed=1)
    assert counts(moved) == counts(model)
    assert all((a.symbolic.affine != b.symbolic.affine).any() for a, b in zip(moved.layers, model.layers, strict=True))
    net = fastkan.KAN([2, 2, 1], dtype=D, seed=0)
    deviation = (perturb(net, 0.1).layers[0].weight - net.layers[0].weight)[:, :-1].detach().std()
    assert 0.06 < float(deviation) < 0.14


def test_perturb_absent_opens_what_is_gone_and_keeps_the_rest():
    model = kanpiler("x*y + exp(z)", ranges=(0.5, 1))
    moved = perturb(model, 0.1, where="absent")
    for new, old in zip(moved.layers, model.layers, strict=True):
        assert torch.equal(new.symbolic.affine, old.symbolic.affine)
        assert torch.equal(present(new), ~alive(old))
    x = samples(model)
    assert 1e-3 < float((moved(x) - model(x)).detach().abs().mean()) < 1


def test_perturb_all_does_both_and_a_seed_repeats():
    model = kanpiler("x*y + exp(z)", ranges=(0.5, 1))
    moved, again, other = (perturb(model, 0.1, seed, "all") for seed in (0, 0, 1))
    assert all(alive(layer).all() for layer in moved.layers)
    x = samples(model)
    assert torch.equal(moved(x), again(x))
    assert not torch.equal(moved(x), other(x))
    assert torch.equal(perturb(model, 0.0, where="present")(x), model(x))


def test_perturb_leaves_no_functions_domain():
    model = kanpiler("sqrt(x)*y", ranges=(0, 1))
    for seed in range(20):
        assert perturb(model, 0.3, seed)(torch.rand(100, 2, dtype=D)).isfinite().all()
    inner = kanpiler("sqrt(x + y)", ranges=(0, 1))
    with pytest.raises(ValueError, match="takes sqrt out of its domain"):
        [perturb(inner, 0.3, seed) for seed in range(20)]


def test_perturb_keeps_dtype_and_random_state():
    state = torch.random.get_rng_state()
    assert perturb(fastkan.KAN([2, 1], seed=0), 0.1).layers[0].weight.dtype == torch.float32
    expand_width(fastkan.KAN([2, 2, 1], seed=0), 1, 1)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("settings", [(-1.0,), (float("nan"),), (0.1, 0, "somewhere")])
def test_perturb_refuses(settings):
    with pytest.raises(ValueError, match="size|where"):
        perturb(fastkan.KAN([1, 1]), *settings)
