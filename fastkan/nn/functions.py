"""What an edge can be beside a spline: functions of one variable, as data."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Call = Callable[[Tensor], Tensor]


class Function(NamedTuple):
    """A function of one variable, elementwise.

    call, slope: the function and its derivative
    expression: of x, in sympy's words
    complexity: about how many bits it takes to name it; the straight line has 1
    low, high: where it is real. poles: where it is not finite, its ends among them; with a period they repeat
    scaling: what f(s x), s > 0, is: "amplitude" for g(s) f(x), "offset" for f(x) + g(s), "" for neither
    shifting: the same of f(x + s)
    parity: 1 for an even, -1 for an odd function, 0 for neither
    inverse: the expression of its inverse where it has one, on its domain's right half if it is even
    """

    call: Call
    slope: Call
    expression: str
    complexity: int
    low: float = -math.inf
    high: float = math.inf
    poles: tuple[float, ...] = ()
    period: float | None = None
    scaling: str = ""
    shifting: str = ""
    parity: int = 0
    inverse: str | None = None

    def trouble(self, low: Tensor, high: Tensor) -> Tensor:
        """Whether arguments from low to high leave the domain or hold a pole; bool, of their shape."""
        bad = (low < self.low) | (high > self.high) | ~(low.isfinite() & high.isfinite())
        for pole in self.poles:
            if self.period is None:
                bad |= (low <= pole) & (high >= pole)
            else:
                bad |= (high - pole) / self.period >= ((low - pole) / self.period).ceil()
        return bad


def _power(n: int, complexity: int, call: Call, inverse: str) -> Function:
    def slope(x: Tensor) -> Tensor:
        return n * x ** (n - 1)

    return Function(call, slope, f"x**{n}", complexity, scaling="amplitude", parity=-1 if n % 2 else 1, inverse=inverse)


def _reciprocal(n: int, complexity: int, inverse: str) -> Function:
    def call(x: Tensor) -> Tensor:
        return torch.reciprocal(x if n == 1 else x**n)

    def slope(x: Tensor) -> Tensor:
        return -n * torch.reciprocal(x ** (n + 1))

    expression = "1/x" if n == 1 else f"1/x**{n}"
    return Function(
        call, slope, expression, complexity, poles=(0.0,), scaling="amplitude", parity=-1 if n % 2 else 1, inverse=inverse
    )


def _gaussian(x: Tensor) -> Tensor:
    return torch.exp(-x * x)


HALF = math.pi / 2

# What an edge can be. Complexities are those of pykan's table, but for the rarer functions, which cost one more.
FUNCTIONS: dict[str, Function] = {
    "0": Function(torch.zeros_like, torch.zeros_like, "0", 0, scaling="amplitude", shifting="amplitude", parity=1),
    "x": Function(
        lambda x: x, torch.ones_like, "x", 1, scaling="amplitude", shifting="offset", parity=-1, inverse="x",
    ),
    "x**2": _power(2, 2, lambda x: x * x, "sqrt(x)"),
    "x**3": _power(3, 3, lambda x: x * x * x, "sign(x)*Abs(x)**(1/3)"),
    "x**4": _power(4, 3, lambda x: (x * x) * (x * x), "sqrt(sqrt(x))"),
    "x**5": _power(5, 3, lambda x: (x * x) * (x * x) * x, "sign(x)*Abs(x)**(1/5)"),
    "1/x": _reciprocal(1, 2, "1/x"),
    "1/x**2": _reciprocal(2, 2, "1/sqrt(x)"),
    "1/x**3": _reciprocal(3, 3, "sign(x)*Abs(x)**(-1/3)"),
    "1/x**4": _reciprocal(4, 4, "1/sqrt(sqrt(x))"),
    "1/x**5": _reciprocal(5, 5, "sign(x)*Abs(x)**(-1/5)"),
    "sqrt": Function(
        torch.sqrt, lambda x: 0.5 * torch.rsqrt(x), "sqrt(x)", 2, low=0, scaling="amplitude", inverse="x**2"
    ),
    "1/sqrt": Function(
        torch.rsqrt, lambda x: -0.5 * torch.rsqrt(x) / x, "1/sqrt(x)", 2, low=0, poles=(0.0,), scaling="amplitude",
        inverse="1/x**2",
    ),
    "x**1.5": Function(
        lambda x: x * torch.sqrt(x), lambda x: 1.5 * torch.sqrt(x), "x**(3/2)", 4, low=0, scaling="amplitude", inverse="x**(2/3)"
    ),
    "exp": Function(torch.exp, torch.exp, "exp(x)", 2, shifting="amplitude", inverse="log(x)"),
    "log": Function(
        torch.log, torch.reciprocal, "log(x)", 2, low=0, poles=(0.0,), scaling="offset", inverse="exp(x)"
    ),
    "abs": Function(torch.abs, torch.sign, "Abs(x)", 3, scaling="amplitude", parity=1, inverse="x"),
    "sign": Function(torch.sign, torch.zeros_like, "sign(x)", 3, scaling="amplitude", parity=-1),
    "sin": Function(torch.sin, torch.cos, "sin(x)", 2, period=2 * math.pi, parity=-1, inverse="asin(x)"),
    "cos": Function(torch.cos, lambda x: -torch.sin(x), "cos(x)", 2, period=2 * math.pi, parity=1, inverse="acos(x)"),
    "tan": Function(
        torch.tan, lambda x: 1 + torch.tan(x).square(), "tan(x)", 3, poles=(HALF,), period=math.pi, parity=-1,
        inverse="atan(x)",
    ),
    "sinh": Function(torch.sinh, torch.cosh, "sinh(x)", 4, parity=-1, inverse="asinh(x)"),
    "cosh": Function(torch.cosh, torch.sinh, "cosh(x)", 4, parity=1, inverse="acosh(x)"),
    "tanh": Function(torch.tanh, lambda x: 1 - torch.tanh(x).square(), "tanh(x)", 3, parity=-1, inverse="atanh(x)"),
    "asin": Function(torch.asin, lambda x: torch.rsqrt(1 - x * x), "asin(x)", 4, low=-1, high=1, parity=-1, inverse="sin(x)"),
    "acos": Function(torch.acos, lambda x: -torch.rsqrt(1 - x * x), "acos(x)", 4, low=-1, high=1, inverse="cos(x)"),
    "atan": Function(torch.atan, lambda x: torch.reciprocal(1 + x * x), "atan(x)", 4, parity=-1, inverse="tan(x)"),
    "asinh": Function(torch.asinh, lambda x: torch.rsqrt(1 + x * x), "asinh(x)", 4, parity=-1, inverse="sinh(x)"),
    "atanh": Function(
        torch.atanh, lambda x: torch.reciprocal(1 - x * x), "atanh(x)", 4, low=-1, high=1, poles=(-1.0, 1.0), parity=-1,
        inverse="tanh(x)",
    ),
    "gaussian": Function(_gaussian, lambda x: -2 * x * _gaussian(x), "exp(-x**2)", 3, parity=1, inverse="sqrt(-log(x))"),
    "lorentz": Function(
        lambda x: torch.reciprocal(1 + x * x), lambda x: -2 * x / (1 + x * x).square(), "1/(1 + x**2)", 3, parity=1,
        inverse="sqrt(1/x - 1)",
    ),
}  # fmt: skip


def function(name: str) -> Function:
    """The function of that name; ValueError with the names that there are."""
    if name not in FUNCTIONS:
        raise ValueError(
            f"formulas: expected one of {', '.join(FUNCTIONS)}, received {name!r}; fastkan.formulas.add_function adds others"
        )
    return FUNCTIONS[name]
