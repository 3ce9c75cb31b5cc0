"""Programs of torch.export in a process that cannot import fastkan."""

import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn

import fastkan
from fastkan import KAN, KANLinear

BATCHES = (1, 5, 0)
WITHOUT_FASTKAN = """
import sys
sys.modules["fastkan"] = None  # its import fails
import torch
path, inputs, outputs = sys.argv[1:]
xs, ys = torch.load(inputs), torch.load(outputs)
if path.endswith("aoti.pt2"):
    run = torch._inductor.aoti_load_package(path)
else:
    run = torch.export.load(path).module()
for x, y in zip(xs, ys, strict=True):
    torch.testing.assert_close(run(x), y, rtol=1e-5, atol=1e-5, equal_nan=True)
assert not hasattr(torch.ops.fastkan, "kan_linear")
"""


def model():
    """Grids that moved, a bias, product nodes, an edge that is gone and one that is a formula."""
    torch.manual_seed(0)
    net = KAN([3, (2, 1), 2], degree=2, bias=True)
    net.update_grid(torch.randn(50, 3))
    net.layers[0].set_mask(torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]).bool())
    net.layers[1].set_symbolic({(0, 1): ("sin", (3.0, 0, 1, 0))})
    return nn.Sequential(net, KANLinear(2, 2, activation="gelu")).eval().requires_grad_(False)


def exported(net):
    batch = torch.export.Dim("batch", min=0)
    program = torch.export.export(net, (torch.randn(4, 3),), dynamic_shapes=({0: batch},))
    return program.run_decompositions(fastkan.export.decompositions())


def samples():
    xs = [2 * torch.randn(rows, 3) for rows in BATCHES]
    special = torch.randn(6, 3)
    special[0, 0], special[1, 1], special[2, 2] = float("nan"), float("inf"), -float("inf")
    return [*xs, special]


def check_elsewhere(net, path, tmp_path):
    xs = samples()
    torch.save(xs, tmp_path / "x.pt")
    torch.save([net(x) for x in xs], tmp_path / "y.pt")
    command = [sys.executable, "-c", WITHOUT_FASTKAN, str(path), str(tmp_path / "x.pt"), str(tmp_path / "y.pt")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_saved_program_runs_without_fastkan(tmp_path):
    net = model()
    torch.export.save(exported(net), tmp_path / "net.pt2")
    check_elsewhere(net, tmp_path / "net.pt2", tmp_path)


def test_a_program_with_fastkan_in_it_does_not(tmp_path):
    """So that the test above can fail."""
    net = KANLinear(3, 2)
    torch.export.save(torch.export.export(net, (torch.randn(5, 3),)), tmp_path / "net.pt2")
    with pytest.raises(AssertionError, match="fastkan"):
        check_elsewhere(net, tmp_path / "net.pt2", tmp_path)


@pytest.mark.proof
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a C++ compiler")
def test_an_aotinductor_package_runs_without_fastkan(tmp_path):
    net = model()
    path = torch._inductor.aoti_compile_and_package(exported(net), package_path=str(tmp_path / "aoti.pt2"))
    check_elsewhere(net, path, tmp_path)


def test_the_table_is_new_and_names_only_operations_of_fastkan():
    table = fastkan.export.decompositions()
    table.clear()
    assert {op.namespace for op in fastkan.export.decompositions()} == {"fastkan"}
    assert set(fastkan.export.decompositions()) == set(fastkan.ops.raw.values())


class Transformed(nn.Module):
    """Rows by vmap, or an ensemble, whose calls are several at once."""

    def __init__(self, members):
        super().__init__()
        self.nets = nn.ModuleList(fastkan.KAN([2, 3, 1]) for _ in range(members)).requires_grad_(False)
        self.parameters_of, self.buffers_of = torch.func.stack_module_state(list(self.nets))

    def forward(self, x):
        net = self.nets[0]
        if len(self.nets) == 1:
            return torch.func.vmap(net)(x)
        states = {name: p.detach() for name, p in self.parameters_of.items()}, self.buffers_of
        return torch.func.vmap(lambda p, b: torch.func.functional_call(net, (p, b), (x,)))(*states)


@pytest.mark.parametrize("members", [1, 3])
def test_a_vmap_inside(members):
    model, x = Transformed(members), torch.rand(5, 2)
    program = torch.export.export(model, (x,), strict=False)
    calls = [node.target for node in program.graph.nodes]
    assert calls.count(torch.ops.fastkan.kan_linear.default) == 2
    plain = program.run_decompositions(fastkan.export.decompositions())
    assert not any("fastkan" in str(node.target) for node in plain.graph.nodes)
    for made in (program, plain):
        torch.testing.assert_close(made.module()(x), model(x))
