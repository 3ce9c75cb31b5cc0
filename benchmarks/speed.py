"""First part of the run: every provider on every case and mode, into rows of one metric each."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from benchmarks.cases import Case, Problem
from benchmarks.check import Gate
from benchmarks.memory import Probe, failed, probe
from benchmarks.modes import Step, step
from benchmarks.providers.interface import Layer, Provider
from benchmarks.timing import ROUNDS, Rounds, Spread, interleave, ratio

LINEAR, PYKAN = "nn.Linear", "pykan speed()"


@dataclass(frozen=True)
class Row:
    """One metric of one provider on one case in one mode; without a value, status and reason say why."""

    case: str
    batch: int
    in_features: int
    out_features: int
    grid_size: int
    degree: int
    dtype: str
    device: str
    mode: str
    provider: str
    family: str
    metric: str
    unit: str
    p20: float | None = None
    p50: float | None = None
    p80: float | None = None
    count: int = 0
    elsewhere: float | None = None
    status: str = "ok"
    reason: str = ""


def rows_of(
    case: Case, name: str, device: str, mode: str, provider: str, family: str, verdict: Probe, rounds: Rounds
) -> list[dict]:
    """Time, its ratios and peak memory of one provider, or one row that says why there is no time."""
    shape = {key: value for key, value in asdict(case).items() if key not in ("modes", "without")}
    common = {"case": name, **shape, "device": device, "mode": mode, "provider": provider, "family": family}
    if verdict.status != "ok":
        return [asdict(Row(**common, metric="time", unit="s", status=verdict.status, reason=verdict.reason))]
    mine = rounds.seconds[provider]
    time = Spread.of([seconds for seconds in mine if seconds is not None])
    rows = [Row(**common, metric="time", unit="s", **asdict(time), elsewhere=rounds.elsewhere)]
    for base in (LINEAR, PYKAN):
        if base in rounds.seconds and (spread := ratio(mine, rounds.seconds[base])):
            rows.append(Row(**common, metric=f"time / {base}", unit="1", **asdict(spread)))
    if verdict.peak is not None:
        rows.append(Row(**common, metric="peak memory", unit="B", p50=verdict.peak, count=1))
    return [asdict(row) for row in rows]


def _first_contact(provider: Provider, case: Case, mode: str, device: str, limit: float) -> Probe:
    """Skip what is known to be too slow, measure the memory of the rest."""
    if provider.family in case.without:
        return Probe("skipped", "left out of this case to save time")
    if provider.predict and (seconds := provider.predict(case, mode)) > limit:
        return Probe("skipped", f"about {seconds:.0f} s a call predicted, limit {limit:.0f} s")
    found = probe(provider, case, mode, device, limit)
    if found.status == "ok" and found.seconds > limit:
        return Probe("skipped", f"{found.seconds:.0f} s a call, limit {limit:.0f} s")
    return found


class _Entrants:
    """The layers of one case, built once for all its modes; each passes the gate again in every mode."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.layers: dict[str, Layer] = {}

    def admit(self, provider: Provider, mode: str, gate: Gate) -> Step | Probe:
        """The call to time, warm, once its result was found right; else why not."""
        try:
            if provider.name not in self.layers:
                self.layers[provider.name] = provider.build(self.problem)
            layer = self.layers[provider.name]
            objection = gate.objection(layer)
            call = step(layer, self.problem, mode)
            call()
        except Exception as error:
            return failed(error)
        return Probe("wrong", objection) if objection else call


def measure_case(case: Case, providers: list[Provider], device: str, limit: float, advance: Callable[[str], None]) -> list[dict]:
    """Rows of one case. `advance` hears what is going on, `steps(case, providers)` times."""
    torch.compiler.reset()  # else a compiled provider's second case would be compiled for any shape
    problem = Problem.of(case, device)
    entrants = _Entrants(problem)
    rows = []
    for mode in case.modes:
        gate = Gate(problem, mode)
        verdicts: dict[str, Probe] = {}
        calls: dict[str, Step] = {}
        for provider in providers:
            name = provider.name
            advance(f"{case.name}: {mode}, {name}")
            verdicts[name] = _first_contact(provider, case, mode, device, limit)
            if verdicts[name].status == "ok":
                admitted = entrants.admit(provider, mode, gate)
                if isinstance(admitted, Probe):
                    verdicts[name] = admitted
                else:
                    calls[name] = admitted
        seconds = {name: verdicts[name].seconds for name in calls}
        timing = f"{case.name}: {mode}, timing"
        rounds = interleave(calls, seconds, device, lambda text=timing: advance(text))
        for provider in providers:
            name = provider.name
            rows += rows_of(case, case.name, device, mode, name, provider.family, verdicts[name], rounds)
    return rows


def steps(case: Case, providers: list[Provider]) -> int:
    return len(case.modes) * (len(providers) + ROUNDS)
