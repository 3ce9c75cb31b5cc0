"""benchmarks/proof.py: what became of every part, from its exit code, its report and its time."""

import sys
from math import inf
from pathlib import Path

from benchmarks import proof

ROOT = Path(__file__).resolve().parents[2]
JUNIT = """<testsuites><testsuite tests="3" failures="1" errors="0" skipped="1">
<testcase classname="a" name="good"/><testcase classname="a" name="bad"><failure message="first&#10;second"/></testcase>
<testcase classname="a" name="left"><skipped message="no memory"/></testcase></testsuite></testsuites>"""


def test_proof_keeps_what_became_of_every_part(tmp_path):
    (tmp_path / "junit.xml").write_text(JUNIT)
    code = f"import sys, time; print('{ROOT}/x', flush=True); time.sleep(float(sys.argv[1])); sys.exit(int(sys.argv[2]))"
    part = proof.Part("tests", [sys.executable, "-c", code, "0", "3"])
    proof.read_junit(proof.Running(part).finish(inf), tmp_path / "junit.xml")
    found = part.record()
    assert found["status"] == "failed, code 3" and found["output"] == ["x"] and found["command"][0] == "python"
    assert found["counts"] == {"tests": 3, "failures": 1, "errors": 0, "skipped": 1}
    assert [(one["test"], one["outcome"], one["message"]) for one in found["outcomes"]] == [
        ("a::bad", "failure", "first"),
        ("a::left", "skipped", "no memory"),
    ]
    hanging = proof.Running(proof.Part("slow", [sys.executable, "-c", code, "600", "0"]))
    slow = hanging.finish(until=proof.clock())  # which has passed when it is waited for
    assert slow.status == "not finished in its time" and hanging.process.returncode != 0
    assert proof.Running(proof.Part("quick", [sys.executable, "-c", code, "0", "0"])).finish(inf).status == "passed"
