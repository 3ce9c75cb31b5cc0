"""Programs of torch.export without fastkan's operations."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fastkan import ops


def decompositions() -> dict[Any, Callable[..., Tensor]]:
    """A table for torch.export.ExportedProgram.run_decompositions that turns fastkan's operations into PyTorch's own.

    A new dict, of fastkan's operations alone: torch.export.default_decompositions() | fastkan.export.decompositions() takes the
    other operators apart as well.

    >>> import torch, fastkan
    >>> program = torch.export.export(fastkan.KAN([2, 1]), (torch.rand(3, 2),))
    >>> any("fastkan" in str(node.target) for node in program.graph.nodes)
    True
    >>> program = program.run_decompositions(fastkan.export.decompositions())
    >>> any("fastkan" in str(node.target) for node in program.graph.nodes)
    False
    """
    return {ops.raw[name]: function for name, function in ops.EXPORTED.items()}
