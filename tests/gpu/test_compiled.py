"""torch.compile(mode="reduce-overhead"): whole models in CUDA graphs, forward and backward, against eager calls."""

import pytest
import torch

import fastkan

pytestmark = pytest.mark.gpu


def test_training_with_reduced_overhead(fused):
    """Ten steps with other rows in each are those of eager mode; the graphs are captured in the first two or three."""

    def losses(compiler):
        torch.manual_seed(0)
        model = fastkan.KAN([5, 16, 3], backend=fused).cuda()
        run, optimizer, found = compiler(model), torch.optim.SGD(model.parameters(), lr=0.1), []
        for seed in range(10):
            x = torch.randn(64, 5, generator=torch.Generator().manual_seed(seed)).cuda()
            torch.compiler.cudagraph_mark_step_begin()
            optimizer.zero_grad()
            loss = (run(x) - x[:, :3]).square().mean()
            loss.backward()
            optimizer.step()
            found.append(loss.detach().clone())
        return torch.stack(found)

    expected = losses(lambda model: model)
    made = losses(lambda model: torch.compile(model, mode="reduce-overhead", fullgraph=True))
    torch.testing.assert_close(made, expected)
    assert expected[-1] < expected[0]


def test_answers_with_reduced_overhead(fused):
    model = fastkan.KAN([5, 16, 3], backend=fused).cuda()
    run = torch.compile(model, mode="reduce-overhead", fullgraph=True)
    with torch.no_grad():
        for seed in range(5):
            x = torch.randn(64, 5, generator=torch.Generator().manual_seed(seed)).cuda()
            torch.testing.assert_close(run(x).clone(), model(x))
