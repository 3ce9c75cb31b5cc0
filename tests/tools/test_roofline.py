"""The roofline of python -m fastkan profile: work and peaks against what is counted here, and nothing above the roof."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from roofs import make, make_peaks

from fastkan import KANLinear, backends, reference
from fastkan.tools.profile import command, peaks, roofline
from fastkan.tools.profile.peaks import Loop

# ---- what an operation costs


def test_needed_flops_are_those_of_the_slots_that_take_part():
    knots = KANLinear(6, 9, grid_size=4, degree=2).knots.double()
    x = torch.rand(50, 6, dtype=torch.float64) * 2 - 1
    nonzero = int((reference.splines(x, knots, 2) != 0).sum())
    for name in ("cpu", "triton", "reference"):
        assert roofline.needed(make(backend=name), "forward") == 2 * 9 * (nonzero + x.numel())  # and the base slot of every x
    assert roofline.needed(make(), "fused_gradients") == 2 * roofline.needed(make(), "forward")


@pytest.mark.parametrize("name", ["triton", "reference"])
def test_products_of_matrices_do_every_slot(name):
    case = make(backend=name)
    assert roofline.count_of(case) == "all slots"
    assert roofline.done(case, "forward") == 2 * 50 * 6 * (4 + 2 + 1) * 9
    assert roofline.done(case, "fused_gradients") == 2 * roofline.done(case, "forward")


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({"dtype": "float16"}, "all slots"),
        ({"dtype": "float32"}, "all slots"),
        ({"dtype": "float32", "grid_size": 30}, "local support"),
        ({"dtype": "bfloat16", "grid_size": 30}, "all slots"),
        ({"dtype": "float64"}, "local support"),
        ({"dtype": "float16", "out_features": 8}, "local support"),
    ],
)
def test_backend_cuda_counts_what_it_multiplies(changed, count):
    case = make(backend="cuda", **changed)
    assert roofline.count_of(case) == count
    slots = 2 + 2 if count == "local support" else case.grid_size + 2 + 1
    assert roofline.done(case, "forward") == 2 * 50 * 6 * slots * case.out_features


def test_backend_cpu_does_what_the_core_says(monkeypatch):
    asked = []
    core = SimpleNamespace(cpu_multiplications=lambda *arguments: asked.append(arguments) or 1234)
    monkeypatch.setattr(backends.native, "module", core)
    monkeypatch.setattr(backends, "select", lambda *arguments: SimpleNamespace(takes_16_bit=True))
    case = make(backend="cpu", dtype="bfloat16")
    assert roofline.count_of(case) == "vectors" and roofline.done(case, "forward") == 2 * 1234
    assert asked == [("forward", 50, 6, 9, 4 + 2 * 2 + 1, 2, "float32")]


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_bytes_are_those_of_the_tensors(dtype):
    layer = KANLinear(6, 9, grid_size=4, degree=2, dtype=getattr(torch, dtype))
    x = torch.zeros(50, 6, dtype=layer.weight.dtype, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    read = {"forward": (x, layer.weight), "fused_gradients": (x, layer.weight, y)}
    written = {"forward": (y,), "fused_gradients": (x.grad, layer.weight.grad)}
    for operation in read:
        expected = sum(tensor.nbytes for tensor in (*read[operation], layer.knots, *written[operation]))
        assert roofline.bytes_moved(make(dtype=dtype), operation) == expected


# ---- peaks


class Clock:
    """Seconds pass only in loops."""

    def __init__(self, monkeypatch):
        self.now, self.order = 0.0, []
        monkeypatch.setattr(peaks, "perf_counter", lambda: self.now)

    def loop(self, name, seconds, *rates):
        """Its runs reach these rates, and the last of them from then on."""
        runs = itertools.count()

        def run():
            self.order.append(name)
            self.now += seconds
            return rates[min(next(runs), len(rates) - 1)]

        return Loop(name, run)


def test_the_fastest_of_interleaved_runs_counts(monkeypatch):
    clock = Clock(monkeypatch)
    assert peaks.best_rates([clock.loop("one", 2 * peaks.TURN, 8.0, 25.0, 5.0), clock.loop("other", 1.0, 10.0)]) == [25, 10]
    assert clock.order == ["one", "other"] * peaks.ROUNDS


def test_short_runs_have_several_in_a_turn(monkeypatch):
    clock = Clock(monkeypatch)
    assert peaks.best_rates([clock.loop("short", peaks.TURN / 100, 3.0)]) == [3]
    assert len(clock.order) == peaks.RUNS * peaks.ROUNDS


def test_products_and_copies_are_timed(monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(backends.native, "module", None)
    monkeypatch.setattr(peaks, "GEMM_SIZE", {"cpu": 8})
    monkeypatch.setattr(peaks, "SIZES", {"cpu": [2**10, 2**12]})
    monkeypatch.setattr(peaks, "READ", {"cpu": 2**11})
    monkeypatch.setattr(torch, "mm", lambda a, b, out: clock.loop("product", 2.0, 0).run())
    monkeypatch.setattr(torch.Tensor, "copy_", lambda target, source: clock.loop("copy", 4.0, 0).run())
    found = peaks.measure("cpu", torch.float32)
    assert found.flops == 2 * 8**3 / 2
    assert found.bandwidths == ((2**10, 2**11 / (2 * 4)), (2**12, 2**12 / 4))  # the smaller one twice


def measured(monkeypatch, rates, dtype=torch.float32):
    """Peaks where the loops, the matrix product first, reach these rates."""
    monkeypatch.setattr(peaks, "GEMM_SIZE", {"cpu": 8})
    monkeypatch.setattr(peaks, "SIZES", {"cpu": [2**10, 2**12]})
    monkeypatch.setattr(peaks, "READ", {"cpu": 2**12})
    monkeypatch.setattr(peaks, "best_rates", lambda loops: [loop.run() for loop in loops] and rates[: len(loops)])
    return peaks.measure("cpu", dtype)


def test_the_roof_is_the_faster_loop_and_says_which(monkeypatch, core):
    found = measured(monkeypatch, [3.0, 5.0, 20.0, 10.0])
    assert found.flops == 5 and found.how_flops.startswith(f"float32 multiply-adds in registers ({core.cpu_isa()}, ")
    assert found.bandwidths == ((2**10, 20), (2**12, 10)) and found.how_bandwidths.startswith("reads")
    found = measured(monkeypatch, [6.0, 5.0, 20.0, 10.0], torch.float64)
    assert found.flops == 6 and found.how_flops == "float64 matrix product of 8 x 8"


def test_without_the_core_products_and_copies(monkeypatch):
    monkeypatch.setattr(backends.native, "module", None)
    found = measured(monkeypatch, [3.0, 20.0, 10.0])
    assert found.flops == 3 and found.how_flops == "float32 matrix product of 8 x 8" and "copies" in found.how_bandwidths


def test_peaks_are_of_the_dtype_of_the_product(monkeypatch):
    assert roofline.product_dtype(make(dtype="bfloat16")) == torch.float32  # the reference is given float32 copies
    monkeypatch.setattr(backends, "select", lambda *arguments: SimpleNamespace(takes_16_bit=True))
    assert roofline.product_dtype(make(dtype="bfloat16")) == torch.bfloat16


def test_two_measurements_of_a_peak():
    one, other = make_peaks(5.0, [(1, 30.0), (4, 10.0)]), make_peaks(4.0, [(1, 20.0), (4, 11.0)], rounds=4)
    assert one.faster_of(other) == other.faster_of(one) == make_peaks(5.0, [(1, 30.0), (4, 11.0)], rounds=7)


def test_bandwidth_is_that_of_the_level_that_may_still_hold_a_part():
    found = make_peaks(bandwidths=[(16, 90.0), (64, 80.0), (256, 20.0), (1024, 30.0)])
    assert [found.bandwidth(traffic) for traffic in (1, 16, 63, 64, 255, 256, 9999)] == [90, 90, 90, 80, 80, 30, 30]


# ---- nothing above the roof


def test_place_under_both_roofs():
    one_output, wide = make(out_features=1), make(rows=5000, in_features=100, out_features=100)
    for case, memory_bound in ((one_output, True), (wide, False)):
        row = roofline.place(case, "forward", 0.5, make_peaks(1e9, [(1, 1e8)]))
        done, needed = row["done"], row["needed"]
        assert (row["bytes"] / 1e8 > done["flops"] / 1e9) == memory_bound
        assert done["fraction"] == pytest.approx(max(row["bytes"] / 1e8, done["flops"] / 1e9) / 0.5)
        # of 4 multiply-adds that are needed 3 cannot be additions
        assert needed["fraction"] == pytest.approx(max(row["bytes"] / 1e8, needed["flops"] * 3 / 4 / 1e9) / 0.5)
        for work in (done, needed):
            assert work["flops_per_second"] == work["flops"] / 0.5
            assert work["fraction"] == pytest.approx(work["flops_per_second"] / work["roof"])


@pytest.mark.parametrize("operation", ["forward", "fused_gradients"])
@pytest.mark.parametrize("outputs", [1, 9, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_needed_is_never_nearer_to_the_roof_than_what_is_done(backend, operation, outputs, dtype):
    """So a backend that does its work below the peak shows nothing above it."""
    for rows in (1, 50):
        row = roofline.place(make(backend=backend, rows=rows, out_features=outputs, dtype=dtype), operation, 1.0, make_peaks())
        assert row["needed"]["fraction"] <= row["done"]["fraction"]


SECONDS = {"forward": 1e-6, "fused_gradients": 1e-5}


def test_under_the_roof_nothing_is_measured_again():
    found, rows = roofline.place_all(make(), SECONDS, make_peaks(1e15, [(1, 1e15)]), measure_again=None)
    assert found == make_peaks(1e15, [(1, 1e15)]) and list(rows) == list(SECONDS)


def test_above_the_roof_the_roof_is_measured_again():
    better = make_peaks(1e15, [(1, 1e15)])
    found, rows = roofline.place_all(make(), SECONDS, make_peaks(1.0, [(1, 1.0)]), lambda: better)
    assert found.flops == 1e15 and found.how_flops == "a loop" and found.rounds == 6
    assert all(row[count]["fraction"] <= 1 for row in rows.values() for count in roofline.COUNTS)


def test_a_roof_that_stays_too_low_is_raised_and_says_so():
    low, calls = make_peaks(1e3, [(1, 1e3), (2**20, 1e2)]), []
    found, rows = roofline.place_all(make(), SECONDS, low, lambda: calls.append(1) or low)
    assert len(calls) == roofline.ATTEMPTS - 1
    fractions = {count: [row[count]["fraction"] for row in rows.values()] for count in roofline.COUNTS}
    assert max(fractions["done"]) == 1 and max(fractions["needed"]) <= 1
    fastest = max(rows.values(), key=lambda row: row["done"]["flops_per_second"])
    assert found.flops == fastest["done"]["flops_per_second"]
    assert found.how_flops.startswith("reached by forward; a loop reached only 1e-06 GFLOP/s")
    assert "forward was faster" in found.how_bandwidths


@pytest.mark.proof
@pytest.mark.parametrize("sizes", [(1024, 256, 256), (512, 64, 64), (2000, 5, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_operation_passes_its_roof(backend, sizes, dtype, tmp_path):
    """The real thing, once. Whether the roof had to be raised is for benchmarks/test_roof.py: it hangs on the clock."""
    names = ("rows", "in_features", "out_features")
    case = make(**dict(zip(names, sizes, strict=True)), grid_size=5, degree=3, dtype=dtype, backend=backend)
    document = command.measured(case, 10, tmp_path)
    for row in document["operations"].values():
        assert 0 < row["needed"]["fraction"] <= row["done"]["fraction"] <= 1


@pytest.fixture
def core():
    return pytest.importorskip("fastkan._C", reason="fastkan was built without its native module")
