"""What the sanitizer's outputs are taken for, and that its program runs."""

from gpu.sanitizer import program, verdict

CLEAN = "========= COMPUTE-SANITIZER\n360 calls\n========= ERROR SUMMARY: 0 errors\n"
RACE = "========= RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)\n"


def test_verdicts():
    assert verdict(0, CLEAN) == ("clean", 0)
    assert verdict(99, CLEAN.replace("0 errors", "3 errors")) == ("findings", 3)
    assert verdict(0, RACE) == ("findings", 2)
    assert verdict(None, "") == ("not finished", None)
    assert verdict(1, CLEAN) == ("failed", 0)
    assert verdict(0, "360 calls") == ("failed", None)  # the tool did not attach


def test_program():
    assert program("reference", "cpu", quick=True) == 3 * 4 * 5 * 2
