"""Modules: parameters, initialisation and the exchange of nn.Linear; all arithmetic is in fastkan.functional."""

from fastkan.nn.kan import KAN
from fastkan.nn.linear import KANLinear
from fastkan.nn.replace import ReplaceReport, replace_linear

__all__ = ["KAN", "KANLinear", "ReplaceReport", "replace_linear"]
