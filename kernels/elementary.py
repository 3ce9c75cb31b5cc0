"""exp, tanh and erfc for kernels: the vendor's device library, and numpy where Triton's interpreter runs the kernels."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl

from fastkan.kernels.devices import INTERPRETED


def _on_host(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], Any]:
    """The interpreter runs no device library, so it gets the function in numpy, of the same accuracy."""
    from triton.runtime.interpreter import TensorHandle

    def call(x: Any) -> Any:
        values = x.handle.data
        with np.errstate(over="ignore", under="ignore"):
            return tl.core.tensor(TensorHandle(function(values).astype(values.dtype), x.handle.dtype), x.type)

    return call


if INTERPRETED:
    exp, tanh, erfc = _on_host(np.exp), _on_host(np.tanh), _on_host(np.vectorize(math.erfc, otypes=[np.float64]))
else:
    from triton.language.extra.libdevice import erfc, exp, tanh  # noqa: F401
