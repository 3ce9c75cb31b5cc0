"""A whole network so small that calls cost more than their work: pykan's first example, forward and training step."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.cases import BACKWARD, FORWARD, Case, Problem
from benchmarks.cpu.speed import rows_of
from benchmarks.gate import error
from benchmarks.memory import Probe, failed
from benchmarks.modes import Step, step
from benchmarks.peers import efficient, fastkan, pykan
from benchmarks.peers.interface import Layer
from benchmarks.timer import ROUNDS, interleave

WIDTHS, ROWS = (2, 5, 1), 1000
CASE = Case(ROWS, WIDTHS[0], WIDTHS[-1], dtype="float64", modes=(FORWARD, BACKWARD))
NAME = f"network {list(WIDTHS)}, batch {ROWS}, G={CASE.grid_size}, p={CASE.degree}, {CASE.dtype}"
ENOUGH = 1e-6  # of the largest value: peers that keep their knots in float32 leave 4e-8, another function 1e-1


def chain(layers: list[Layer]) -> Layer:
    """One layer after another, in Python."""

    def call(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer.call(x)
        return x

    return Layer(call, tuple(p for layer in layers for p in layer.parameters))


def _fastkan(problems: list[Problem]) -> Layer:
    model = fastkan.network(problems, "cpu")
    return Layer(model, tuple(model.parameters()))


def _perceptron(problems: list[Problem]) -> Layer:
    """The same widths, one weight an edge."""
    layers = [nn.Linear(*pair, bias=False, dtype=problems[0].weight.dtype) for pair in pairwise(WIDTHS)]
    model = nn.Sequential(layers[0], nn.SiLU(), layers[1])
    return Layer(model, tuple(model.parameters()))


NETWORKS: dict[str, tuple[str, Callable[[list[Problem]], Layer]]] = {
    "fastkan cpu": ("fastkan", _fastkan),
    "fastkan cpu, layer by layer": ("fastkan", lambda problems: chain([fastkan.build(p, "cpu") for p in problems])),
    "efficient-kan style": ("efficient-kan", lambda problems: chain([efficient.build(p) for p in problems])),
    "pykan speed()": ("pykan", partial(pykan.network, variant="speed")),
    "pykan speed(compile=True)": ("pykan", partial(pykan.network, variant="compile")),
    "MLP of the same widths": ("baseline", _perceptron),
}


def _objection(name: str, results: tuple[Tensor | None, ...], expected: tuple[Tensor | None, ...]) -> str:
    """What is wrong with y and, of a training step, the gradient of x; empty for nothing, and for another function."""
    if NETWORKS[name][0] == "baseline":
        return ""
    for what, result, truth in zip(("y", "grad x"), results, expected, strict=False):
        off = error(result, truth)
        if not off <= ENOUGH:
            return f"{what} is {off:.1e} off"
    return ""


def measure(advance: Callable[[str], None]) -> list[dict]:
    """Rows as speed.measure_case has them, on the CPU. `advance` hears what is going on, `steps()` times."""
    torch.compiler.reset()
    problems = [Problem.of(Case(ROWS, *pair, dtype=CASE.dtype), "cpu") for pair in pairwise(WIDTHS)]
    whole = Problem.of(CASE, "cpu")  # x, and the cotangent of the output
    truth = chain([fastkan.build(problem, "reference") for problem in problems])
    rows = []
    for mode in CASE.modes:
        expected = step(truth, whole, mode)()
        verdicts: dict[str, Probe] = {}
        calls: dict[str, Step] = {}
        for name, (_, build) in NETWORKS.items():
            advance(f"{NAME}: {mode}, {name}")
            try:
                call = step(build(problems), whole, mode)
                objection = _objection(name, call(), expected)
            except Exception as reason:
                verdicts[name] = failed(reason)
                continue
            verdicts[name] = Probe("wrong", objection) if objection else Probe("ok")
            if not objection:
                calls[name] = call
        rounds = interleave(calls, dict.fromkeys(calls, 0.0), "cpu", lambda text=f"{NAME}: {mode}, timing": advance(text))
        for name, (family, _) in NETWORKS.items():
            rows += rows_of(CASE, NAME, "cpu", mode, name, family, verdicts[name], rounds)
    return rows


def steps() -> int:
    return len(CASE.modes) * (len(NETWORKS) + ROUNDS)
