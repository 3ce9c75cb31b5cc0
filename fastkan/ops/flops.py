"""How many FLOPs an operation takes: one count, for `python -m fastkan profile` and for torch.utils.flop_counter.

A multiply-add is two. Counted is the contraction over the slots that are not zero, degree + 2 of them with the base slot.
Evaluating the slots is not counted, nor is a bias or a row weight.
"""

import math
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

from fastkan.ops.table import FUSED_NAME, FUSED_TENSORS, OPERATIONS, Operation

COUNTER = "torch.utils.flop_counter"


def contraction(rows: int, in_features: int, slots: int, out_features: int) -> int:
    """FLOPs of one operation that multiplies `slots` of an input's slots; those of gram and quadratic are its outputs too."""
    return 2 * rows * in_features * slots * out_features


def _formula(operation: Operation) -> Callable[..., int]:
    def flops(*arguments: Any, out_val: Any) -> int:
        tensors, settings, _ = operation.split(arguments)
        sizes, slots = operation.sizes(tensors, settings), settings.degree + 2
        calls = tensors[0].shape[:-2].numel()
        return contraction(calls * sizes["B"], sizes["I"], slots, sizes.get("O", slots))

    return flops


def _fused_formula(*arguments: Any, out_val: Any) -> int:
    """Each result that is wanted is one operation."""
    *calls, in_features = arguments[0].shape  # rows of one layer, or of several
    rows, out_features = math.prod(calls), arguments[1].shape[-1]
    degree, wanted = arguments[len(FUSED_TENSORS) + 1], arguments[-1]
    return sum(wanted) * contraction(rows, in_features, degree + 2, out_features)


def _register_with(counter: ModuleType) -> None:
    formulas = {operation.torch_name: _formula(operation) for operation in OPERATIONS.values()}
    for name, formula in {**formulas, FUSED_NAME: _fused_formula}.items():
        counter.register_flop_formula(getattr(torch.ops.fastkan, name), get_raw=True)(formula)


class _WhenImported(MetaPathFinder):
    """Registers the formulas as soon as someone imports the counter. Its import takes long, so it is not for all users."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != COUNTER:
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in found if spec), None)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register_with(module)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Make torch.utils.flop_counter count the operations, now or when it is imported."""
    if COUNTER in sys.modules:
        _register_with(sys.modules[COUNTER])
    else:
        sys.meta_path.insert(0, _WhenImported())
