"""Threads, forks, workers and the one OpenMP runtime, with torch in the process as users have it."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from limits import HANG
from torchrun import in_two_processes

import fastkan
from fastkan import backends

CORE = pytest.mark.skipif(backends.native.module is None, reason="the native module is not built")
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture(autouse=True)
def two_threads():
    """Here and in children: with the one thread that make test gives to a process there is no pool to fork."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def run(code):
    command, environment = [sys.executable, "-c", code], os.environ | {"OMP_NUM_THREADS": "2"}
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False, env=environment)


@CORE
@LINUX
def test_one_openmp_runtime():
    code = """
import fastkan, torch
fastkan.KANLinear(64, 64)(torch.randn(512, 64)); torch.randn(512, 512) @ torch.randn(512, 512)
maps = {line.split()[-1] for line in open('/proc/self/maps') if 'omp' in line.split()[-1].rsplit('/', 1)[-1]}
print(len({name.rsplit('/', 1)[-1].split('.so')[0] for name in maps}), 'torch' in ' '.join(maps))
"""
    result = run(code)
    assert result.stdout.split() == ["1", "True"], result.stdout + result.stderr


@CORE
@LINUX
def test_import_brings_no_cuda_runtime_and_no_libtorch_link():
    core = backends.native.module.__file__
    linked = subprocess.run(["readelf", "-d", core], capture_output=True, text=True, check=True).stdout
    needed = [line.split("[")[1].rstrip("]") for line in linked.splitlines() if "NEEDED" in line]
    assert not [name for name in needed if any(word in name for word in ("torch", "c10", "cuda", "nvrtc"))], needed
    assert "RPATH" not in linked and "RUNPATH" not in linked


@CORE
@LINUX
@pytest.mark.parametrize(("threads", "expected"), [(1, 0), (2, 1)])
def test_thread_count_is_respected(threads, expected):
    """Forward and backward bring up exactly the threads that torch.set_num_threads allows; backward itself has one of its own."""
    code = f"""
import os, torch, fastkan
from fastkan import backends, ops
torch.set_num_threads({threads})
x, weight, knots = torch.randn(4096, 32), torch.randn(32, 9, 64), torch.linspace(-2, 2, 12).repeat(32, 1)
before = len(os.listdir('/proc/self/task'))
for _ in range(3):
    y = ops.forward(x, weight, None, knots, 3, 'silu', 'cpu', 0)
    ops.grad_input(x, weight, y, knots, 3, 'silu', 'cpu', 1)
    ops.grad_weight(x, y, None, knots, 3, 'silu', 'cpu', 0)
    ops.gram(x, None, knots, 3, 'silu', 'cpu', 0, 0)
print(len(os.listdir('/proc/self/task')) - before)
"""
    result = run(code)
    assert result.stdout.strip() == str(expected), result.stdout + result.stderr


@CORE
def test_subnormals_survive_the_import():
    assert run("import fastkan; print(1e-310 * 1.0 != 0.0)").stdout.strip() == "True"


@LINUX
def test_fork_after_use():
    """A child of a process that has used OpenMP trains on, with the parent's bits."""
    code = """
import os, sys, torch, fastkan
torch.manual_seed(0)
layer, x = fastkan.KANLinear(32, 32), torch.randn(600, 32)
layer(x).sum().backward()
expected = layer.weight.grad.clone()
for _ in range(5):
    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        layer.weight.grad = None
        layer(x).sum().backward()
        os._exit(not torch.equal(layer.weight.grad, expected))
    assert os.waitpid(child, 0)[1] == 0
print('fine')
"""
    if "cpu" not in backends.available("cpu"):
        pytest.skip("the native module is not built")
    result = run(code)
    assert result.stdout.strip() == "fine", result.stderr


def test_several_python_threads(backend):
    layer = fastkan.KANLinear(16, 24, backend=backend)
    inputs = [torch.randn(50, 16) for _ in range(16)]
    expected = [layer(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(layer, inputs * 4))
    assert all(torch.equal(a, expected[k % 16]) for k, a in enumerate(answers))


class Batches(torch.utils.data.Dataset):
    """A data set that runs a layer in its worker."""

    def __init__(self):
        self.layer = fastkan.KANLinear(4, 2)

    def __len__(self):
        return 6

    def __getitem__(self, index):
        with torch.no_grad():
            return self.layer(torch.full((4,), index / 6))


def test_data_loader_workers():
    data = Batches()
    data.layer(torch.randn(500, 4))  # the parent's pool is up before the fork
    loaded = torch.cat(list(torch.utils.data.DataLoader(data, batch_size=3, num_workers=2)))
    expected = torch.stack([data[k] for k in range(6)])
    torch.testing.assert_close(loaded, expected)


TRAIN = """
assert dist.get_world_size() == 2
torch.manual_seed(0)
layer, x, target = fastkan.KANLinear(8, 4), torch.randn(64, 8), torch.randn(64, 4)
alone = fastkan.KANLinear(8, 4)
alone.load_state_dict(layer.state_dict())

def step(module, rows):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    (module(x[rows]) - target[rows]).square().mean().backward()
    optimizer.step()

step(DistributedDataParallel(layer), slice(rank * 32, rank * 32 + 32))
step(alone, slice(0, 64))
for mine, right in zip(layer.parameters(), alone.parameters(), strict=True):
    torch.testing.assert_close(mine, right)
print('trained', flush=True)
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_distributed_data_parallel(tmp_path):
    """Two processes with half of the rows each take the step that one takes with all of them."""
    output = in_two_processes(tmp_path, TRAIN)
    assert output.count("trained") == 2, output
