"""replace_linear: swap the linear blocks of a model for KAN layers."""

from fastkan.nn.replace.report import ReplaceReport
from fastkan.nn.replace.restore import describe, restore
from fastkan.nn.replace.swap import replace_linear

__all__ = ["ReplaceReport", "describe", "replace_linear", "restore"]
