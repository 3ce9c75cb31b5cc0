"""The same bits a hundred times over, whatever else the GPU does."""

import pytest
import torch
from contract.cases import Case, make_inputs
from gpu.operations import DTYPES, call

import fastkan
from fastkan.ops import OPERATIONS

pytestmark = pytest.mark.gpu
REPEATS = 100
CASES = (Case(65, 37, 19, row_weight=True), Case(700, 9, 33, row_weight=True), Case(4096, 64, 128), Case(20000, 8, 16))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_operation(name, dtype, case, serving):
    tensors = make_inputs(case, dtype, "cuda")
    first = call(name, case, tensors, serving)
    other, noise = torch.cuda.Stream(), torch.randn(1024, 1024, device="cuda")
    for k in range(REPEATS):
        with torch.cuda.stream(other):
            for _ in range(k % 3):
                noise @ noise  # blocks of another kernel: the order in which ours run changes
        assert torch.equal(call(name, case, tensors, serving), first), f"repeat {k}"


def test_training_step(serving):
    layer = fastkan.KANLinear(37, 65, device="cuda", dtype=torch.bfloat16, backend=serving)
    x = torch.randn(1000, 37, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    cotangent = torch.randn(1000, 65, device="cuda", dtype=torch.bfloat16)

    def step():
        y = layer(x)
        return y, *torch.autograd.grad(y, (x, *layer.parameters()), cotangent)

    first = step()
    for k in range(REPEATS):
        assert all(torch.equal(a, b) for a, b in zip(step(), first, strict=True)), f"repeat {k}"
