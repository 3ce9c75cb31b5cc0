"""The operations for callers: a family closed under differentiation, in reverse and forward mode, to any order.

    forward_nu(x, weight; row_weight)    grad_input_nu(x, weight, grad_output)    grad_weight_nu(x, grad_output; row_weight)
    gram_nu,mu(x; row_weight)            quadratic_nu,mu(x, form), the adjoint of gram        (docs/design.md, section 3)

Each derivative of one of them is a sum of the same five with nu + 1 and the cotangents in the places of weight, grad_output,
form or row_weight. `stack` is several layers in one call, `jet` a layer with its derivatives.
"""

from fastkan.backends import check_name, resolve
from fastkan.ops import flops
from fastkan.ops.exported import EXPORTED
from fastkan.ops.jet import Inputs as JetInputs
from fastkan.ops.jet import jet
from fastkan.ops.kept import knots_over
from fastkan.ops.registration import raw
from fastkan.ops.routes import routed
from fastkan.ops.stack import stack
from fastkan.ops.table import OPERATIONS
from fastkan.ops.torch_private import swap_tensor
from fastkan.ops.watched import grad_weight_call

forward, grad_input, grad_weight = routed["forward"], routed["grad_input"], routed["grad_weight"]
gram, quadratic = routed["gram"], routed["quadratic"]

flops.register()

__all__ = [
    "EXPORTED",
    "OPERATIONS",
    "JetInputs",
    "check_name",
    "forward",
    "grad_input",
    "grad_weight",
    "grad_weight_call",
    "gram",
    "jet",
    "knots_over",
    "quadratic",
    "raw",
    "resolve",
    "stack",
    "swap_tensor",
]
