"""Functions that a user adds to the library of formulas."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastkan.formulas.algebra import in_torch, one_variable
from fastkan.nn import FUNCTIONS, Function
from fastkan.nn.functions import Call

OWN = frozenset(FUNCTIONS)


def _slope(call: Call) -> Call:
    """The derivative by autograd."""

    def slope(x: Tensor) -> Tensor:
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            (made,) = torch.autograd.grad(call(z).sum(), z)
        return made

    return slope


def _checked(name: str, call: Call, low: float, high: float, poles: Sequence[float]) -> None:
    middle = 0.0 if low < 0 < high else max(low, high - 2) + 0.5 if high < torch.inf else low + 1
    x = torch.linspace(-0.4, 0.4, 7, dtype=torch.float64) + middle + 0.013  # hardly a pole
    try:
        y = call(x.requires_grad_())
        (slope,) = torch.autograd.grad(y.sum(), x)
    except (TypeError, ValueError, RuntimeError, AttributeError, NameError) as error:
        raise ValueError(
            f"function: expected one of a tensor that autograd follows, received {name}, which raises {error}"
        ) from error
    if y.shape != x.shape or not (y.isfinite().any() and slope.isfinite().any()):
        raise ValueError(f"function: expected one that is elementwise and finite near {middle:.3g}, received {name}")


def add_function(
    name: str,
    function: Any,
    complexity: int = 3,
    low: float = -torch.inf,
    high: float = torch.inf,
    poles: Sequence[float] = (),
    period: float | None = None,
) -> Function:
    """Add a function to fastkan.nn.FUNCTIONS, for this process.

    name: a new one, or one that was added before
    function: an elementwise function of a tensor, or a sympy expression (or its text) in one symbol. A function of a tensor
        stands in formulas by its name.
    complexity: about how many bits it takes to name it; the straight line has 1, sin has 2
    low, high: where it is real. poles: where it is not finite; with a period they repeat. There a formula is refused.
    raises: ValueError for a name of fastkan's own, more than one symbol, or a function that is not elementwise

    >>> import fastkan
    >>> fastkan.formulas.add_function("bump", "exp(-1/(1 - x**2))", low=-1, high=1, poles=(-1, 1)).expression
    'exp(-1/(1 - x**2))'
    >>> fastkan.formulas.add_function("softplus", __import__("torch").nn.functional.softplus).expression
    'softplus(x)'
    """
    if not isinstance(name, str) or not name or name in OWN:
        raise ValueError(f"name: expected one that fastkan does not have, received {name!r}")
    if low >= high:
        raise ValueError(f"low, high: expected low < high, received {low} and {high}")
    if callable(function) and not hasattr(function, "free_symbols"):
        if not name.isidentifier():
            raise ValueError(f"name: expected an identifier, which stands in formulas, received {name!r}")
        call, expression = function, f"{name}(x)"
    else:
        made = one_variable(function)
        call, expression = in_torch([made], "x"), str(made)
    _checked(name, call, low, high, poles)
    FUNCTIONS[name] = Function(call, _slope(call), expression, complexity, low, high, tuple(poles), period)
    return FUNCTIONS[name]
