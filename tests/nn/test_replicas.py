"""Copies of a layer in several processes stay on one grid."""

import pytest
import torch
from torchrun import in_two_processes

SCRIPT = """
def same(tensor):
    others = [torch.empty_like(tensor) for _ in range(2)]
    dist.all_gather(others, tensor.detach())
    return torch.equal(*others)


def refusal(act):
    try:
        act()
    except (RuntimeError, ValueError) as error:
        return str(error)
    return 'nothing was refused'


torch.manual_seed(0)
net, alone = fastkan.KAN([2, 3, 1]), fastkan.KAN([2, 3, 1])
alone.load_state_dict(net.state_dict())
x = torch.randn(300, 2)
rows = slice(0, 100) if rank == 0 else slice(100, 300)
ddp = DistributedDataParallel(net)
ddp.module.update_grid(x[rows])
assert all(same(tensor) for tensor in (*net.parameters(), *net.buffers()))
assert net[0].knots.double().min() < x[:, 0].min(), 'the samples of both ranks count'

before = net[0].knots.clone()
message = refusal(lambda: net.update_grid(x[:0]))
assert 'expected at least one row' in message, message
net.update_grid(x if rank else x[:0])
assert all(same(tensor) for tensor in net.buffers())
bad = x[rows].clone()
bad[0, 0] = float('nan') if rank else bad[0, 0]
message = refusal(lambda: net.update_grid(bad))
assert 'received 1 of 300 rows with NaN' in message, message

message = refusal(lambda: net.refine(10))
assert 'outside DistributedDataParallel' in message, message
assert net[0].grid_size == 5
ddp(x[rows]).sum().backward()
del ddp
net.refine(10)
ddp = DistributedDataParallel(net)
ddp(x[rows]).square().mean().backward()
assert all(same(parameter.grad) for parameter in net.parameters())

layer = fastkan.KANLinear(2, 3)
with torch.no_grad():
    layer.knots.add_(rank)
message = refusal(lambda: layer.update_grid(x[rows]))
assert 'copies of one layer on all ranks, received different knots' in message, message
message = refusal(lambda: fastkan.KANLinear(2, 3, grid_size=5 + rank).update_grid(x[rows]))
assert 'copies of one layer on all ranks, received knots of shapes (2, 12), (2, 13)' in message, message

from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
sharded = fastkan.KAN([2, 4, 2])
fully_shard(sharded, mesh=init_device_mesh('cpu', (2,)))
for act in (lambda: sharded.update_grid(x[rows]), lambda: sharded.refine(10), lambda: fastkan.refine(sharded, 10)):
    message = refusal(act)
    assert 'weight: expected a plain parameter, received a DTensor' in message, message
print('agreed', flush=True)
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_keep_one_grid(tmp_path):
    output = in_two_processes(tmp_path, SCRIPT)
    assert output.count("agreed") == 2, output
