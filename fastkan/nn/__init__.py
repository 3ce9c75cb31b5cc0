"""Modules: parameters and initialisation, and in `replace` the exchange of nn.Linear; all arithmetic is in fastkan.functional."""

from fastkan.nn.functions import FUNCTIONS, Function
from fastkan.nn.grid import GridChange
from fastkan.nn.kan import KAN
from fastkan.nn.linear import KANLinear
from fastkan.nn.nodes import Columns, Products
from fastkan.nn.pointwise import KANPointwise
from fastkan.nn.state import load_state_dict
from fastkan.nn.symbolic import SymbolicEdges

__all__ = [
    "FUNCTIONS",
    "KAN",
    "Columns",
    "Function",
    "GridChange",
    "KANLinear",
    "KANPointwise",
    "Products",
    "SymbolicEdges",
    "load_state_dict",
]
