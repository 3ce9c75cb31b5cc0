"""The forward of backend cuda on 2:4 sparse tensor cores: on a GPU, and on the emulated one."""

import pytest
import torch
from contract.cases import Case, assert_accurate, make_inputs

from fastkan import experimental, ops

# one unit of outputs and several, rows and inputs past a tile's, rows of whole vectors or not, one block of slots and three
CASES = [
    Case(5, 1, 1),
    Case(70, 4, 20),
    Case(130, 17, 19, grid_size=9),
    Case(65, 20, 130, grid_size=16),
    Case(3, 33, 9, grid_size=3),
]


@pytest.fixture(autouse=True)
def only_cuda(backend):
    if backend != "cuda":
        pytest.skip("about backend cuda")


def run(case, tensors, tile, round_to=None):
    with experimental.use(two_four=tile, round_to=round_to):
        return ops.forward(tensors["x"], tensors["weight"], None, tensors["knots"], 3, case.activation, "cuda", 0)


@pytest.mark.parametrize("tile", experimental.TILES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_accuracy(case, dtype, tile, device, backend):
    tensors = make_inputs(case, dtype, device)
    assert_accurate("forward", case, [(run(case, tensors, tile), tensors)], (0,))


@pytest.mark.parametrize("activation", ["gelu", "tanh", "relu", "identity", "zero"])
def test_every_activation(activation, device, backend):
    case = Case(20, 5, 6, activation=activation)
    tensors = make_inputs(case, torch.bfloat16, device)
    assert_accurate("forward", case, [(run(case, tensors, "small"), tensors)], (0,))


@pytest.mark.parametrize("tile", experimental.TILES)
def test_nan_stays_in_its_row(tile, device, backend):
    case = Case(70, 4, 20)
    tensors = make_inputs(case, torch.float16, device)
    clean = run(case, tensors, tile)
    tensors["x"][33, 2] = torch.nan
    answer = run(case, tensors, tile)
    others = torch.arange(70, device=device) != 33
    assert answer[33].isnan().all() and torch.equal(answer[others], clean[others])


@pytest.mark.parametrize("round_to", [torch.bfloat16, torch.float16], ids=str)
def test_float32_tensors_are_rounded_to_operands(round_to, device, backend):
    """x stays as it is; the answer is as good as that of 16-bit tensors, before its own rounding."""
    case = Case(70, 20, 24)
    tensors = make_inputs(case, torch.float32, device)
    answer = run(case, tensors, "large", round_to)
    assert answer.dtype == torch.float32
    assert_accurate("forward", case, [(answer.to(round_to), tensors)], (0,))


def test_infinity_is_what_the_base_makes_of_it(device, backend):
    case = Case(9, 3, 5)
    tensors = make_inputs(case, torch.float32, device) | {"weight": torch.ones(3, 9, 5, device=device).bfloat16()}
    tensors["x"][4, 0], tensors["x"][6, 1] = torch.inf, -torch.inf
    answer = run(case, tensors, "small")
    assert (answer[4] == torch.inf).all() and answer[[5, 6, 7]].isfinite().all()


def test_gradients_go_the_usual_way_and_an_update_is_packed_anew(device, backend):
    case = Case(9, 3, 5)
    tensors = make_inputs(case, torch.float32, device)
    weight = tensors["weight"].bfloat16().requires_grad_()
    run(case, tensors | {"weight": weight}, "small").sum().backward()
    ones = torch.ones(9, 5, dtype=torch.bfloat16, device=device)
    assert torch.equal(weight.grad, ops.grad_weight(tensors["x"], ones, None, tensors["knots"], 3, "silu", "cuda", 0))
    with torch.no_grad():
        weight.zero_()
    assert not run(case, tensors | {"weight": weight}, "small").any()
