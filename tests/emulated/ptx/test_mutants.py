"""The proof must notice faults: each mutant changes one place of the 2:4 kernel's source, and the run must fail."""

import shutil

import pytest
import torch
from layer import Layer, assert_same_operands, forward, layer
from memory import Fault

pytestmark = pytest.mark.proof
SOURCE = """
#include "cuda/two_four/forward.h"
namespace fastkan::two_four {
template __global__ void pack_weight<Bfloat16, Bfloat16>(const Bfloat16*, Piece*, const Sizes);
template __global__ void forward<float, Bfloat16, 1, 8>(const Call);
}
"""
MUTANTS = {
    "metadata constant": ("window.h", "0x44444444u", "0x44444448u"),
    "nibble factor": ("window.h", ">> 1) * 5 +", ">> 1) * 6 +"),
    "metadata of even and odd slots exchanged": ("window.h", "lane & 1 ? 0 : one", "lane & 1 ? one : 0"),
    "metadata of rows exchanged": ("window.h", "0x5410", "0x1054"),
    "window shifted": ("forward.h", "-3.5f - float", "-2.5f - float"),
    "window past the grid's end": ("window.h", "8.25f", "7.25f"),
    "slots outside the window not 0": ("window.h", "0xbb", "0x33"),
    "even and odd values exchanged": ("window.h", "outer, inner, selector >> 16", "outer, inner, selector"),
    "wait for one group of copies too few": ("forward.h", "kStages - 2>", "kStages - 1>"),
    "barrier removed": ("forward.h", "__syncthreads();", ""),
    "stage overwritten while it is read": ("forward.h", "copy(step + kStages - 1)", "copy(step + kStages)"),
    "NaN dropped": ("activation.h", "-kLog2E * x", "-kLog2E * fmaxf(x, -1000.0f)"),
    "inputs past the end not 0": ("forward.h", "column + c < call_.in_features ? value_of", "true ? value_of"),
    "rows past the end stored": ("forward.h", "if (row < call_.batch)", "if (true)"),
    "base slots of inputs exchanged": ("pack.h", "2 * (word % 2) + high", "2 * (word % 2) + 1 - high"),
    "slots past the last one not 0": ("pack.h", "if (at.slot >= sizes.splines)", "if (false)"),
    "outputs of two halves exchanged": ("pack.h", "at.output += 8 * half", "at.output += 8 * (1 - half)"),
}


def prove(ptx: str) -> None:
    """A small layer with x on and outside knots, infinity and NaN, two blocks of slots; copies late and early."""
    given = layer(20, 35, 20, 9)
    for early in (False, True):
        assert_same_operands(forward(ptx, given, order="forwards", early=early), given)
    x = given.x[:2].clone()
    x[0, 0], x[1, 0] = torch.inf, torch.nan
    y = forward(ptx, Layer(x, given.weight, given.knots))
    assert y[0].isinf().all() and y[1].isnan().all()


@pytest.mark.parametrize("name", ["none", *MUTANTS])
def test_a_mutant_is_caught(compiler, tmp_path, name):
    headers = tmp_path / "csrc"
    shutil.copytree(compiler.sources, headers)
    if name == "none":
        prove(compiler.ptx(SOURCE, headers=headers))
        return
    file, old, new = MUTANTS[name]
    path = headers / "cuda" / "two_four" / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    ptx = compiler.ptx(SOURCE, headers=headers)
    with pytest.raises((AssertionError, Fault)):  # a wrong answer, or what it led to
        prove(ptx)
