"""Jagged nested tensors through KANLinear and KAN, as through nn.Linear."""

import pytest
import torch

from fastkan import KAN, KANLinear


@pytest.fixture(params=["KANLinear", "KAN"])
def model(request):
    return (KANLinear(3, 2) if request.param == "KANLinear" else KAN([3, 4, 2])).double()


def jagged(*shapes):
    parts = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    return torch.nested.nested_tensor(parts, layout=torch.jagged, requires_grad=True), parts


@pytest.mark.parametrize("shapes", [[(4, 3), (1, 3), (2, 3)], [(4, 2, 3), (1, 2, 3)]], ids=str)
def test_jagged_tensors(model, shapes):
    x, parts = jagged(*shapes)
    y = model(x)
    assert y.shape[1] == x.shape[1]  # the same ragged size: the two can be added and compared
    for part, expected in zip(y.unbind(), map(model, parts), strict=True):
        torch.testing.assert_close(part, expected)
    ours = torch.autograd.grad(y.values().square().sum(), (x, *model.parameters()))
    rows = torch.cat(parts).requires_grad_()
    expected = torch.autograd.grad(model(rows).square().sum(), (rows, *model.parameters()))
    torch.testing.assert_close(ours[0].values(), expected[0])
    for one, other in zip(ours[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other)


def test_jagged_tensors_of_another_ragged_dimension(model):
    x, parts = jagged((4, 2, 3), (1, 2, 3))
    y = model(x.transpose(1, 2))
    assert y.shape[1] == 2 and y.shape[2] == x.shape[1]
    for part, expected in zip(y.transpose(1, 2).unbind(), map(model, parts), strict=True):
        torch.testing.assert_close(part, expected)


def test_jagged_tensors_with_holes():
    layer = KANLinear(3, 2)
    x = torch.nested.nested_tensor_from_jagged(torch.randn(6, 3), torch.tensor([0, 2, 3, 6]), torch.tensor([1, 1, 2]))
    for part, expected in zip(layer(x).unbind(), map(layer, x.unbind()), strict=True):
        torch.testing.assert_close(part, expected)


def test_jagged_tensors_in_a_compiled_model(model):
    x, _ = jagged((4, 3), (1, 3))
    y = torch.compile(model, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y.values(), model(x).values())


def test_strided_nested_tensors_are_refused(model):
    with pytest.raises(TypeError, match=r"^x: expected a nested tensor of layout torch.jagged, received torch.strided"):
        model(torch.nested.nested_tensor([torch.randn(4, 3, dtype=torch.float64)]))


def test_a_ragged_last_dimension_is_refused():
    x, _ = jagged((3, 4), (2, 4), (1, 4))
    with pytest.raises(ValueError, match="^x: expected a last dimension of one size"):
        KANLinear(6, 2, dtype=torch.float64)(x.transpose(1, 2))
