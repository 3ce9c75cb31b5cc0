"""What a formula's search hands over to PySR."""

from collections.abc import Sequence
from typing import Any

from fastkan.formulas.algebra import algebra
from fastkan.formulas.expression import symbolic_formula
from fastkan.nn import KAN
from fastkan.nn.stack import in_features, stages

# PySR's names of operators, where they are not those of the library.
OPERATORS = {
    "1/x": "inv", "x**2": "square", "x**3": "cube", "asinh": "asinh", "gaussian": "gauss(x) = exp(-x^2)",
    "lorentz": "lorentz(x) = inv(1 + x^2)", "1/sqrt": "inv_sqrt(x) = inv(sqrt(x))", "1/x**2": "inv_square(x) = inv(x^2)",
}  # fmt: skip
SAME = {"sqrt", "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "atanh", "abs", "sign"}


def to_pysr(model: KAN, variables: Sequence[str] | None = None, **settings: Any) -> Any:
    """A PySRRegressor that goes on from a model of formulas: with the operators that it uses, and its expression as a guess.

    variables: names of the columns; None: x1, x2, ... Give the same to `fit(X, y, variable_names=...)`.
    settings: of the PySRRegressor, which override those made here
    raises: ImportError, saying what to install; ValueError where edges are splines

    PySR: Cranmer, arXiv:2305.01582.
    """
    try:
        from pysr import PySRRegressor
    except ImportError as error:
        raise ImportError("to_pysr: needs PySR, which brings Julia: pip install pysr") from error
    formula = symbolic_formula(model, variables)
    used = {name for stage in stages(model) if stage.layer.symbolic is not None for *_, name in stage.layer.symbolic.edges}
    unary = sorted(OPERATORS.get(name, name) for name in used if name in OPERATORS or name in SAME)
    text = str(formula.expressions[0].evalf()).replace("**", "^").replace("Abs", "abs")
    made: dict[str, Any] = {"binary_operators": ["+", "-", "*", "/"], "unary_operators": unary, "guesses": [text]}
    own = {"gauss": "exp(-x**2)", "lorentz": "1/(1 + x**2)", "inv_sqrt": "1/sqrt(x)", "inv_square": "1/x**2"}
    x = algebra().Symbol("x")
    defined = {
        name: algebra().Lambda(x, algebra().sympify(template))
        for name, template in own.items()
        if any(operator.startswith(f"{name}(") for operator in unary)
    }
    if defined:
        made["extra_sympy_mappings"] = defined
    assert len(formula.variables) == in_features(model)
    return PySRRegressor(**(made | settings))
