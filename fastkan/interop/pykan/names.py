"""pykan's words for functions on edges and for base functions, and ours."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fastkan.nn.functions import FUNCTIONS
from fastkan.splines.activations import ACTIVATIONS, activation_derivative

# All names of pykan's SYMBOLIC_LIB. Those that fastkan has beyond them, users of pykan add by add_symbolic under our names.
FORMULAS = {
    "0": "0",
    "x": "x",
    "x^2": "x**2",
    "x^3": "x**3",
    "x^4": "x**4",
    "x^5": "x**5",
    "1/x": "1/x",
    "1/x^2": "1/x**2",
    "1/x^3": "1/x**3",
    "1/x^4": "1/x**4",
    "1/x^5": "1/x**5",
    "sqrt": "sqrt",
    "x^0.5": "sqrt",
    "x^1.5": "x**1.5",
    "1/sqrt(x)": "1/sqrt",
    "1/x^0.5": "1/sqrt",
    "exp": "exp",
    "log": "log",
    "abs": "abs",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "tanh": "tanh",
    "sgn": "sign",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arctanh": "atanh",
    "gaussian": "gaussian",
    "sinh": "sinh",
    "cosh": "cosh",
    "arcsinh": "asinh",
    "lorentz": "lorentz",
}
BACK = {ours: name for name, ours in reversed(FORMULAS.items())}  # of several names the first
BASES = ("silu", "identity", "zero")  # which pykan knows by name
OTHER_BASES: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "tanh": nn.Tanh, "relu": nn.ReLU}
CLOSE = 1e-6  # of two functions that are one, whatever the dtype in which pykan's is written
UNSUITED = (TypeError, ValueError, RuntimeError, AttributeError, IndexError)  # what a stranger's function may raise


def formula(name: Any) -> str | None:
    """Our name of a pykan formula, or None where fastkan has none."""
    name = FORMULAS.get(name, name) if isinstance(name, str) else None
    return name if name in FUNCTIONS else None


def _agree(function: Callable[[Tensor], Any], ours: Callable[[Tensor], Tensor], at: Tensor) -> bool:
    """Whether two functions have the same values, the places where they are not finite among them."""
    try:
        theirs = function(at)
    except UNSUITED:
        return False
    if not isinstance(theirs, Tensor) or theirs.shape != at.shape:
        return False
    return torch.allclose(theirs.double(), ours(at), rtol=CLOSE, atol=CLOSE, equal_nan=True)


def is_formula(function: Callable[[Tensor], Any], name: str) -> bool:
    """Whether a function of a live model is the one that its name says; on both signs, in and beside [-1, 1]."""
    return _agree(function, FUNCTIONS[name].call, torch.linspace(-1.9, 2.3, 30, dtype=torch.float64))


@torch.no_grad()
def base_activation(base: Any) -> str:
    """Our name of a base function, which pykan holds by name or as anything that can be called; ValueError for others."""
    at = torch.linspace(-6.0, 6.0, 50, dtype=torch.float64)
    if isinstance(base, str):
        found = [base] if base in BASES else []
    else:
        same = (name for name in ACTIVATIONS if _agree(base, lambda x, name=name: activation_derivative(x, name, 0), at))  # type: ignore[misc]
        found = list(same) if callable(base) else []
    if not found:
        raise ValueError(
            f"base_fun: expected {', '.join(BASES)} or a function that is one of {', '.join(ACTIVATIONS)}, received {base!r}; "
            "set scale_base to 0 and train, or project the edges by fastkan.interop.from_edges"
        )
    return found[0]


def base_function(activation: str) -> str | nn.Module:
    """What to give pykan as base_fun for one of our activations."""
    return activation if activation in BASES else OTHER_BASES[activation]()
