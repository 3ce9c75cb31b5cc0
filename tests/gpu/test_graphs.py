"""CUDA graphs: captured once, replayed on other numbers with the bits of an eager call.

The reference is left out: whether PyTorch's own operators can be captured is PyTorch's business.
"""

import pytest
import torch
from contract.cases import Case, make_inputs
from gpu.operations import DTYPES, call

import fastkan
from fastkan.ops import OPERATIONS

pytestmark = pytest.mark.gpu
CASE = Case(257, 19, 33, row_weight=True)


def captured(function):
    """(graph, its outputs); warmed up on another stream first, as PyTorch's documentation asks for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function()
    return graph, outputs


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_operation(name, dtype, fused):
    tensors = make_inputs(CASE, dtype, "cuda")
    graph, output = captured(lambda: call(name, CASE, tensors, fused))
    for seed in (1, 2):
        for key, values in make_inputs(CASE, dtype, "cuda", seed).items():
            tensors[key].copy_(values)
        output.fill_(torch.nan)
        graph.replay()
        assert torch.equal(output, call(name, CASE, tensors, fused))


def test_large_forward(fused):
    """A tile shape that small cases do not reach."""
    case = Case(2048, 128, 256)
    tensors = make_inputs(case, torch.bfloat16, "cuda")
    graph, output = captured(lambda: call("forward", case, tensors, fused))
    tensors["x"].neg_()
    graph.replay()
    assert torch.equal(output, call("forward", case, tensors, fused))


def network(backend):
    torch.manual_seed(0)
    return fastkan.KAN([5, 16, 3], backend=backend).cuda()


def test_training_step(fused):
    """Forward, backward and the optimizer's step in one graph: five replays are five eager steps."""
    eager, graphed = network(fused), network(fused)
    batches = torch.randn(5, 64, 5, device="cuda")
    target = torch.randn(64, 3, device="cuda")
    x = batches[0].clone()

    def trainer(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def step():
            optimizer.zero_grad(set_to_none=True)
            loss = (model(x) - target).square().mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    start = [p.detach().clone() for p in graphed.parameters()]
    graph, _ = captured(trainer(graphed))
    with torch.no_grad():
        for p, before in zip(graphed.parameters(), start, strict=True):  # take back the steps of the warm-up
            p.copy_(before)
    step = trainer(eager)
    for batch in batches:
        x.copy_(batch)
        step()
        graph.replay()
    torch.cuda.synchronize()
    for p, q in zip(eager.parameters(), graphed.parameters(), strict=True):
        assert torch.equal(p, q)
    assert any(not torch.equal(p, before) for p, before in zip(graphed.parameters(), start, strict=True))
