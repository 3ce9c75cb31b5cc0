"""When the 2:4 sparse forward serves, and what it keeps with weights and grids.

The kernel itself is proven in tests/emulated/ptx.
"""

import gc

import pytest
import torch

from fastkan import experimental
from fastkan.experimental import two_four
from fastkan.splines import knots as grids

X, WEIGHT = torch.zeros(6, 3), torch.zeros(3, 9, 4, dtype=torch.bfloat16)
KNOTS = grids.uniform(3, 5, 3, (-1.0, 1.0)).float()


class Core:
    """The native module, as far as these calls go: it writes down what it is asked for."""

    def __init__(self):
        self.packs, self.forwards = [], []

    def cuda_two_four_bytes(self, inputs, slots, outputs):
        return 64

    def cuda_two_four_pack(self, *arguments):
        self.packs.append(arguments)

    def cuda_two_four_forward(self, *arguments):
        self.forwards.append(arguments)


@pytest.fixture
def core():
    return Core()


@pytest.fixture
def forward(core):
    usual = {"forward": lambda *arguments: "usual", "gram": "gram"}
    operations = two_four.in_front(usual, core, lambda tensor: (0, 7))
    assert operations["gram"] == "gram"
    return operations["forward"]


def call(forward, x=X, weight=WEIGHT, row_weight=None, knots=KNOTS, degree=3, nu=0):
    return forward(x, weight, row_weight, knots, degree, "silu", nu)


def test_nothing_is_served_unasked(forward, core):
    assert two_four.MEASURED == {}  # until a GPU has run it
    assert call(forward) == "usual" and not core.forwards


def test_forced_calls_reach_the_core(forward, core):
    with experimental.use(two_four="small"):
        y = call(forward)
    assert y.shape == (6, 4) and y.dtype == torch.bfloat16
    assert core.packs[0][2:] == (3, 9, 4, "bfloat16", "bfloat16", 0, 7)
    assert core.forwards[0][4:] == (6, 3, 4, 12, "silu", "float32", "bfloat16", "bfloat16", "small", 0, 7)
    with experimental.use(two_four="large", round_to=torch.float16):
        assert call(forward, weight=WEIGHT.float()).dtype == torch.float32
    assert core.forwards[1][9:13] == ("float32", "float16", "float32", "large")
    assert call(forward) == "usual"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"degree": 2}, "degree 2"),
        ({"nu": 1}, "nu 1"),
        ({"row_weight": X}, "row weight True"),
        ({"weight": WEIGHT.float()}, "received a weight in torch.float32"),
        ({"x": X.double()}, "received torch.float64"),
        ({"x": X.half()}, "received torch.float16"),
        ({"x": X[:0]}, "there is no x"),
        ({"knots": KNOTS**3}, "not uniform"),
    ],
)
def test_a_forced_call_that_cannot_be_says_why(forward, changed, reason):
    with experimental.use(two_four="large"), pytest.raises(RuntimeError, match=reason):
        call(forward, **changed)


def test_forced_checks_its_tile():
    with pytest.raises(ValueError, match="small, large or None, received 'huge'"), experimental.use(two_four="huge"):
        pass


def test_the_table_is_data(monkeypatch):
    """Whatever stands in it is served, on that GPU, in that class of shapes."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    x, weight = (torch.empty(shape, dtype=torch.float16, device="meta") for shape in ((4096, 64), (64, 9, 256)))
    monkeypatch.setattr(type(x), "is_cuda", True, raising=False)
    assert two_four.tile_for(x, weight, None, 3, 0) == (None, torch.float16)
    monkeypatch.setitem(two_four.MEASURED, "GPU", {two_four.key(torch.float16, (5000, 64, 256, 8)): "large"})
    assert two_four.tile_for(x, weight, None, 3, 0) == ("large", torch.float16)
    assert two_four.tile_for(x, weight, None, 3, 1) == (None, torch.float16)
    assert two_four.tile_for(x[:100], weight, None, 3, 0) == (None, torch.float16)


def test_a_weight_is_packed_once_a_version(forward, core):
    weight = torch.nn.Parameter(WEIGHT.clone())
    with experimental.use(two_four="large"), torch.no_grad():
        call(forward, weight=weight)
        call(forward, weight=weight)
        assert len(core.packs) == 1
        weight.add_(1)
        call(forward, weight=weight)
        assert len(core.packs) == 2
        weight.data = WEIGHT.clone()  # no new version, but new memory
        call(forward, weight=weight)
        assert len(core.packs) == 3
        weight.data.add_(1)  # seen by nobody
        call(forward, weight=weight)
        assert len(core.packs) == 3
        two_four.packed_weights.forget(weight)
        call(forward, weight=weight)
        assert len(core.packs) == 4
        call(forward, weight=weight.view(3, 9, 4))  # another tensor of the same memory
        assert len(core.packs) == 5


def test_packed_weights_are_freed_with_their_weight(forward, core):
    gc.collect()
    before, weight = len(two_four.packed_weights), WEIGHT.clone()
    with experimental.use(two_four="large"):
        call(forward, weight=weight)
    assert len(two_four.packed_weights) == before + 1
    del weight
    gc.collect()
    assert len(two_four.packed_weights) == before


def test_inference_tensors_have_no_version_and_are_packed_anew(forward, core):
    with torch.inference_mode(), experimental.use(two_four="large"):
        weight = WEIGHT.clone()
        call(forward, weight=weight)
        call(forward, weight=weight)
    assert len(core.packs) == 2


@pytest.mark.parametrize("grid_size", range(1, 60))
def test_nothing_is_inside_from_the_last_knot_on(grid_size):
    """(last - first) / h, rounded as the kernel rounds it, is never below the number of intervals."""
    starts = torch.linspace(-3, 1, 40)
    knots = torch.stack([s + torch.arange(grid_size + 7) * (0.01 + 0.1 * s.abs()) for s in starts])
    table = two_four.grid_table(knots)
    width = (knots[:, -1] - knots[:, 0]).double()
    intervals = width * table[:40, 1].double()
    assert (intervals >= grid_size + 6).all() and (intervals < (grid_size + 6) * (1 + 2e-7)).all()
    assert table.shape == (48, 2) and not table[40:].any() and torch.equal(table[:40, 0], knots[:, 0])


def test_other_grids_have_no_table():
    assert two_four.grid_table(KNOTS.flip(1)) is None
    assert two_four.grid_table(torch.cat((KNOTS[:, :4], KNOTS[:, 3:]), dim=1)) is None
    assert two_four.grid_table(KNOTS + 1e6) is None
