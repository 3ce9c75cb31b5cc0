"""Every piece of benchmarks/ on a tiny layer: the gate, the probes, the timer, and the files that come out."""

import json
import os
import signal
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

import pytest
import torch

import fastkan
from benchmarks import fused_gradients, jets, memory, threads, timer, vmap
from benchmarks.__main__ import COMMANDS
from benchmarks.cases import BACKWARD, FORWARD, MODES, Case, Problem
from benchmarks.cpu import networks, plot, report, training
from benchmarks.cpu.speed import measure_case, steps
from benchmarks.document import read
from benchmarks.environment import environment, machine
from benchmarks.gate import Gate
from benchmarks.memory import failed, in_fresh_process, probe
from benchmarks.modes import named, step
from benchmarks.peers import efficient, mlp, taking_part
from benchmarks.peers.interface import Layer, Peer
from benchmarks.timer import ROUNDS, Spread, interleave, ratio
from fastkan import backends
from fastkan.ops.table import Wanted

TINY = Case(32, 3, 4)
ROOT = Path(__file__).resolve().parent.parent.parent
MEBIBYTE = 2**20
ENDLESS = 1e6  # seconds: how fast this machine is decides nothing here


@pytest.fixture(autouse=True)
def no_limits(monkeypatch):
    monkeypatch.setattr(memory, "READY_SECONDS", ENDLESS)


@pytest.fixture(autouse=True)
def one_thread():
    """OpenMP's waiting threads make tiny layers many times slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)  # inkan's scatter has no deterministic backward
    yield
    torch.set_num_threads(threads)


def build_wrong(problem):
    layer = efficient.build(problem)
    with torch.no_grad():
        layer.parameters[0].mul_(1.001)
    return layer


def build_too_large(problem):
    raise MemoryError("no room")


def build_killed(problem):
    os.kill(os.getpid(), signal.SIGKILL)


def build_hanging(problem):
    return Layer(lambda x: threading.Event().wait() if len(x) == TINY.batch else None, ())


WRONG = Peer("wrong", "efficient-kan", build_wrong)
TOO_LARGE = Peer("too large", "efficient-kan", build_too_large)
KILLED = Peer("killed", "efficient-kan", build_killed)
HANGING = Peer("hanging", "efficient-kan", build_hanging)
HOPELESS = Peer("hopeless", "efficient-kan", build_killed, predict=lambda case, mode: 2 * ENDLESS)


def objection(layer, problem, mode):
    return Gate(problem).objection(mode, named(layer, mode, step(layer, problem, mode)()))


def half_gibibyte_then_64_mebibytes():
    """As a peer: what came before the call, here 512 MiB, must not count."""
    torch.ones(128 * MEBIBYTE).sum()

    def call():
        torch.ones(16 * MEBIBYTE).sum()
        return (torch.ones(4 * MEBIBYTE),)  # 16 MiB of results, later than the peak, and taken off it

    return call


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("peer", [p for p in taking_part("cpu") if not p.compiled], ids=lambda p: p.name)
def test_peers_compute_the_reference(peer, mode):
    problem = Problem.of(TINY, "cpu")
    try:
        layer = peer.build(problem)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    if layer.to_slots:
        assert objection(layer, problem, mode) is None


@pytest.mark.parametrize("mode", MODES)
def test_gate_stops_a_wrong_layer(mode):
    problem = Problem.of(TINY, "cpu")
    assert "off, plain PyTorch" in objection(build_wrong(problem), problem, mode)


def test_pykan_leaves_the_random_states_alone():
    pytest.importorskip("kan")
    pykan = next(p for p in taking_part("cpu") if p.name == "pykan")
    before = torch.get_rng_state()
    pykan.build(Problem.of(TINY, "cpu"))
    assert torch.equal(torch.get_rng_state(), before)


def test_perceptrons_of_equal_size():
    problem = Problem.of(Case(8, 64, 64), "cpu")
    weights = [sum(p.numel() for p in build(problem).parameters) for build in (mlp.equal_parameters, mlp.equal_flops)]
    assert weights == [64 * 64 * 9, 64 * 64 * 5]


@pytest.mark.proof
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the resident peak is Linux's")
def test_memory_sees_what_a_call_allocates():
    found = in_fresh_process(half_gibibyte_then_64_mebibytes, ENDLESS)
    assert found.status == "ok"
    assert found.peak / MEBIBYTE == pytest.approx(48, abs=2)


def test_crashes_and_hangs_become_reasons():
    assert probe(KILLED, TINY, FORWARD, "cpu", ENDLESS).status == "out of memory"
    assert probe(HANGING, TINY, FORWARD, "cpu", 0.0).reason == "not done after 0 s"
    assert failed(torch.OutOfMemoryError("CUDA out of memory")).status == "out of memory"
    assert failed(RuntimeError("DefaultCPUAllocator: can't allocate memory")).status == "out of memory"
    assert failed(RuntimeError("first line\nsecond")).reason == "RuntimeError: first line"


def test_interleaving(monkeypatch):
    """By a clock that only the calls move."""
    order, now = [], 0.0

    def call(name, seconds):
        def run():
            nonlocal now
            now += seconds
            order.append(name)

        return run

    monkeypatch.setattr(timer, "clock", lambda: now)
    calls = {"quick": call("quick", 1e-3), "slow": call("slow", 0.5)}
    rounds = interleave(calls, {"quick": 1.0, "slow": 1.0}, "cpu", lambda: None)
    ran = [seconds for seconds in rounds.seconds["slow"] if seconds is not None]
    assert len(ran) == 5 < ROUNDS
    assert ran == pytest.approx([0.5] * 5)
    assert [seconds for seconds in rounds.seconds["quick"] if seconds is not None] == pytest.approx([1e-3] * 5)
    assert order[:2] == ["quick", "slow"]
    assert ratio([2.0, None, 6.0], [1.0, 1.0, 2.0]) == Spread(2.0, 2.5, 3.0, 2)


def test_compiled_layer():
    problem = Problem.of(TINY, "cpu")
    layer = efficient.build(problem, compiled=True)
    assert objection(layer, problem, FORWARD) is None
    assert len(step(layer, problem, FORWARD)()) == 1


def measure_networks(monkeypatch):
    """All but pykan compiled, which takes long; one that computes another function; and a pykan that does not build."""
    chosen = {name: value for name, value in networks.NETWORKS.items() if "compile" not in name}
    chosen["wrong"] = ("efficient-kan", lambda problems: networks.chain([build_wrong(p) for p in problems]))
    chosen["too large"] = ("pykan", build_too_large)
    monkeypatch.setattr(networks, "NETWORKS", chosen)
    told = []
    rows = networks.measure(told.append)
    assert len(told) == networks.steps()
    times = {(row["mode"], row["peer"]): row for row in rows if row["metric"] == "time"}
    assert len(times) == len(chosen) * len(networks.CASE.modes)
    for (_, name), row in times.items():
        assert row["status"] == {"wrong": "wrong", "too large": "out of memory"}.get(name, "ok"), row
        assert (row["p50"] is not None) == (row["status"] == "ok")
    return rows


def test_from_measurement_to_files(tmp_path, monkeypatch):
    """Rows for who succeeds and who does not, then every reader of the document."""
    linear, eager = mlp.PEERS[0], efficient.PEERS[0]
    case = Case(32, 3, 4, modes=(BACKWARD,), without=("pykan",))
    left_out = Peer("left out", "pykan", build_killed)
    present = [eager, WRONG, TOO_LARGE, HOPELESS, left_out, linear]
    told = []
    rows = measure_case(case, present, "cpu", ENDLESS, told.append)
    assert len(told) == steps(case, present)
    times = {row["peer"]: row for row in rows if row["metric"] == "time"}
    assert {name: row["status"] for name, row in times.items()} == {
        eager.name: "ok",
        "wrong": "wrong",
        "too large": "out of memory",
        "hopeless": "skipped",
        "left out": "skipped",
        linear.name: "ok",
    }
    assert times[eager.name]["p20"] <= times[eager.name]["p50"] <= times[eager.name]["p80"]
    assert times["wrong"]["p50"] is None

    task = training.Task("digits", training.TASKS[0].load, epochs=2, classes=10)
    records = training.run(lambda text: None, (task,))
    assert len(records) == len(training.SEEDS) * len(training.MODELS)
    document = {"environment": environment("cpu"), "limit_seconds": 5.0, "speed": rows}
    document |= {"networks": measure_networks(monkeypatch), "training": records}
    path = tmp_path / machine(document["environment"]) / "tiny.json"
    report.save(document, path)
    assert read(path)["speed"] == json.loads(path.read_text())["speed"] == rows
    assert "| too large | – " in path.with_suffix(".md").read_text()
    assert len(list(report.rich_tables(document))) == 4
    for draw, name in ((plot.plot_speed, "speed.png"), (plot.plot_training, "training.png")):
        draw(document, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 10_000


def test_training_starts_both_networks_from_the_same_function():
    torch.manual_seed(0)
    perceptron = training.MODELS["MLP"](5, 8, 1)
    torch.manual_seed(0)
    kan = training.MODELS["KAN (replace_linear)"](5, 8, 1)
    x = torch.randn(16, 5)
    torch.testing.assert_close(kan(x), perceptron(x))


def test_split_is_disjoint_and_standardised_on_the_training_rows():
    rows = training.data(training.TASKS[1])
    assert sum(len(x) for x, _ in rows.values()) == 442
    x, y = rows["train"]
    torch.testing.assert_close(x.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(unbiased=False), torch.tensor(1.0))


def test_command_line_explains_itself():
    command = [sys.executable, "-m", "benchmarks", "cpu", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert all(option in text for option in ("--sizes", "--device", "--limit", "--name"))


def test_command_line_names_every_command():
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "benchmarks", *arguments], capture_output=True, text=True, cwd=ROOT)

    told = run()
    assert told.returncode == 0 and all(name in told.stdout for name in COMMANDS)
    refused = run("speed")
    assert refused.returncode == 2 and "expected one of cpu, train," in refused.stderr and "received 'speed'" in refused.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there(command):
    module, function = COMMANDS[command][0].split(":")
    assert callable(getattr(import_module(f"benchmarks.{module}"), function))


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*/????-??-??*.json")), ids=lambda path: path.stem)
def test_committed_results_are_readable(path, tmp_path):
    document = read(path)
    assert path.with_suffix(".md").read_text() == report.markdown(document)
    plot.plot_speed(document, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_fused_gradients_and_threads_on_a_tiny_layer():
    for row in fused_gradients.of_layer(2, 3, 5, torch.float32, rows=4):
        assert row["together / apart"] > 0
    assert fused_gradients.of_network([2, 3, 1], torch.float64, 4)["together / apart"] > 0
    assert {row["peer"] for row in threads.measure(TINY, BACKWARD, [1, 2])} == {"fastkan cpu", "nn.Linear"}


def test_jets_on_a_tiny_network():
    for kind in ("KAN", "MLP"):
        row = jets.compare(kind, [2, 3, 1], 4, torch.float64)
        assert row["p20"] <= row["nested / jet"] <= row["p80"] and row["jet, us"] > 0


def test_vmap_gives_the_plain_numbers():
    for case in vmap.CASES:
        assert vmap.compare(case, "KAN")["vmap / plain"] > 0


def test_fused_gradients_apart_are_the_same_numbers():
    layer = fastkan.KANLinear(3, 2, bias=False, dtype=torch.float64)
    cpu = backends.select("cpu", layer.weight.device, torch.float64, 3)
    x, r, g = torch.rand(7, 3).double(), torch.randn(7, 3).double(), torch.randn(7, 2).double()
    call = (x, layer.weight.detach(), g, r, layer.knots, 3, "silu", 1, Wanted(True, True, True, True))
    for made, apart in zip(cpu.fused_gradients(*call), fused_gradients.pair_and_single(cpu, *call), strict=True):
        torch.testing.assert_close(apart, made)
