"""The row weights of functional.kan_linear: values, dtypes, leading dimensions and gradients."""

import pytest
import torch
from test_functional import DTYPES, G, I, O, P, arguments, exact

from fastkan.functional import kan_linear


@pytest.mark.parametrize("nu", range(3))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_row_weight_multiplies_the_values_of_its_edges(dtype, nu, backend):
    given = arguments(dtype)
    row_weight = torch.randn(7, I).to(dtype)
    apart = [given | {"x": given["x"][:, [i]], "weight": given["weight"][[i]], "knots": given["knots"][[i]]} for i in range(I)]
    edges = torch.stack([exact(one | {"bias": None}, nu) for one in apart], dim=1)
    want = (row_weight.double()[..., None] * edges).sum(1) + (given["bias"].double() if nu == 0 else 0)
    y = kan_linear(**given, row_weight=row_weight, nu=nu, backend=backend)
    assert y.dtype == dtype
    unit = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    scale = float(row_weight.double().abs().max() * given["weight"].double().abs().sum(1).sum(0).max()) * (P * G) ** nu
    assert (y.double() - want).abs().max() <= (torch.finfo(dtype).eps + 32 * unit) * scale


def test_row_weights_take_leading_dimensions_and_gradients_of_any_order(backend):
    given = arguments(torch.float64) | {"x": 0.9 * (2 * torch.rand(2, 2, I, dtype=torch.float64) - 1)}
    row_weight = torch.randn(2, 2, I, dtype=torch.float64)
    y = kan_linear(**given, row_weight=row_weight, backend=backend)
    flat = kan_linear(**given | {"x": given["x"].reshape(-1, I)}, row_weight=row_weight.reshape(-1, I), backend=backend)
    assert torch.equal(y, flat.reshape(2, 2, O))

    def call(x, weight, row_weight):
        return kan_linear(**given | {"x": x, "weight": weight}, row_weight=row_weight, nu=1, backend=backend)

    leaves = [t.clone().requires_grad_() for t in (given["x"], given["weight"], row_weight)]
    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)


def test_a_nested_x_takes_no_row_weight():
    given = arguments()
    x = torch.nested.nested_tensor([torch.rand(2, I), torch.rand(3, I)], layout=torch.jagged)
    with pytest.raises(TypeError, match="^row_weight: expected None for a nested x"):
        kan_linear(**given | {"x": x}, row_weight=torch.ones(5, I))
