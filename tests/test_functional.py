"""functional.kan_linear: every check and its message, dtypes, layouts, derivatives against scipy."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from fastkan.functional import DTYPES, check_degree, kan_linear
from fastkan.splines import knots as grids

I, O, G, P = 3, 2, 5, 3


def arguments(dtype=torch.float32, rows=7, degree=P):
    """x, weight, knots, bias, degree as keywords."""
    knots = grids.uniform(I, G, degree, (-1.0, 1.0)).to(torch.float64 if dtype == torch.float64 else torch.float32)
    return {
        "x": (2 * torch.rand(rows, I) - 1).to(dtype),
        "weight": torch.randn(I, G + degree + 1, O).to(dtype),
        "knots": knots,
        "bias": torch.randn(O).to(dtype),
        "degree": degree,
    }


def exact(given, nu=0, activation="silu"):
    """The same call with every tensor in float64."""
    return kan_linear(**{k: v.double() if torch.is_tensor(v) else v for k, v in given.items()}, nu=nu, activation=activation)


SLOTS = (I, G + P + 1, O)
REFUSED = {
    TypeError: {
        "x: expected a torch.Tensor, received list": {"x": [[0.0] * I]},
        "x: expected a real floating dtype, received torch.int64": {"x": torch.zeros(2, I, dtype=torch.long)},
        "x: expected a real floating dtype, received torch.complex64": {"x": torch.zeros(2, I, dtype=torch.cfloat)},
        "weight: expected a torch.Tensor, received NoneType": {"weight": None},
        "weight: expected x's dtype torch.float32, received torch.float64": {"weight": torch.zeros(SLOTS).double()},
        "knots: expected float32 or float64, received torch.float16": {"knots": torch.zeros(I, 12).half()},
        "knots: expected float32 or float64, received torch.bfloat16": {"knots": torch.zeros(I, 12).bfloat16()},
        "bias: expected a torch.Tensor, received float": {"bias": 0.0},
        "row_weight: expected a torch.Tensor, received float": {"row_weight": 1.0},
        "row_weight: expected x's dtype torch.float32, received torch.float64": {"row_weight": torch.ones(7, I).double()},
        "degree: expected an int, received float": {"degree": 3.0},
    },
    ValueError: {
        r"x: expected last dimension 3 .*received shape \(\)": {"x": torch.tensor(0.0)},
        r"x: expected last dimension 3 .*received shape \(2, 4\)": {"x": torch.zeros(2, I + 1)},
        r"weight: expected 3 dimensions, received shape \(3, 2\)": {"weight": torch.zeros(I, O)},
        "weight: expected at least 5 slots for degree 3, received 4": {
            "weight": torch.zeros(I, P + 1, O),
            "knots": torch.zeros(I, 2 * P + 1),
        },
        r"knots: expected 2 dimensions, received shape \(12,\)": {"knots": torch.zeros(12)},
        r"knots: expected shape \(3, 12\) .*received \(3, 11\)": {"knots": torch.zeros(I, 11)},
        r"knots: expected shape \(3, 12\) .*received \(4, 12\)": {"knots": torch.zeros(I + 1, 12)},
        "knots: .*received requires_grad=True": {"knots": torch.zeros(I, 12, requires_grad=True)},
        r"bias: expected 1 dimensions, received shape \(1, 2\)": {"bias": torch.zeros(1, O)},
        r"bias: expected shape \(2,\), received \(3,\)": {"bias": torch.zeros(O + 1)},
        "degree: expected at least 1, received 0": {"degree": 0},
        "nu: expected a whole number of at least 0, received -1": {"nu": -1},
        "nu: expected a whole number of at least 0, received 1.0": {"nu": 1.0},
        "nu: expected a whole number of at least 0, received True": {"nu": True},
        "activation: expected one of silu, .*received 'sin'": {"activation": "sin"},
        "backend: expected one of .*received 'fast'": {"backend": "fast"},
        "weight: expected x's device cpu, received meta": {"weight": torch.zeros(SLOTS, device="meta")},
        "knots: expected x's device cpu, received meta": {"knots": torch.zeros(I, 12, device="meta")},
        "bias: expected x's device cpu, received meta": {"bias": torch.zeros(O, device="meta")},
        r"row_weight: expected x's shape \(7, 3\), received \(7, 1\)": {"row_weight": torch.ones(7, 1)},
        "row_weight: expected x's device cpu, received meta": {"row_weight": torch.ones(7, I, device="meta")},
    },
    NotImplementedError: {"nu: activation='silu' has closed forms up to derivative order 8, received order 9": {"nu": 9}},
}


@pytest.mark.parametrize(
    "error, message, changes",
    [pytest.param(error, *case, id=case[0]) for error, cases in REFUSED.items() for case in cases.items()],
)
def test_a_wrong_argument_is_named_with_what_was_expected_and_received(error, message, changes):
    with pytest.raises(error, match=f"^{message}"):
        kan_linear(**arguments() | changes)


@pytest.mark.parametrize("value", [True, "3", None, 2.0])
@pytest.mark.parametrize("name", ["degree", "grid_size"])
def test_check_degree_names_the_argument(name, value):
    with pytest.raises(TypeError, match=f"^{name}: expected an int, received {type(value).__name__}"):
        check_degree(**{"degree": 1, "grid_size": 1} | {name: value})


@pytest.mark.parametrize("shape", [(I,), (1, I), (4, I), (2, 3, I), (2, 1, 2, I)], ids=str)
def test_leading_dimensions_are_rows(shape, backend):
    x = 2 * torch.rand(shape) - 1
    given = arguments() | {"x": x}
    y = kan_linear(**given, backend=backend)
    assert y.shape == (*shape[:-1], O)
    rows = kan_linear(**given | {"x": x.reshape(-1, I)}, backend=backend)
    assert torch.equal(y.reshape(-1, O), rows)


@pytest.mark.parametrize("shape, out", [((0, I), O), ((2, 0, I), O), ((4, 0), O), ((0,), O), ((0, 0), O), ((4, I), 0)], ids=str)
def test_empty_calls_give_empty_or_bias_only_answers_and_zero_gradients(shape, out, backend):
    x = torch.rand(shape, requires_grad=True)
    weight = torch.randn(shape[-1], G + P + 1, out, requires_grad=True)
    bias = torch.randn(out, requires_grad=True)
    y = kan_linear(x, weight, grids.uniform(shape[-1], G, P, (-1.0, 1.0)).float(), bias, degree=P, backend=backend)
    assert torch.equal(y, bias.expand(*shape[:-1], out))
    gradients = torch.autograd.grad(y.sum(), (x, weight))
    for gradient, of in zip(gradients, (x, weight), strict=True):
        assert torch.equal(gradient, torch.zeros_like(of))


LAYOUTS = {
    "transposed": lambda x: x.T.contiguous().T,
    "strided": lambda x: x.repeat_interleave(2, 0)[::2],
    "inner stride": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "expanded rows": lambda x: x[:1].expand(6, I),
    "expanded columns": lambda x: x[:, :1].expand(-1, I),
    "permuted": lambda x: x.reshape(-1, 1, I).expand(-1, 4, I).permute(1, 0, 2),
    "flipped": lambda x: x.flip(0).as_strided(x.shape, x.stride()),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_strides_give_the_contiguous_answer_and_gradient(layout, backend):
    x = layout(2 * torch.rand(8, I) - 1)
    given = arguments()
    answers = []
    for rows in (x, x.contiguous()):
        leaf = rows.detach().requires_grad_()  # keeps the strides
        y = kan_linear(**given | {"x": leaf}, backend=backend)
        answers.append((y, torch.autograd.grad(y.square().sum(), leaf)[0]))
    assert torch.equal(answers[0][0], answers[1][0])
    assert torch.equal(answers[0][1], answers[1][1])


def test_operands_of_any_strides_are_accepted(backend):
    given = arguments()
    weight = given["weight"].permute(2, 0, 1).contiguous().permute(1, 2, 0)
    knots = given["knots"].T.contiguous().T
    bias = given["bias"].repeat_interleave(2)[::2]
    want = kan_linear(**given, backend=backend)
    assert torch.equal(kan_linear(**given | {"weight": weight, "knots": knots, "bias": bias}, backend=backend), want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_answer_is_in_the_dtype_of_x_and_within_its_rounding(dtype, backend):
    given = arguments(dtype)
    y = kan_linear(**given, backend=backend)
    assert y.dtype == dtype
    exactly = exact(given)
    terms = I * (P + 2) + 1
    compute = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    bound = (torch.finfo(dtype).eps + terms * 8 * compute) * float(given["weight"].double().abs().sum(1).sum(0).max())
    assert (y.double() - exactly).abs().max() <= bound


@pytest.mark.parametrize("knots_dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_knots_of_either_precision_serve_every_dtype(dtype, knots_dtype, backend):
    given = arguments(dtype)
    given["knots"] = given["knots"].float().to(knots_dtype)  # the same numbers
    y = kan_linear(**given, backend=backend)
    assert torch.equal(y, kan_linear(**given | {"knots": given["knots"].double()}, backend=backend))


def test_bias_of_another_dtype_is_rounded_to_the_answers(backend):
    given = arguments(torch.bfloat16)
    bias = torch.randn(O, requires_grad=True)
    y = kan_linear(**given | {"bias": bias}, backend=backend)
    assert torch.equal(y, kan_linear(**given | {"bias": bias.detach().bfloat16()}, backend=backend))
    y.sum().backward()
    assert torch.equal(bias.grad, torch.full((O,), 7.0))


@pytest.mark.parametrize("nu", range(5))
@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_derivatives_are_scipys_and_leave_the_bias_out(degree, nu, backend):
    given = arguments(torch.float64, rows=40, degree=degree)
    x, weight, knots = (given[name].numpy() for name in ("x", "weight", "knots"))
    edges = [BSpline(knots[i], weight[i, :-1], degree) for i in range(I)]
    want = sum((edge.derivative(nu) if 0 < nu <= degree else edge)(x[:, i]) for i, edge in enumerate(edges)) * (nu <= degree)
    want = want + (x @ weight[:, -1] if nu == 0 else weight[:, -1].sum(0) if nu == 1 else 0)  # base identity
    want = want + (given["bias"].numpy() if nu == 0 else 0)
    y = kan_linear(**given, nu=nu, activation="identity", backend=backend)
    # p levels of the recursion, each with differences over a cell of 2 / G in the denominator for every derivative
    scale = np.abs(weight).sum(1).sum(0).max() * max(1, degree * G) ** min(nu, degree)
    np.testing.assert_allclose(y.numpy(), want, rtol=0, atol=16 * degree * np.finfo(float).eps * scale)


@pytest.mark.parametrize("nu", range(5))
@pytest.mark.parametrize("activation", ["silu", "gelu", "tanh"])
def test_nu_is_the_derivative_that_autograd_takes(activation, nu, backend):
    given = arguments(torch.float64, rows=20)
    x = given["x"].requires_grad_()
    taken = kan_linear(**given, activation=activation, backend="reference")[:, 0].sum()
    for _ in range(nu):
        if not taken.requires_grad:
            pytest.fail("the graph ended early")
        taken = torch.autograd.grad(taken.sum(), x, create_graph=True)[0]
    one_by_one = torch.stack(
        [
            kan_linear(
                x[:, [i]], given["weight"][[i]], given["knots"][[i]], degree=P, nu=nu, activation=activation, backend=backend
            )[:, 0]
            for i in range(I)
        ],
        dim=1,
    )
    if nu == 0:
        one_by_one = one_by_one.sum() + len(x) * given["bias"][0]
    scale = float(given["weight"].abs().sum(1).max()) * max(1, P * G) ** nu * I * (len(x) if nu == 0 else 1)
    torch.testing.assert_close(one_by_one, taken, rtol=0, atol=64 * torch.finfo(torch.float64).eps * scale)


def test_a_row_of_nan_stays_alone(backend):
    given = arguments()
    given["x"][2, 1] = float("nan")
    y = kan_linear(**given, backend=backend)
    assert y[2].isnan().all()
    assert y[[0, 1, 3, 4, 5, 6]].isfinite().all()


# ---- autocast


def test_autocast_computes_in_bfloat16_and_keeps_float32_for_x_and_gradients(backend):
    given = arguments(rows=64)
    for name in ("x", "weight", "bias"):
        given[name].requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = kan_linear(**given, backend=backend)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert all(given[name].grad.dtype == torch.float32 for name in ("x", "weight", "bias"))
    exactly = exact(given)
    unit = torch.finfo(torch.bfloat16).eps
    terms = float(given["weight"].detach().abs().amax(1).sum(0).max()) * 2  # splines sum to 1, silu stays below 1
    assert (y.double() - exactly).abs().max() <= 1.5 * unit * terms


@pytest.mark.parametrize("nu", [0, 1])
def test_autocast_finds_the_interval_in_float32(nu, backend):
    """At G = 64 an x rounded to bfloat16 is off by up to a quarter of a cell; the weight's rounding is exactly known."""
    knots = grids.uniform(I, 64, P, (-1.0, 1.0)).float()
    x, weight = 2 * torch.rand(200, I) - 1, torch.randn(I, 64 + P + 1, O)
    with torch.autocast("cpu", torch.bfloat16):
        y = kan_linear(x, weight, knots, degree=P, nu=nu, activation="zero", backend=backend).double()
    rounded = weight.bfloat16().double()
    want = kan_linear(x.double(), rounded, knots.double(), degree=P, nu=nu, activation="zero", backend="reference")
    scale = float(want.abs().max())
    unit = torch.finfo(torch.bfloat16).eps
    assert (y - want).abs().max() <= unit * scale
    lost = kan_linear(x.bfloat16().double(), rounded, knots.double(), degree=P, nu=nu, activation="zero", backend="reference")
    assert (lost - want).abs().max() > 4 * unit * scale  # so the bound above would see it


def test_autocast_leaves_float64_alone(backend):
    given = arguments(torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        y = kan_linear(**given, backend=backend)
    assert torch.equal(y, kan_linear(**given, backend=backend))


def test_what_layers_do_not_need_is_imported_when_asked_for():
    code = """
import sys, fastkan
assert not {"fastkan.train", "fastkan.explain", "fastkan.pde", "matplotlib", "scipy"} & set(sys.modules)
assert all(hasattr(fastkan, name) and name in dir(fastkan) for name in fastkan.__all__)
assert {"fastkan.train", "fastkan.explain"} <= set(sys.modules) and not {"matplotlib", "scipy"} & set(sys.modules)
from fastkan import fit
assert fit is fastkan.train.fit and not hasattr(fastkan, "nothing")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
