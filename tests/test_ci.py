"""Which parts of the proof .ci/run starts, by the files touched and by its clock."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("parts", ROOT / ".ci" / "parts.py")
parts = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(parts)


def test_every_folder_is_there():
    assert [folder for folder in parts.FOLDERS if not (ROOT / folder).exists()] == []


@pytest.mark.parametrize(
    "files, expected",
    [
        (["csrc/cpu/operations.cpp"], ["cpu"]),
        (["csrc/core/problem.h"], ["cpu", "cuda"]),
        (["kernels/forward.py", "csrc/cuda/forward.cu", ""], ["triton", "cuda"]),
        (["fastkan/ops/table.py"], ["cpu", "triton", "cuda"]),
        (["README.md", "docs/design.md", "kernels_of_another_name"], []),
    ],
)
def test_folders_need_parts(files, expected):
    assert parts.needed(files) == expected


def run(statuses, minutes_each, minutes_before=10):
    """(exit status, parts started with the seconds given to each) when every part takes `minutes_each`."""
    now, started = [minutes_before * 60.0], []

    def make(part, seconds):
        started.append((part, seconds))
        now[0] += min(minutes_each * 60, seconds)
        return statuses[part] if minutes_each * 60 <= seconds else None

    return parts.run(list(statuses), 0, lambda: now[0], make), started


def test_all_parts_in_time(capsys):
    assert run({"cpu": 0, "triton": 0, "cuda": 0}, 5) == (0, [("cpu", 48 * 60), ("triton", 43 * 60), ("cuda", 38 * 60)])
    assert capsys.readouterr().out.strip() == ""


def test_none_starts_late(capsys):
    assert run({"cpu": 0, "cuda": 0}, 25) == (0, [("cpu", 48 * 60)])
    said = capsys.readouterr().out
    assert "left out: proof-cuda: 35 minutes have passed" in said
    assert "left out: proof-triton: no recent commit touched its folders" in said


def test_cut_short_is_no_failure(capsys):
    assert run({"cuda": 1}, 50) == (0, [("cuda", 48 * 60)])
    assert "left out: proof-cuda: left unfinished after 58 minutes" in capsys.readouterr().out


def test_a_failure_fails_and_the_other_parts_still_run(capsys):
    status, started = run({"cpu": 2, "cuda": 0}, 5)
    assert status == 1 and [part for part, _ in started] == ["cpu", "cuda"]
    assert "proof-cpu: failed" in capsys.readouterr().out
