"""python -m fastkan demo: a first-time user's minute."""

import subprocess
import sys


def test_finds_the_inputs_that_matter_and_draws_them(tmp_path):
    picture = tmp_path / "demo.png"
    command = [sys.executable, "-m", "fastkan", "demo", "--output", str(picture)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "kept: [2, 1, 1], of the inputs b c\n" in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    error = float(result.stdout.split("error on new rows ")[1].split()[0])
    assert error < 1e-5
