"""replace_linear on wrapped models: refused, with the right order of calls."""

import pytest
import torch
from torch import nn

from fastkan import replace_linear


class FullyShardedDataParallel(nn.Module):  # the true one needs a process group
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)


WRAPPERS = {
    nn.DataParallel: "DataParallel(model)",
    FullyShardedDataParallel: "FullyShardedDataParallel(model)",
    torch.compile: "torch.compile(model)",
}


@pytest.mark.parametrize("wrap, call", WRAPPERS.items(), ids=list(WRAPPERS.values()))
def test_a_wrapped_model_is_refused_with_the_right_order_of_calls(wrap, call):
    inner = nn.Sequential(nn.Linear(4, 4))
    wrapped = wrap(inner)
    kind = type(wrapped).__name__
    with pytest.raises(ValueError, match=f"^model: expected a model before it is wrapped, received {kind}") as caught:
        replace_linear(wrapped)
    assert str(caught.value).endswith(f"call replace_linear(model) first, then {call}")
    report = replace_linear(nn.ModuleDict({"body": wrapped, "head": nn.Linear(4, 2)}))
    assert report.replaced == ["head"]
    assert list(report.refused.values()) == [f"it is inside {kind}; call replace_linear(model) first, then {call}"]
    assert type(inner[0]) is nn.Linear
    assert replace_linear(inner).replaced == ["0"]
    assert wrap(inner)(torch.ones(2, 4)).shape == (2, 4)


@pytest.fixture
def one_rank():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_model_inside_distributed_data_parallel_is_refused_by_either_name(one_rank):
    inner = nn.Sequential(nn.Linear(4, 4))
    wrapped = nn.parallel.DistributedDataParallel(inner)
    for model in (wrapped, inner):
        with pytest.raises(ValueError, match=r"call replace_linear\(model\) first, then DistributedDataParallel\(model\)"):
            replace_linear(model)
    assert type(inner[0]) is nn.Linear
    del wrapped
    assert replace_linear(inner).replaced == ["0"]


class FSDPModule:  # what fully_shard gives a module's class as another parent
    pass


class FSDPLinear(FSDPModule, nn.Linear):
    pass


def test_a_block_that_fully_shard_has_taken_is_refused_as_such():
    reason = "it is inside FSDPLinear; call replace_linear(model) first, then fully_shard(model)"
    assert replace_linear(nn.Sequential(FSDPLinear(4, 4))).refused == {"0": reason}
