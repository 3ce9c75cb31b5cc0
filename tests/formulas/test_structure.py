"""is_separable, is_symmetric, tree and plot_tree on functions and models whose structure is known."""

import math

import pytest
import torch

import fastkan
from fastkan.formulas import is_separable, is_symmetric, kanpiler, plot_tree, tree

D = torch.float64


def samples(columns, low=-1.0, high=1.0, rows=300):
    return low + (high - low) * torch.rand(rows, columns, dtype=D, generator=torch.Generator().manual_seed(0))


def product_and_more(x):
    return x[:, 0] * x[:, 1] + x[:, 2].exp()


def test_sums():
    x = samples(3)
    yes, no = (is_separable(product_and_more, x, groups) for groups in ([[0, 1], [2]], [[0], [1, 2]]))
    assert yes.found
    assert yes.residual < 1e-12
    assert yes.rows == 300
    assert not no.found
    assert not no
    deviation = product_and_more(x).std(correction=0)
    assert no.residual == pytest.approx(float(x[:, 0].std(correction=0) * x[:, 1].std(correction=0) / deviation), rel=1e-12)
    assert is_separable(product_and_more, x, [[0], [2]])  # column 1 in none of them


def test_products():
    x = samples(3)

    def f(x):
        return x[:, 0] * torch.sin(3 * x[:, 1] + x[:, 2])  # has zeros

    assert is_separable(f, x, [[0], [1, 2]], "multiply").residual < 1e-12
    assert not is_separable(f, x, [[0, 1], [2]], "multiply")
    assert not is_separable(lambda x: f(x) + 100, x, [[0], [1, 2]], "multiply")
    assert not is_separable(f, x, [[0], [1, 2]], "add")


def test_scales_do_not_matter():
    x = samples(2)

    def f(x):
        return 1e-6 * (x[:, 0] / 1e5) ** 2 + 1e-6 * x[:, 1] * 1e4 + 1e-8 * (x[:, 0] / 1e5) * (x[:, 1] * 1e4)

    def g(x):
        return x[:, 0] ** 2 + x[:, 1] + 0.01 * x[:, 0] * x[:, 1]

    scaled = x * torch.tensor([1e5, 1e-4], dtype=D)
    assert is_separable(f, scaled, [[0], [1]]).residual == pytest.approx(is_separable(g, x, [[0], [1]]).residual, rel=1e-9)


def test_outputs_all_count_and_constants_are_fine():
    x = samples(2)
    two = is_separable(lambda x: torch.stack([x[:, 0], x[:, 0] * x[:, 1]], dim=1), x, [[0], [1]])
    assert not two
    assert is_separable(lambda x: torch.ones(len(x), dtype=D), x, [[0], [1]])
    assert is_separable(lambda x: x[:, 0], x, [[0], [1]], "multiply")


def test_rows_without_finite_values_do_not_count():
    x = samples(2)
    x[:10] = math.nan
    found = is_separable(lambda x: torch.log(x[:, 0]) * x[:, 1], x, [[0], [1]], "multiply")
    assert found.found
    assert found.rows == int((x[:, 0] > 0).sum())
    with pytest.raises(ValueError, match="two rows with finite"):
        is_separable(lambda x: torch.log(x[:, 0] - 5), x, [[0], [1]])


def test_noise_sets_the_threshold():
    x = samples(2)

    def f(x):
        return x[:, 0] + x[:, 1] + 0.01 * x[:, 0] * x[:, 1]

    assert not is_separable(f, x, [[0], [1]])
    assert is_separable(f, x, [[0], [1]], noise=1e-3)
    assert is_separable(f, x, [[0], [1]], noise=1e-3).threshold == pytest.approx(0.05)


@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_models_that_were_fitted(dtype):
    x = samples(3, rows=600)
    y = (torch.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2])[:, None]
    model = fastkan.KAN([3, (2, 2), 1], dtype=D, seed=0)
    fastkan.fit(model, x, y, starts=2, steps=40)
    model.to(dtype)
    assert is_separable(model, x, [[0], [1, 2]])
    assert not is_separable(model, x, [[0, 1], [2]])
    assert is_symmetric(model, x, [1, 2])
    assert not is_symmetric(model, x, [0, 1])
    assert str(tree(model, x)) == "x0 + x1 * x2"
    assert next(model.parameters()).dtype == dtype
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


# ---- symmetries


def test_a_group_through_one_number():
    x = samples(4)

    def f(x):
        return torch.sin(x[:, 0] * x[:, 1] ** 2) * x[:, 2] + x[:, 3] ** 2 * (x[:, 0] * x[:, 1] ** 2)

    assert is_symmetric(f, x, [0, 1]).residual < 1e-12
    for group in ([0, 2], [1, 3], [2, 3], [0, 1, 2]):
        assert not is_symmetric(f, x, group), group


@pytest.mark.parametrize(
    ("through", "f"),
    [
        ("sum", lambda x: torch.sin(x[:, 0] + x[:, 1])),
        ("difference", lambda x: (x[:, 0] - x[:, 1]) ** 2),
        ("product", lambda x: torch.exp(x[:, 0] * x[:, 1])),
        ("quotient", lambda x: torch.atan(x[:, 0] / x[:, 1])),
        ("norm", lambda x: x[:, 0] ** 2 + x[:, 1] ** 2),
        (lambda x: x[:, 0] + 2 * x[:, 1], lambda x: torch.tanh(x[:, 0] + 2 * x[:, 1])),
    ],
)
def test_named_symmetries(through, f):
    x = samples(2, 0.5, 2)
    assert is_symmetric(f, x, [0, 1], through).residual < 1e-12
    wrong = "sum" if through != "sum" else "product"
    assert not is_symmetric(f, x, [0, 1], wrong)


def test_a_function_that_does_not_depend_on_the_group_is_symmetric():
    assert is_symmetric(lambda x: x[:, 2] ** 2, samples(3), [0, 1])


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda x: is_separable(product_and_more, x, [[0]]), "at least two"),
        (lambda x: is_separable(product_and_more, x, [[0], [0, 1]]), "column in common"),
        (lambda x: is_separable(product_and_more, x, [[0], [3]]), "from 0 to 2"),
        (lambda x: is_separable(product_and_more, x, [[0], [1]], "divide"), "add, multiply"),
        (lambda x: is_separable(product_and_more, x, [[0], [1]], noise=-1), "share"),
        (lambda x: is_separable(product_and_more, x * torch.tensor([0, 1, 1]), [[0], [1]]), "vary"),
        (lambda x: is_separable(lambda x: x.sum(), x, [[0], [1]]), "maps"),
        (lambda x: is_symmetric(product_and_more, x, [0]), "at least two"),
        (lambda x: is_symmetric(product_and_more, x, [0, 1, 2]), "leaves other"),
        (lambda x: is_symmetric(product_and_more, x, [0, 1], "angle"), "sum, difference"),
        (lambda x: is_symmetric(product_and_more, x, [0, 1, 2], "quotient"), "two columns"),
        (lambda x: tree(lambda x: x, x), "one output"),
        (lambda x: plot_tree(tree(product_and_more, x), ["a"]), "expected 3"),
    ],
)
def test_refuses(call, reason):
    with pytest.raises(ValueError, match=reason):
        call(samples(3))


# ---- trees

TREES = {
    "x0 * x1 + f(x2 + x3) + x4": lambda x: x[:, 0] * x[:, 1] + torch.sqrt(2 + x[:, 2] ** 2 + x[:, 3].exp()) + x[:, 4],
    "f(x0 + x1 + x2 + x3)": lambda x: (x[:, :4] ** 2).sum(1).sqrt(),
    "(x0 + x2) * x1": lambda x: x[:, 1] * (x[:, 0] + x[:, 2]),
    "x0 * x1 * x2": lambda x: 1 + x[:, 0] * x[:, 1] * x[:, 2],
    "x0 * x1 * f(f(x2 + x3) + x4)": lambda x: x[:, 0] * x[:, 1] / ((x[:, 2] - x[:, 3]) ** 2 + x[:, 4] ** 2 + 1),
    "f(x0, x1)": lambda x: torch.sin(x[:, 0] * x[:, 1] + x[:, 0] ** 2 + x[:, 1] ** 3 * x[:, 0]),
    "f(f(x0, x1), x2)": lambda x: torch.sin((x[:, 0] * x[:, 1] + x[:, 0] ** 2) * (1 + x[:, 2])) + x[:, 2] ** 2,
    "x0 + x1 * x2": lambda x: torch.log(x[:, 0]) + x[:, 1] * x[:, 2],  # not finite for half of the rows
    "x0": lambda x: x[:, 0].sin(),
}


@pytest.mark.parametrize("text", list(TREES))
def test_tree(text):
    columns = 1 + max(int(part[0]) for part in text.split("x")[1:])
    found = tree(TREES[text], samples(columns, rows=400))
    assert str(found) == text
    assert found.residual < 1e-9
    assert found.columns == tuple(range(columns))


def test_tree_of_a_kanpiled_model():
    pytest.importorskip("sympy")
    model = kanpiler("G*m*M/r**2 + sqrt(v + w)", ranges=(1, 2))
    names = ["G", "M", "m", "r", "v", "w"]
    assert tree(model, samples(6, 1, 2), noise=0).text(names) == "G * M * m * r + f(v + w)"


def test_picture_of_a_tree():
    pytest.importorskip("matplotlib")
    found = tree(TREES["x0 * x1 * f(f(x2 + x3) + x4)"], samples(5))
    picture = plot_tree(found, ["m", "M", "x", "X", "y"])
    texts = [text.get_text() for text in picture.axes[0].texts]
    assert sorted(texts) == sorted(["m", "M", "x", "X", "y", "×", "f(+)", "f(+)"])
    assert len(picture.axes[0].lines) == len(texts) - 1
