"""The expression that a model of formulas is, and its code in Python, C and LaTeX."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastkan.formulas.algebra import algebra, applied, exact, in_torch
from fastkan.nn import KAN, KANLinear
from fastkan.nn.edges import present
from fastkan.nn.grid import normal_tensors
from fastkan.nn.stack import columns, in_features, stages

LONG = 200  # operations of an expression from which on it is not taken apart to be made shorter


class Expressions:
    """Expressions of sympy, one an output, in the given symbols. Called with x [..., I], they give [..., O] in x's dtype."""

    def __init__(self, expressions: Sequence[Any], variables: Sequence[Any]) -> None:
        self.expressions, self.variables = list(expressions), list(variables)
        self._call = in_torch(self.expressions, *self.variables)

    def __repr__(self) -> str:
        return "\n".join(map(str, self.expressions))

    def _repr_latex_(self) -> str:
        return "$$" + r" \\ ".join(self.latex()) + "$$"

    def __call__(self, x: Tensor) -> Tensor:
        y = self._call(*x.unbind(-1))
        parts = [y] if len(self.expressions) == 1 else y
        return torch.stack([torch.as_tensor(part, dtype=x.dtype, device=x.device).expand(x.shape[:-1]) for part in parts], dim=-1)

    def latex(self) -> list[str]:
        """LaTeX, one an output."""
        return [algebra().latex(expression) for expression in self.expressions]

    def lambdify(self, modules: str = "numpy") -> Any:
        """A function of one array a variable, in numpy, math, scipy or what sympy.lambdify knows; a list for several outputs."""
        one = self.expressions[0] if len(self.expressions) == 1 else self.expressions
        return algebra().lambdify(self.variables, one, modules=modules)

    def python(self, name: str = "f") -> str:
        """Source of a function of numbers in Python, which needs `math` alone. Several outputs are a tuple."""
        pycode = algebra().pycode
        result = ", ".join(pycode(self._real(expression)) for expression in self.expressions)
        arguments = ", ".join(pycode(variable) for variable in self.variables)
        return f"import math\n\n\ndef {name}({arguments}):\n    return {result}\n"

    def c(self, name: str = "f") -> str:
        """Source of a C99 function `void f(const double x[I], double y[O])`."""
        sympy = algebra()
        read = "".join(f"    const double {sympy.ccode(v)} = x[{k}];\n" for k, v in enumerate(self.variables))
        used = set().union(*(expression.free_symbols for expression in self.expressions))
        read += "".join(f"    (void){sympy.ccode(v)};\n" for v in self.variables if v not in used)
        write = "".join(f"    y[{k}] = {sympy.ccode(self._real(expression))};\n" for k, expression in enumerate(self.expressions))
        sizes = len(self.variables), len(self.expressions)
        return f"#include <math.h>\n\nvoid {name}(const double x[{sizes[0]}], double y[{sizes[1]}])\n{{\n{read}{write}}}\n"

    def simplified(self, x: Tensor, tolerance: float = 1e-9) -> "Expressions":
        """Shorter expressions, whose values at x [B, I] differ by at most tolerance, relative to their largest."""
        sympy = algebra()
        ways = (sympy.factor_terms, sympy.expand, sympy.powsimp, sympy.logcombine, sympy.trigsimp, sympy.factor, sympy.simplify)
        found = []
        for expression in self.expressions:
            best, want = expression, Expressions([expression], self.variables)(x)
            for way in ways if sympy.count_ops(expression) <= LONG else ():
                shorter = way(expression)
                if sympy.count_ops(shorter) < sympy.count_ops(best):
                    got = Expressions([shorter], self.variables)(x)
                    if bool(((got - want).abs() <= tolerance * want.abs().max()).all()):
                        best = shorter
            found.append(best)
        return Expressions(found, self.variables)

    @staticmethod
    def _real(expression: Any) -> Any:
        """The expression, whose functions C and Python have."""
        from sympy.core.function import AppliedUndef

        if unknown := expression.atoms(AppliedUndef):
            raise ValueError(f"expressions: expected functions that sympy knows, received {', '.join(map(str, unknown))}")
        return expression


# ---- from a model


def _affine_of(scaler: Any, size: int, name: str) -> tuple[list[float], list[float]]:
    """(scale, shift) of a scaler: what it makes of v is scale v + shift. A pair (mean, deviation) is one too."""
    if isinstance(scaler, tuple | list) and len(scaler) == 2:
        mean, deviation = (torch.as_tensor(part, dtype=torch.float64).expand(size) for part in scaler)
        return (1 / deviation).tolist(), (-mean / deviation).tolist()
    if not hasattr(scaler, "transform"):
        raise TypeError(f"{name}: expected (mean, deviation) or an object with transform, received {type(scaler).__name__}")
    points = [torch.full((1, size), value, dtype=torch.float64).numpy() for value in (0.0, 1.0, 2.0)]
    zero, one, two = (torch.as_tensor(scaler.transform(point)).double().reshape(-1) for point in points)
    if zero.shape != (size,) or not torch.allclose(two - one, one - zero, rtol=1e-9, atol=1e-12):
        raise ValueError(f"{name}: expected a scaler that is a straight line in each of {size} columns")
    return (one - zero).tolist(), zero.tolist()


def _sum_of(layer: KANLinear, o: int, inputs: Sequence[Any]) -> Any:
    total = exact(0.0 if layer.bias is None else layer.bias[o].item())
    if layer.symbolic is not None:
        for (i, out, name), affine in zip(layer.symbolic.edges, layer.symbolic.affine.tolist(), strict=True):
            if out == o:
                a, b, c, d = map(exact, affine)
                total += c * applied(name, a * inputs[i] + b) + d
    return total


def _symbols(variables: Sequence[Any] | None, size: int) -> list[Any]:
    sympy = algebra()
    if variables is None:
        return [sympy.Symbol(f"x{k + 1}", real=True) for k in range(size)]
    if len(variables) != size:
        raise ValueError(f"variables: expected {size}, one an input, received {len(variables)}")
    made = [sympy.Symbol(v, real=True) if isinstance(v, str) else v for v in variables]
    if not all(isinstance(v, sympy.Symbol) for v in made) or len(set(made)) != size:
        raise ValueError(f"variables: expected names or symbols, each once, received {list(variables)}")
    return made


@normal_tensors
def symbolic_formula(model: KAN, variables: Sequence[Any] | None = None, inputs: Any = None, outputs: Any = None) -> Expressions:
    """The expression that a model is whose edges are all formulas.

    variables: names or sympy symbols, one a column of x; None: x1, x2, ...
    inputs, outputs: what x and y were scaled with before the fit, which the expression undoes: scalers of scikit-learn whose
        columns are straight lines, or pairs (mean, deviation)
    returns: expressions, one an output, which print as such and give LaTeX, Python and C. Numbers are floats, but for those that
        are to their last digit a fraction or a simple multiple of pi, e or a root.
    raises: ValueError naming the edges that are splines; TypeError for a model that is no KAN

    >>> import fastkan
    >>> net = fastkan.KAN([2, 1], seed=0)
    >>> net[0].set_symbolic({(0, 0): ("sin", (2.0, 0, 1, 0)), (1, 0): ("x**2", (1, 0, 3, 0.5))})
    >>> fastkan.formulas.symbolic_formula(net, ["t", "v"])
    3*v**2 + sin(2*t) + 1/2
    """
    found = stages(model)
    splines = [(k, i, o) for k, stage in enumerate(found) for i, o in present(stage.layer).nonzero().tolist()]
    if splines:
        some = ", ".join(map(str, splines[:5])) + (", ..." if len(splines) > 5 else "")
        raise ValueError(
            f"model: expected formulas on all edges, received splines on (layer, input, output) {some}; see auto_symbolic"
        )
    size = in_features(model)
    symbols = _symbols(variables, size)
    values = list(symbols)
    if inputs is not None:
        scale, shift = _affine_of(inputs, size, "inputs")
        values = [exact(a) * v + exact(b) for a, b, v in zip(scale, shift, symbols, strict=True)]
    values = [values[k] for k in columns(model)]
    for layer, nodes in found:
        sums = [_sum_of(layer, o, values) for o in range(layer.out_features)]
        values, first = sums[: nodes.sums], nodes.sums
        for arity in nodes.arities:
            values.append(math.prod(sums[first : first + arity]))
            first += arity
    if outputs is not None:
        scale, shift = _affine_of(outputs, len(values), "outputs")
        values = [(value - exact(b)) / exact(a) for a, b, value in zip(scale, shift, values, strict=True)]
    return Expressions(values, symbols)
