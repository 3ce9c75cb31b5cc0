"""`python -m benchmarks gpu` without a GPU: formulas, gate, rows for whoever fails, document, supervisor, command line."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from math import inf
from pathlib import Path
from time import sleep

import pytest
import torch

from benchmarks.cases import BACKWARD, FORWARD, GRAD_WEIGHT, RESULTS, Case, Problem
from benchmarks.gate import Gate, spread
from benchmarks.gpu import chart, measure, plan, results, run, supervisor, tables, worker
from benchmarks.gpu.plan import BFLOAT16, GEMM_SHARE, IEEE, TF32, WIDE, Group
from benchmarks.gpu.race import COLD, WARM, Flush
from benchmarks.peers import formulas, operations, unfused
from benchmarks.peers.operations import CEILING, OPERATIONS, OperationPeer, Prepared
from fastkan import reference

ROOT = Path(__file__).resolve().parents[2]
TINY = plan.TINY[0]
SETTINGS = {"device": "cpu", "tiny": True, "everything": False, "precisions": [IEEE], "seconds": 1.0}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)
    yield
    torch.set_num_threads(threads)


def now(mode, precision=IEEE, **settings):
    group = Group(TINY, precision)
    problem = Problem.of(group.case, "cpu")
    return measure.Round(group, mode, problem, Gate(problem, 192, 8), "cpu", Flush("cpu"), lambda peer: True, **settings)


@pytest.mark.parametrize("grid_size", [3, 5, 64])
@pytest.mark.parametrize("nu", [0, 1])
def test_pointwise_formulas(grid_size, nu):
    problem = Problem.of(Case(50, 4, 2, grid_size=grid_size, dtype="float64"), "cpu")
    x = 1.3 * problem.x.detach()  # outside the grid as well
    exact = reference.slots(x, problem.knots.double(), 3, "silu", nu)
    found = formulas.slots(x, *unfused.grid(problem), nu)
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("mode", OPERATIONS)
@pytest.mark.parametrize("precision", [BFLOAT16, IEEE])
def test_everyone_computes_the_reference(mode, precision):
    state = now(mode, precision)
    for peer in operations.taking_part("cpu"):
        if mode in peer.modes and not peer.compiled:
            if peer.family == "pykan" and not find_spec("kan"):
                continue
            prepared = peer.prepare(state.problem, mode)
            found = prepared.call()
            if prepared.named:
                assert state.gate.objection(mode, prepared.named(found)) is None, peer.name


@pytest.mark.parametrize("mode", OPERATIONS)
def test_gate_stops_a_wrong_answer(mode):
    state = now(mode)
    prepared = Prepared(unfused.unfused(state.problem, mode), operations.by_order(mode))
    for name in RESULTS[mode]:
        found = prepared.named(prepared.call())
        found[name] = found[name].clone()
        found[name][-1] *= 1.001  # one row, or one input
        assert f"{name} is" in state.gate.objection(mode, found)
        found[name][0, 0] = torch.nan
        assert state.gate.objection(mode, found) == f"{name} has values that are not finite"


def test_sample_has_both_ends():
    assert spread(5, 9).tolist() == [0, 1, 2, 3, 4]
    found = spread(1000, 30).tolist()
    assert found[:3] == [0, 1, 2] and found[-3:] == [997, 998, 999] and 28 <= len(found) <= 30


def broken(error):
    def prepare(problem, mode):
        raise error

    return prepare


def test_failures_become_rows(monkeypatch):
    def wrong(problem, mode):
        return Prepared(lambda: (problem.cotangent,), operations.by_order(FORWARD))

    present = [
        operations.taking_part("cpu")[0],
        OperationPeer("fastkan none", "fastkan", (FORWARD,), broken(RuntimeError("backend 'none' cannot serve\nmore"))),
        OperationPeer("too large", "unfused", (FORWARD,), broken(torch.OutOfMemoryError("CUDA out of memory"))),
        OperationPeer("absent", "baseline", (FORWARD,), broken(ModuleNotFoundError("No module named 'kan'"))),
        OperationPeer("wrong", "unfused", (FORWARD,), wrong),
        OperationPeer("killer", "unfused", (FORWARD,), broken(SystemExit("never called"))),
        OperationPeer("compiled", "efficient-kan", (FORWARD,), broken(SystemExit("never called")), compiled=True),
        OperationPeer("other operation", "unfused", (GRAD_WEIGHT,), broken(SystemExit("never called"))),
    ]
    monkeypatch.setattr(measure, "taking_part", lambda device: present)
    rows = measure.measure(now(FORWARD, crashed={"killer": "its process ended with code -11"}))
    found = {row["peer"]: (row["status"], row["reason"]) for row in rows if row["metric"] == WARM}
    assert "off, plain PyTorch" in found.pop("wrong")[1]
    assert found == {
        CEILING: ("ok", ""),
        "fastkan none": ("unsupported", "RuntimeError: backend 'none' cannot serve"),
        "too large": ("out of memory", "OutOfMemoryError: CUDA out of memory"),
        "absent": ("unsupported", "ModuleNotFoundError: No module named 'kan'"),
        "killer": ("crashed", "its process ended with code -11"),
        "compiled": ("skipped", "left out: its compilation takes seconds, bfloat16 tells its place"),
    }
    metrics = {row["metric"]: row["p50"] for row in rows if row["peer"] == CEILING}
    assert metrics[GEMM_SHARE] == 1 and metrics[COLD] > 0
    assert metrics["matrix rate"] == pytest.approx(2 * 64 * 8 * 9 * 16 / metrics[WARM])


def test_who_is_left_out():
    wide, fine = Group(WIDE, BFLOAT16), Group(plan.SIZES[-1], IEEE)
    assert plan.left_out(wide, "efficient-kan", True) is None
    assert plan.left_out(Group(WIDE, TF32), "efficient-kan", False) is None
    assert "G = 5" in plan.left_out(fine, "efficient-kan", False)
    assert plan.left_out(fine, "baseline", False) is None
    assert "(B, I, O)" in operations._pykan_declines(wide.case)
    assert operations._pykan_declines(Group(plan.SIZES[3], IEEE).case) is None


def test_tf32_is_asked_for_and_taken_back():
    before = torch.backends.cuda.matmul.allow_tf32
    with plan.precision(TF32):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    with plan.precision(IEEE):
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_document_is_whole_at_any_time(tmp_path):
    """Placeholders before, an operation's rows after, the order of the plan; what time cut short is done again."""
    path = tmp_path / "some" / "x.json"
    document = results.fresh(SETTINGS)
    results.save(document, path)
    first = results.load(path)
    assert not first["complete"] and not results.done(first)
    assert {row["status"] for row in first["rows"]} == {"not reached"}
    group = Group(plan.TINY[1], IEEE)
    peer = operations.taking_part("cpu")[0]
    cut = measure.failure(group, FORWARD, peer, "cpu", results.Probe("not reached", "the time was spent"))
    results.add(first, [cut])
    results.save(first, path)
    assert not results.done(results.load(path))
    measured = measure.failure(group, FORWARD, peer, "cpu", results.Probe("out of memory", "no room"))
    results.add(first, [measured])
    results.save(first, path)
    second = results.load(path)
    assert results.done(second) == {(group.size.name, IEEE, FORWARD)}
    assert [row["case"] for row in second["rows"]] == sorted((row["case"] for row in second["rows"]), key=TINY.name.__ne__)
    assert "out of memory: no room" in tables.report(second)
    assert not list(path.parent.glob("*.partial"))


def test_rows_survive_the_file(tmp_path):
    document = results.fresh(SETTINGS)
    rows = measure.measure(now(FORWARD))
    results.add(document, rows)
    results.save(document, tmp_path / "x.json")
    again = [row for row in results.load(tmp_path / "x.json")["rows"] if row["mode"] == FORWARD and row["case"] == TINY.name]
    for row, copy in zip(rows, again, strict=True):
        assert copy == {key: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value for key, value in row.items()}


def test_resume_measures_the_rest(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    document = results.fresh(SETTINGS)
    results.save(document, path)
    seen = []

    def fake(state):
        seen.append((state.group.size.name, state.mode))
        state.beat("someone")
        if len(seen) == 3:
            raise ValueError("a surprise")
        return [measure.failure(state.group, state.mode, operations.taking_part("cpu")[0], "cpu", results.Probe("skipped", ""))]

    monkeypatch.setattr(worker, "measure", fake)
    worker.work(path, until=0.0)
    assert seen == []
    worker.work(path, until=inf)
    document = results.load(path)
    assert len(seen) == len(plan.TINY) * len(plan.ORDER) and document["complete"]
    assert "ValueError: a surprise" in {row["reason"] for row in document["rows"]}
    worker.work(path, until=inf)
    assert len(seen) == len(plan.TINY) * len(plan.ORDER)
    assert not worker.beat_file(path).exists()


FAKE_WORKER = """
import json, pathlib, sys, time
beat, tries = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
count = int(tries.read_text()) if tries.exists() else 0
tries.write_text(str(count + 1))
beat.write_text(json.dumps(["case", "bfloat16", "forward", f"peer {count}", "the reason" if count == 2 else ""]))
if count == 0: sys.exit(3)
if count == 1: time.sleep(600)
if count == 2: sys.exit(1)
"""


def test_supervisor_blames_and_goes_on(tmp_path, monkeypatch, capsys):
    path = tmp_path / "x.json"
    results.save(results.fresh(SETTINGS), path)

    def pause(seconds):
        """Time passes while peer 1 hangs, and only then."""
        nonlocal now
        sleep(0.01)
        beat = worker.beat_file(path)
        now += 60 if beat.exists() and "peer 1" in beat.read_text() else 0

    now = 0.0
    monkeypatch.setattr(supervisor, "pause", pause)
    monkeypatch.setattr(supervisor, "clock", lambda: now)
    command = [sys.executable, "-c", FAKE_WORKER, str(worker.beat_file(path)), str(tmp_path / "tries")]
    supervisor.supervise(command, path, inf)
    where = ["case", "bfloat16", "forward"]
    assert results.load(path)["crashed"] == [
        [*where, "peer 0", "its process ended with code 3"],
        [*where, "peer 1", "no sign of life for 150 s"],
        [*where, "peer 2", "the reason"],
    ]
    assert "peer 1 at case, bfloat16, forward" in capsys.readouterr().err


def test_targets_name_the_best_backend():
    document = {"rows": []}
    for backend, value in (("cuda", 0.5), ("triton", 0.83)):
        peer = OperationPeer(f"fastkan {backend}", "fastkan", (FORWARD,), broken(ValueError()))
        row = measure.failure(Group(WIDE, BFLOAT16), FORWARD, peer, "cuda", results.Probe("ok"))
        document["rows"].append(row | {"metric": GEMM_SHARE, "p50": value})
        document["rows"].append(row | {"metric": plan.SLOTS_SHARE, "p50": value})
    lines = list(tables.target_lines(document))
    assert (FORWARD, GEMM_SHARE, WIDE.name, BFLOAT16, ">= 0.8", "0.83", "fastkan triton", "met") in lines
    assert (FORWARD, plan.SLOTS_SHARE, WIDE.name, BFLOAT16, "<= 0.02", "0.5", "fastkan cuda", "MISSED") in lines
    assert any(line[0] == BACKWARD and line[-1] == "not measured" for line in lines)


@pytest.mark.proof
def test_command(tmp_path):
    """A whole tiny run on the CPU with its worker: files, tables, nothing left behind. No limit of time."""
    command = [sys.executable, "-m", "benchmarks", "gpu", "--device", "cpu", "--tiny", "--seconds", "inf", "--precisions", IEEE]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [*command, "--folder", str(tmp_path), "--name", "run"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    document = json.loads((tmp_path / "run.json").read_text())
    assert {row["mode"] for row in document["rows"]} == set(OPERATIONS)
    assert document["complete"] and "not reached" not in ran.stdout
    for text in (CEILING, "Targets", "not measured", "equal FLOPs"):
        assert text in ran.stdout
    kinds = {"json", "txt", "png"} if find_spec("matplotlib") else {"json", "txt"}
    assert {path.suffix[1:] for path in tmp_path.iterdir()} == kinds


def test_it_needs_torch_and_numpy_only():
    names = ("rich", "tyro", "scipy", "sklearn", "matplotlib", "tqdm", "pandas", "kan", "inkan", "pytest")
    wanted = "benchmarks.__main__, benchmarks.gpu.run, benchmarks.proof, benchmarks.tune"
    code = f"import sys; sys.modules.update(dict.fromkeys({names})); import {wanted}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert run.measure(run.options_of([])) == 1
    assert "no CUDA device" in capsys.readouterr().out


def test_chart_draws_only_what_has_times(tmp_path):
    pytest.importorskip("matplotlib")
    document = results.fresh(SETTINGS)
    results.add(document, measure.measure(now(FORWARD)))
    results.save(document, tmp_path / "x.json")
    chart.draw(document, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 5_000
    document["rows"] = []
    chart.draw(document, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
