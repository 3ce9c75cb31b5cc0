"""Every piece of benchmarks/ on a tiny layer: the gate, the probes, the clock, and the files that come out."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import networks, plot, report, training
from benchmarks.cases import BACKWARD, FORWARD, MODES, Case, Problem
from benchmarks.check import Gate
from benchmarks.environment import environment, machine
from benchmarks.memory import failed, in_fresh_process, probe
from benchmarks.modes import step
from benchmarks.providers import efficient, mlp, providers
from benchmarks.providers.interface import Layer, Provider
from benchmarks.speed import measure_case, steps
from benchmarks.timing import ROUNDS, Spread, interleave, ratio

TINY = Case(32, 3, 4)
ROOT = Path(__file__).resolve().parent.parent.parent
MEBIBYTE = 2**20


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


def build_slow(problem):
    return Layer(lambda x: time.sleep(60 if len(x) == TINY.batch else 0), ())


WRONG = Provider("wrong", "efficient-kan", build_wrong)
TOO_LARGE = Provider("too large", "efficient-kan", build_too_large)
KILLED = Provider("killed", "efficient-kan", build_killed)
SLOW = Provider("slow", "efficient-kan", build_slow)
HOPELESS = Provider("hopeless", "efficient-kan", build_killed, predict=lambda case, mode: 1e3)


def half_gibibyte_then_64_mebibytes():
    """As a provider: what came before the call, here 512 MiB, must not count."""
    torch.ones(128 * MEBIBYTE).sum()

    def call():
        torch.ones(16 * MEBIBYTE).sum()
        return (torch.ones(4 * MEBIBYTE),)  # 16 MiB of results, later than the peak, and taken off it

    return call


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("provider", [p for p in providers("cpu") if not p.compiled], ids=lambda p: p.name)
def test_providers_compute_the_reference(provider, mode):
    problem = Problem.of(TINY, "cpu")
    try:
        layer = provider.build(problem)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    assert Gate(problem, mode).objection(layer) is None


@pytest.mark.parametrize("mode", MODES)
def test_gate_stops_a_wrong_layer(mode):
    problem = Problem.of(TINY, "cpu")
    assert "off, plain PyTorch" in Gate(problem, mode).objection(build_wrong(problem))


def test_pykan_leaves_the_random_states_alone():
    pytest.importorskip("kan")
    pykan = next(p for p in providers("cpu") if p.name == "pykan")
    before = torch.get_rng_state()
    pykan.build(Problem.of(TINY, "cpu"))
    assert torch.equal(torch.get_rng_state(), before)


def test_perceptrons_of_equal_size():
    problem = Problem.of(Case(8, 64, 64), "cpu")
    weights = [sum(p.numel() for p in build(problem).parameters) for build in (mlp.equal_parameters, mlp.equal_flops)]
    assert weights == [64 * 64 * 9, 64 * 64 * 5]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the resident peak is Linux's")
def test_memory_sees_what_a_call_allocates():
    found = in_fresh_process(half_gibibyte_then_64_mebibytes, 10.0)
    assert found.status == "ok"
    assert found.peak / MEBIBYTE == pytest.approx(48, abs=2)


def test_crashes_and_hangs_become_reasons():
    assert probe(KILLED, TINY, FORWARD, "cpu", 5.0).status == "out of memory"
    assert probe(SLOW, TINY, FORWARD, "cpu", 0.5).reason == "not done after 0 s"
    assert failed(torch.OutOfMemoryError("CUDA out of memory")).status == "out of memory"
    assert failed(RuntimeError("DefaultCPUAllocator: can't allocate memory")).status == "out of memory"
    assert failed(RuntimeError("first line\nsecond")).reason == "RuntimeError: first line"


def test_interleaving():
    order = []
    calls = {"quick": lambda: order.append("quick"), "slow": lambda: (time.sleep(0.15), order.append("slow"))}
    rounds = interleave(calls, {"quick": 1.0, "slow": 1.0}, "cpu", lambda: None)
    ran = [seconds for seconds in rounds.seconds["slow"] if seconds is not None]
    assert 5 <= len(ran) < ROUNDS
    assert min(ran) > 0.1
    assert order[:2] == ["quick", "slow"]
    assert ratio([2.0, None, 6.0], [1.0, 1.0, 2.0]) == Spread(2.0, 2.5, 3.0, 2)


def test_compiled_layer():
    problem = Problem.of(TINY, "cpu")
    layer = efficient.build(problem, compiled=True)
    assert Gate(problem, FORWARD).objection(layer) is None
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
    times = {(row["mode"], row["provider"]): row for row in rows if row["metric"] == "time"}
    assert len(times) == len(chosen) * len(networks.CASE.modes)
    for (_, name), row in times.items():
        assert row["status"] == {"wrong": "wrong", "too large": "out of memory"}.get(name, "ok"), row
        assert (row["p50"] is not None) == (row["status"] == "ok")
    return rows


def test_from_measurement_to_files(tmp_path, monkeypatch):
    """Rows for who succeeds and who does not, then every reader of the document."""
    linear, eager = mlp.PROVIDERS[0], efficient.PROVIDERS[0]
    case = Case(32, 3, 4, modes=(BACKWARD,), without=("pykan",))
    left_out = Provider("left out", "pykan", build_killed)
    taking_part = [eager, WRONG, TOO_LARGE, HOPELESS, left_out, linear]
    told = []
    rows = measure_case(case, taking_part, "cpu", 5.0, told.append)
    assert len(told) == steps(case, taking_part)
    times = {row["provider"]: row for row in rows if row["metric"] == "time"}
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
    assert json.loads(path.read_text())["speed"] == rows
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
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert all(option in text for option in ("--sizes", "--device", "--limit", "--name"))
