"""An activation that the kernels do not have is refused, and never computed as 0."""

import os

import ahead
import pytest
import torch
from triton.compiler.errors import CompilationError

from fastkan import kernels
from fastkan.splines.activations import ACTIVATIONS

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def call(activation, device, nu=0):
    x, weight = torch.zeros(4, 3, device=device), torch.zeros(3, 9, 2, device=device)
    return kernels.forward(x, weight, None, torch.linspace(-1.6, 1.6, 12).repeat(3, 1), 3, activation, nu)


@pytest.mark.skipif(not INTERPRETED, reason="runs the kernels in Triton's interpreter")
def test_an_unknown_activation_is_refused():
    with pytest.raises(Exception, match="an activation that kernels/activations.py does not have"):
        call("mish", "cpu")


@pytest.mark.skipif(INTERPRETED, reason="compiled in the run without the interpreter")
def test_an_unknown_activation_does_not_compile():
    with ahead.recorded(ahead.target_of("sm_90")), pytest.raises(CompilationError) as refused:
        call("mish", "meta")
    assert "an activation that kernels/activations.py does not have" in str(refused.value.__cause__)


@pytest.mark.skipif(INTERPRETED, reason="compiled in the run without the interpreter")
@pytest.mark.parametrize("nu", [0, 8])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_the_package_compiles(activation, nu):
    with ahead.recorded(ahead.target_of("sm_90")) as launches:
        call(activation, "meta", nu)
    assert [launch.settings["ACTIVATION"] for launch in launches] == [activation]
