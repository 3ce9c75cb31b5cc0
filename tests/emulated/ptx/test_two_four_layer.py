"""The 2:4 forward as nvcc compiles it, run by the interpreter, against the contract (docs/design.md, section 4)."""

import pytest
import torch
from contract.cases import Case, assert_accurate
from layer import ACTIVATIONS, Layer, around, assert_same_operands, forward, grids, layer, packed

pytestmark = pytest.mark.proof
OPERANDS = [torch.bfloat16, torch.float16]
SOURCE = "cuda/two_four/two_four.cu"


@pytest.fixture(scope="module")
def ptx(compiler):
    return compiler.ptx(SOURCE)


@pytest.mark.parametrize("operand", OPERANDS, ids=str)
@pytest.mark.parametrize("grid_size", [1, 2, 5, 8, 16, 40])
def test_an_answer_obeys_the_rule_of_every_backend(ptx, grid_size, operand):
    """At most twice the error of plain PyTorch; x on knots, at both ends of the extended grid and outside."""
    given = layer(40, 5, 9, grid_size, operand, operand)
    case = Case(40, 5, 9, grid_size=grid_size)
    tensors = {"x": given.x, "weight": given.weight, "knots": given.knots} | dict.fromkeys(("row_weight", "grad_output", "form"))
    assert_accurate("forward", case, [(forward(ptx, given, y_dtype=operand), tensors)], (0,))
    assert_same_operands(forward(ptx, given), given)


@pytest.mark.parametrize("operand", OPERANDS, ids=str)
@pytest.mark.parametrize("grid_size", [1, 5, 16])
def test_float32_x_is_never_rounded(ptx, grid_size, operand):
    """On knots and one ulp beside them, every input with a grid of its own."""
    given = layer(50, 7, 6, grid_size, operand)
    assert_same_operands(forward(ptx, given), given)
    assert_same_operands(forward(ptx, given, y_dtype=operand), given)


@pytest.mark.parametrize(
    ("sizes", "order", "early"),
    [
        ((1, 1, 1), "random", False),
        ((3, 16, 7), "forwards", False),
        ((17, 3, 66), "backwards", False),
        ((65, 17, 16), "random", True),
        ((70, 20, 33), "forwards", True),
        ((9, 52, 5), "backwards", True),
        ((9, 52, 5), "forwards", False),
    ],
    ids=str,
)
def test_sizes_and_the_order_of_events(ptx, sizes, order, early):
    """Rows, inputs, outputs that fill no tile; warps ahead of and behind the others; copies as soon and as late as may be."""
    given = layer(*sizes, operand=torch.float16)
    assert_same_operands(forward(ptx, given, order=order, early=early), given)


@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("sizes", "grid_size", "early"), [((130, 36, 20), 5, False), ((20, 20, 140), 8, True), ((3, 5, 5), 2, False)]
)
def test_the_large_tile(ptx, sizes, grid_size, early, x_dtype):
    given = layer(*sizes, grid_size, x_dtype=x_dtype)
    assert_same_operands(forward(ptx, given, "large", early=early), given)


def test_the_large_tile_in_float16(ptx):
    given = layer(140, 17, 20, 6, torch.float16, torch.float16)
    assert_same_operands(forward(ptx, given, "large", torch.float16), given)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("operand", "x_dtype"), [(torch.bfloat16, torch.float32), (torch.float16, torch.float16)], ids=str)
def test_nan_infinity_and_every_activation(ptx, activation, operand, x_dtype):
    """NaN makes its row NaN and no other; infinity is what the activation makes of it, with no NaN from the spline part."""
    given = layer(12, 6, 5, 5, operand, x_dtype, activation)
    assert_same_operands(forward(ptx, given), given)
    x = given.x.clone()
    x[3, 2], x[5, 0], x[7, 5], x[9, :2] = torch.nan, torch.inf, -torch.inf, torch.inf
    special = Layer(x, given.weight, given.knots, activation)
    y, plain, expected = forward(ptx, special), forward(ptx, given), special.reference()
    assert y[3].isnan().all()
    others = [0, 1, 2, 4, 6, 8, 10, 11]
    assert torch.equal(y[others], plain[others])
    infinite = [5, 7, 9]
    finite = expected[infinite].isfinite()
    assert torch.equal(y[infinite].double()[~finite].nan_to_num(2.0), expected[infinite][~finite].nan_to_num(2.0))
    assert torch.allclose(y[infinite].double()[finite], expected[infinite][finite], rtol=0.02, atol=0.05)


@pytest.mark.parametrize("grid_size", [1, 5, 6, 13])
def test_the_spline_part_is_exactly_0_outside(ptx, grid_size):
    """At the last extended knot and beyond, at the first one and before it, in grids whose 1 / h has to be rounded."""
    knots = grids(24, grid_size)
    first, last = knots[:, 0], knots[:, -1]
    above, below = (torch.nextafter(end, end.new_tensor(way)) for end, way in ((last, torch.inf), (first, -torch.inf)))
    rows = last, above, last + 1e-3, last * 2 - first, last + 1e30, first, below, first - 1e-3, first * 2 - last, first - 1e30
    weight = torch.full((24, grid_size + 4, 3), 1e30).bfloat16()
    y = forward(ptx, Layer(torch.stack(rows), weight, knots, "zero"))
    assert torch.equal(y, torch.zeros_like(y))


@pytest.mark.parametrize("operand", OPERANDS, ids=str)
def test_a_float32_weight_is_packed_as_its_rounded_self(ptx, operand):
    weight = torch.randn(19, 13, 37)
    assert (packed(ptx, weight, operand) == packed(ptx, weight.to(operand), operand)).all()


def test_columns_do_not_depend_on_their_place(ptx):
    """Bit for bit: another tile, other neighbours."""
    given = layer(33, 20, 40)
    y = forward(ptx, given)
    part = Layer(given.x, given.weight[..., 17:24].contiguous(), given.knots)
    assert torch.equal(forward(ptx, part, "large"), y[:, 17:24])
    assert torch.equal(forward(ptx, Layer(given.x[5:9], given.weight, given.knots)), y[5:9])


def test_x_lies_as_it_should(ptx):
    assert (around(grids(3, 5), 40) == grids(3, 5)[:, -1]).any()  # the last extended knot is among them
    for spacing_exact in (False, True):
        assert grids(3, 7, spacing_exact).diff(dim=1).min() > 0
