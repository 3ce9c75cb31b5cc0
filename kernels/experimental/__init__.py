"""Paths that no measurement has asked for yet; the switch is `fastkan.experimental.use`."""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from fastkan.experimental import chosen
from fastkan.kernels.experimental import scaled, unfused


def in_front(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The same operation, by the chosen experiment where it serves the call."""

    @functools.wraps(operation)
    def run(*arguments: Any) -> Any:
        choice = chosen()
        for wanted, path in ((choice.unfused, unfused), (choice.scaled_float16, scaled)):
            if wanted and all(value.numel() for value in arguments if isinstance(value, Tensor)):
                answer = getattr(path, operation.__name__)(*arguments)
                if answer is not None:
                    return answer
        return operation(*arguments)

    return run
