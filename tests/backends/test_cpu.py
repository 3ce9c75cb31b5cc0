"""What the calls into the native module promise beyond the case table of every backend."""

import pytest
import torch
from contract.cases import DTYPES, Case, assert_accurate, make_inputs

from fastkan import backends, ops
from fastkan.ops import OPERATIONS

CASES = Case(70, 5, 33, row_weight=True), Case(9, 3, 64, grid_size=50, degree=2), Case(3, 9, 100)


@pytest.mark.skipif(backends.native.module is None, reason="the native module is not built")
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_16_bit_answer_is_the_float32_one_rounded_once(name, dtype, case):
    """Bit for bit: the case table's tolerance would let a truncated answer pass."""
    narrow = make_inputs(case, dtype)
    wide = {key: None if tensor is None else tensor.float() for key, tensor in narrow.items()}
    settings = case.degree, case.activation, "cpu", *(1,) * len(OPERATIONS[name].orders)
    answer, expected = (
        getattr(ops, name)(*[tensors[key] for key in OPERATIONS[name].tensors], tensors["knots"], *settings)
        for tensors in (narrow, wide)
    )
    assert answer.dtype == dtype and torch.equal(answer, expected.to(dtype))


@pytest.mark.skipif(backends.native.module is None, reason="the native module is not built")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "case", [Case(2, 70, 100, grid_size=20, row_weight=True), Case(3, 5, 17, grid_size=40, degree=2)], ids=str
)
def test_few_rows_go_without_sorting(dtype, case):
    """The contract where forward reads weight rows where they lie: two chunks of inputs, blocks with padding, every order."""
    for nu in case.orders:
        samples = []
        for seed in case.draws:
            tensors = make_inputs(case, dtype, seed=seed)
            operands = [tensors[key] for key in OPERATIONS["forward"].tensors]
            samples.append((ops.forward(*operands, tensors["knots"], case.degree, case.activation, "cpu", nu), tensors))
        assert_accurate("forward", case, samples, (nu,))


# Two outputs more than forward takes in lanes, and as many as it takes, and one; in float64 half as many.
NARROW = [Case(70, 3, O, row_weight=True) for O in (1, 2, 4, 7, 8, 10)] + [
    Case(40, 5, 3, grid_size=16, knots="spread"),  # tables of two registers; none in float64
    Case(40, 2, 4, grid_size=6, knots="repeated", activation="identity"),
    Case(23, 2, 3, grid_size=2, degree=1, activation="relu"),  # tables of one register
    Case(23, 2, 3, grid_size=9, degree=8, activation="tanh"),
    Case(18, 70, 2, activation="gelu", row_weight=True),  # two chunks of inputs
    Case(1100, 1, 1, grid_size=4, degree=2),  # tiles of rows
]


@pytest.mark.skipif(backends.native.module is None, reason="the native module is not built")
@pytest.mark.parametrize("name", ["forward", "grad_input", "grad_weight"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", NARROW, ids=str)
def test_narrow_layers(name, dtype, case):
    """The contract on both sides of the rule for narrow layers, in every order; x outside the grid, on knots and beside."""
    for nu in case.orders:
        samples = []
        for seed in case.draws:
            tensors = make_inputs(case, dtype, seed=seed)
            operands = [tensors[key] for key in OPERATIONS[name].tensors]
            samples.append((getattr(ops, name)(*operands, tensors["knots"], case.degree, case.activation, "cpu", nu), tensors))
        assert_accurate(name, case, samples, (nu,))


@pytest.mark.skipif(backends.native.module is None, reason="the native module is not built")
@pytest.mark.parametrize(
    ("dtype", "outputs"), [(torch.float32, n) for n in (1, 8, 20, 70)] + [(torch.float64, n) for n in (1, 4, 9, 35)], ids=str
)
@pytest.mark.parametrize("rows", [5, 16, 37])
def test_rows_do_not_touch(rows, outputs, dtype):
    """NaN, infinities and the rows around them, in every place of a vector and past its end; wide layers sort their rows."""
    case = Case(rows, 2, outputs, row_weight=True)
    tensors = make_inputs(case, dtype)

    def answers(x, weight=tensors["weight"]):
        settings = tensors["knots"], case.degree, case.activation, "cpu", 0
        return (
            ops.forward(x, weight, tensors["row_weight"], *settings),
            ops.grad_input(x, weight, tensors["grad_output"], *settings),
            ops.grad_weight(x, tensors["grad_output"], tensors["row_weight"], *settings),
        )

    clean = answers(tensors["x"])
    for row in range(rows):
        x = tensors["x"].clone()
        x[row, 1] = torch.nan
        y, grad_input, grad_weight = answers(x)
        assert y[row].isnan().all() and grad_input[row, 1].isnan() and grad_weight[1].isnan().all()
        others = torch.arange(rows) != row
        assert torch.equal(y[others], clean[0][others]) and torch.equal(grad_input[others], clean[1][others])
        assert torch.equal(grad_input[row, 0], clean[1][row, 0]) and torch.equal(grad_weight[0], clean[2][0])
    for far in (torch.inf, -torch.inf, 1e30):  # outside, where the splines' weights are not read
        x = torch.full_like(tensors["x"], far)
        infinite = tensors["weight"].clone()
        infinite[:, :-1] = torch.inf
        kept = tensors["weight"].clone()
        kept[:, :-1] = 0
        assert torch.equal(answers(x, infinite)[0].nan_to_num(), answers(x, kept)[0].nan_to_num())
