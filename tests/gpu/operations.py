"""The five operations on one set of tensors, for tests that ask where and how often they run, not how exactly."""

from collections.abc import Callable

import torch
from contract.cases import Case, make_inputs
from torch import Tensor

from fastkan import ops
from fastkan.ops import OPERATIONS

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def call(name: str, case: Case, tensors: dict, backend: str, nu: int = 0) -> Tensor:
    operands = [tensors[k] for k in OPERATIONS[name].tensors]
    return getattr(ops, name)(
        *operands, tensors["knots"], case.degree, case.activation, backend, *(nu,) * len(OPERATIONS[name].orders)
    )


def prepared(case: Case, dtype: torch.dtype, device: str, backend: str) -> tuple[dict, Callable[[], list[Tensor]]]:
    """The tensors, and a call of all five operations on them."""
    tensors = make_inputs(case, dtype, device)
    return tensors, lambda: [call(name, case, tensors, backend) for name in OPERATIONS]


def same(answers: list[Tensor], others: list[Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(answers, others, strict=True))
