"""python -m fastkan profile: what is timed, and the command as users type it."""

import contextlib
import json
import shlex
import subprocess
import sys
from statistics import median
from types import SimpleNamespace

import pytest
import torch
from roofs import make, make_peaks

from fastkan import __main__
from fastkan.tools.profile import draw, measure, peaks, report, roofline, workload
from fastkan.tools.profile.workload import MODES, Workload

SMALL = ["--rows=50", "--in-features=6", "--out-features=9", "--grid-size=4", "--degree=2", "--repeats=7"]


@pytest.fixture
def quick(monkeypatch):
    """Peaks of small tensors, so that a test takes no time."""
    monkeypatch.setattr(peaks, "GEMM_SIZE", {"cpu": 64, "cuda": 64})
    monkeypatch.setattr(peaks, "SIZES", {"cpu": [2**16, 2**20], "cuda": [2**16, 2**20]})
    monkeypatch.setattr(peaks, "READ", {"cpu": 2**20, "cuda": 2**20})
    monkeypatch.setattr(peaks, "ROUNDS", 2)


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["fastkan", "profile", *arguments])
    __main__.main()


# ---- where the time goes


def event(name, micros, parent=None, kernels=(), own=0.0, device=0.0):
    kernels = [SimpleNamespace(name=kernel, duration=duration) for kernel, duration in kernels]
    time = SimpleNamespace(elapsed_us=lambda: micros)
    times = {"time_range": time, "self_cpu_time_total": own, "device_time_total": device}
    return SimpleNamespace(name=name, cpu_parent=parent, kernels=kernels, **times)


def events_of_a_gpu():
    """Two runs: forward launches a kernel itself and one through aten::copy_; a sum stands outside."""
    events = []
    for launch, kernel in ((30.0, 100.0), (10.0, 300.0)):
        step = event("fastkan step", 500.0, kernels=[("fastkan step", 999.0)], own=5.0)
        forward = event("fastkan::kan_linear", launch, step, [("forward_kernel", kernel)], device=kernel + 8.0)
        copy = event("aten::copy_", 4.0, forward, [("copy_kernel", 8.0)], own=4.0)
        events += [step, forward, copy, event("aten::sum", 6.0, step, [("sum_kernel", 20.0)], own=6.0)]
    return events


def test_time_of_an_operation():
    events = events_of_a_gpu()
    on_gpu = measure.operation_times(make(device="cuda", mode="forward"), events)
    assert on_gpu == {"forward": pytest.approx([108e-6, 308e-6])}  # of its kernels
    assert measure.operation_times(make(mode="forward"), events) == {"forward": pytest.approx([30e-6, 10e-6])}
    assert measure.host_step(events) == pytest.approx(500e-6)
    with pytest.raises(RuntimeError, match=r"under fused_gradients, received none"):
        measure.operation_times(make(mode="step"), events)


def test_kernels_and_host_events_belong_to_operations():
    found = measure.kernels(events_of_a_gpu())
    assert [(row["name"], row["operation"], row["calls"]) for row in found] == [
        ("forward_kernel", "forward", 2),
        ("sum_kernel", None, 2),
        ("copy_kernel", "forward", 2),
    ]
    assert found[0]["seconds"] == pytest.approx(200e-6) and found[0]["total_seconds"] == pytest.approx(400e-6)
    others = measure.host_events(events_of_a_gpu())
    assert [(row["name"], row["operation"]) for row in others] == [
        ("aten::sum", None),
        ("fastkan step", None),
        ("aten::copy_", "forward"),
    ]
    assert others[0]["total_seconds"] == pytest.approx(12e-6)


# ---- the command


@pytest.mark.parametrize("mode", MODES)
def test_profile_writes_and_prints_everything(mode, backend, quick, monkeypatch, tmp_path, capsys):
    command(monkeypatch, *SMALL, f"--mode={mode}", f"--backend={backend}", "--device=cpu", f"--out={tmp_path / 'new' / 'out'}")
    out, text = tmp_path / "new" / "out", capsys.readouterr().out
    document = json.loads((out / "profile.json").read_text())
    assert document["workload"] == vars(make(mode=mode, backend=backend))
    assert tuple(document["operations"]) == make(mode=mode, backend=backend).operations
    traced = json.loads((out / "trace.json").read_text())["traceEvents"]
    for name, row in document["operations"].items():
        durations = [entry["dur"] for entry in traced if measure.NAMES.get(entry.get("name")) == name]
        assert row["calls"] == len(durations) == 7
        assert row["seconds"] == pytest.approx(1e-6 * median(durations), rel=0.01)
        for count in roofline.COUNTS:
            assert row[count]["flops_per_second"] == pytest.approx(row[count]["flops"] / row["seconds"])
            assert row[count]["fraction"] <= 1 and report.percent(row[count]["fraction"]) in text
        assert name in text
    durations = [entry["dur"] for entry in traced if entry.get("name") == workload.RANGE]
    assert len(durations) == 7 and document["host_seconds_per_run"] == pytest.approx(1e-6 * median(durations), rel=0.01)
    assert document["kernels"] == [] and "CUDA kernel" not in text and document["device_seconds_per_run"] is None
    counted = (roofline.NEEDED, roofline.DONE[document["count"]], roofline.BYTES)
    assert all(line in text for line in (*document["commands"].values(), *counted))
    png = (out / "roofline.png").read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) > 20_000
    assert {path.name for path in out.iterdir()} == {"profile.json", "roofline.png", "trace.json"}


def test_report_of_a_gpu():
    found = make_peaks(5e14, [(2**22, 3e12)])
    case, events = make(device="cuda", mode="forward", backend="triton"), events_of_a_gpu()
    row = {"calls": 2, "seconds": 208e-6, **roofline.place(case, "forward", 208e-6, found)}
    text = report.report(
        {
            **{"workload": vars(case), "repeats": 2, "device": "a GPU", "peaks": vars(found), "count": "all slots"},
            **{"operations": {"forward": row}, "kernels": measure.kernels(events), "host_events": measure.host_events(events)},
            **{"host_seconds_per_run": 5e-4, "device_seconds_per_run": 260e-6, "commands": {"ncu": "ncu -x", "nsys": "nsys -x"}},
        }
    )
    assert "500,000 GFLOP/s: a loop, best of 3 rounds" in text and "4 MiB 3000\n" in text and "backend triton on a GPU" in text
    assert "kernels of one run take 0.26 ms, 80 % of it in these operations" in text
    first = next(line.split() for line in text.splitlines() if "_kernel" in line)
    assert first == ["forward_kernel", "forward", "1", "0.2", "0.2"]
    assert "NVIDIA's profilers:" in text and "ncu -x" in text


def test_printed_command_lines_run(tmp_path, monkeypatch):
    """On this machine's CPU: the part that ncu and nsys start, which must not profile or write."""
    lines = workload.command_lines(make(mode="step"), 7, tmp_path / "a b")
    ncu, nsys = (shlex.split(lines[name]) for name in ("ncu", "nsys"))
    assert ncu[:3] == ["ncu", "--profile-from-start", "off"] and str(tmp_path / "a b" / "ncu") in ncu
    assert "--capture-range=cudaProfilerApi" in nsys and "--nvtx" in nsys and "--nvtx" not in ncu
    started = nsys[nsys.index(sys.executable) : -1]  # without --nvtx, which needs CUDA
    assert ncu[ncu.index(sys.executable) : -1] == started[:-1] and ncu[-1] == "--repeats=1"
    here = [option.replace("--device=cuda", "--device=cpu") for option in started]
    result = subprocess.run(here, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert f"ran the workload 7 times: {make(mode='step')}" in result.stdout and "profiler_start" not in result.stderr
    assert not list(tmp_path.iterdir())
    assert "--backend" not in workload.command_lines(make(backend="cpu"), 7, tmp_path)["ncu"]  # it serves no GPU


@pytest.mark.parametrize("nvtx", [False, True])
def test_nvtx_only_when_asked_and_capture_without_warm_up(nvtx, monkeypatch):
    log = []

    @contextlib.contextmanager
    def noted(name):
        log.append(name)
        yield
        log.append(f"end of {name}")

    emit = torch.autograd.profiler.emit_nvtx
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda.profiler, "profile", lambda: noted("capture"))
    monkeypatch.setattr(torch.cuda.nvtx, "range", noted)
    fake_emit = lambda enabled: noted("operations") if enabled else emit(enabled=False)  # noqa: E731
    monkeypatch.setattr(torch.autograd.profiler, "emit_nvtx", fake_emit)
    monkeypatch.setattr(Workload, "warmed_up", lambda self: log.append("warm-up") or (lambda: log.append("run")))
    workload.run_plain(make(device="cuda"), 2, nvtx)
    run = ["fastkan step", "run", "end of fastkan step"] if nvtx else ["run"]
    runs = ["operations", *run, *run, "end of operations"] if nvtx else [*run, *run]
    assert log == ["warm-up", "capture", *runs, "end of capture"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--rows=0"], "argument --rows: expected a whole number of at least 1, received '0'"),
        (["--repeats=many"], "argument --repeats: expected a whole number of at least 1, received 'many'"),
        (["--dtype=int8"], "argument --dtype: invalid choice: 'int8'"),
        (["--nvtx", "--plain"], "argument --nvtx: expected --device cuda (NVTX ranges need CUDA), received --device cpu"),
        (["--out=" + __file__], "argument --out: expected a folder, received the file " + __file__),
        (["--backend=cpu", "--degree=9"], "argument --backend: backend 'cpu' cannot serve this call"),
    ],
)
def test_wrong_options_say_what_is_expected(arguments, message, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch, "--device=cpu", *arguments)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_device_and_nvtx_without_their_conditions(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        command(monkeypatch, "--device=cuda")
    assert "argument --device: expected cpu (torch sees no CUDA device), received cuda" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SystemExit):
        command(monkeypatch, "--device=cuda", "--nvtx")
    assert "argument --nvtx: expected --plain too" in capsys.readouterr().err


def test_matplotlib_is_asked_for_before_anything_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit):
        command(monkeypatch, *SMALL, f"--out={tmp_path / 'out'}")
    assert "pip install matplotlib" in capsys.readouterr().err and not (tmp_path / "out").exists()
    command(monkeypatch, *SMALL, "--plain", "--device=cpu")  # draws nothing, so needs none
    assert "ran the workload 7 times" in capsys.readouterr().out


def test_roofline_shows_every_operation_and_both_roofs(monkeypatch, tmp_path):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **settings: drawn.append(figure))
    found = make_peaks(1e11, [(2**10, 2e10)])
    rows = {name: roofline.place(make(), name, 1e-4 * (k + 1), found) for k, name in enumerate(make().operations)}
    document = {"workload": vars(make()), "device": "this CPU", "count": "all slots", "peaks": vars(found), "operations": rows}
    draw.roofline(document, tmp_path / "roofline.png")
    axes = drawn[0].axes[0]
    roof = axes.lines[0].get_xydata()
    assert roof[1].tolist() == [5, 100] and roof[2, 1] == 100  # the ridge, in FLOP/byte and GFLOP/s
    assert roof[0, 1] / roof[0, 0] == pytest.approx(20)  # GB/s
    points = {line.get_label().split(":")[0]: line.get_xydata()[0] for line in axes.lines if line.get_marker() != "None"}
    for name, row in rows.items():
        assert points[name].tolist() == pytest.approx([row["done"]["intensity"], row["done"]["flops_per_second"] / 1e9])
        assert axes.get_xlim()[0] < points[name][0] < axes.get_xlim()[1] and axes.get_ylim()[0] < points[name][1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_profile_of_a_gpu(quick, monkeypatch, tmp_path):
    command(monkeypatch, *SMALL, "--device=cuda", f"--out={tmp_path}")
    document = json.loads((tmp_path / "profile.json").read_text())
    assert {row["operation"] for row in document["kernels"]} >= set(document["operations"])
    ours = sum(row["seconds"] for row in document["operations"].values())
    assert 0 < ours <= 1.5 * document["device_seconds_per_run"]
    command(monkeypatch, *SMALL, "--device=cuda", "--plain", "--nvtx")
