"""First part of `python -m benchmarks cpu`: every peer on every case and mode, into rows of one metric each."""

from collections.abc import Callable
from dataclasses import asdict

import torch

from benchmarks.cases import Case, Problem
from benchmarks.document import Row
from benchmarks.gate import Gate
from benchmarks.memory import Probe, failed, probe
from benchmarks.modes import Step, named, step
from benchmarks.peers.interface import Layer, Peer
from benchmarks.timer import ROUNDS, Rounds, Spread, interleave, ratio

LINEAR, PYKAN = "nn.Linear", "pykan speed()"


def rows_of(case: Case, name: str, device: str, mode: str, peer: str, family: str, verdict: Probe, rounds: Rounds) -> list[dict]:
    """Time, its ratios and peak memory of one peer, or one row that says why there is no time."""
    shape = {key: value for key, value in asdict(case).items() if key not in ("modes", "without")}
    common = {"case": name, **shape, "device": device, "mode": mode, "peer": peer, "family": family}
    if verdict.status != "ok":
        return [asdict(Row(**common, metric="time", unit="s", status=verdict.status, reason=verdict.reason))]
    mine = rounds.seconds[peer]
    time = Spread.of(mine)
    rows = [Row(**common, metric="time", unit="s", **asdict(time), elsewhere=rounds.elsewhere)]
    for base in (LINEAR, PYKAN):
        if base in rounds.seconds and (spread := ratio(mine, rounds.seconds[base])):
            rows.append(Row(**common, metric=f"time / {base}", unit="1", **asdict(spread)))
    if verdict.peak is not None:
        rows.append(Row(**common, metric="peak memory", unit="B", p50=verdict.peak, count=1))
    return [asdict(row) for row in rows]


def _first_contact(peer: Peer, case: Case, mode: str, device: str, limit: float) -> Probe:
    """Skip what is known to be too slow, measure the memory of the rest."""
    if peer.family in case.without:
        return Probe("skipped", "left out of this case to save time")
    if peer.predict and (seconds := peer.predict(case, mode)) > limit:
        return Probe("skipped", f"about {seconds:.0f} s a call predicted, limit {limit:.0f} s")
    found = probe(peer, case, mode, device, limit)
    if found.status == "ok" and found.seconds > limit:
        return Probe("skipped", f"{found.seconds:.0f} s a call, limit {limit:.0f} s")
    return found


class _Admitted:
    """The layers of one case, built once for all its modes; each passes the gate again in every mode."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.layers: dict[str, Layer] = {}

    def admit(self, peer: Peer, mode: str, gate: Gate) -> Step | Probe:
        """The call to time, warm, once its result was found right; else why not."""
        try:
            if peer.name not in self.layers:
                self.layers[peer.name] = peer.build(self.problem)
            layer = self.layers[peer.name]
            call = step(layer, self.problem, mode)
            objection = gate.objection(mode, named(layer, mode, call())) if layer.to_slots else None
            call()
        except Exception as error:
            return failed(error)
        return Probe("wrong", objection) if objection else call


def measure_case(case: Case, peers: list[Peer], device: str, limit: float, advance: Callable[[str], None]) -> list[dict]:
    """Rows of one case. `advance` hears what is going on, `steps(case, peers)` times."""
    torch.compiler.reset()  # else a compiled peer's second case would be compiled for any shape
    problem = Problem.of(case, device)
    admitted, gate = _Admitted(problem), Gate(problem)
    rows = []
    for mode in case.modes:
        verdicts: dict[str, Probe] = {}
        calls: dict[str, Step] = {}
        for peer in peers:
            name = peer.name
            advance(f"{case.name}: {mode}, {name}")
            verdicts[name] = _first_contact(peer, case, mode, device, limit)
            if verdicts[name].status == "ok":
                call = admitted.admit(peer, mode, gate)
                if isinstance(call, Probe):
                    verdicts[name] = call
                else:
                    calls[name] = call
        seconds = {name: verdicts[name].seconds for name in calls}
        timing = f"{case.name}: {mode}, timing"
        rounds = interleave(calls, seconds, device, lambda text=timing: advance(text))
        for peer in peers:
            name = peer.name
            rows += rows_of(case, case.name, device, mode, name, peer.family, verdicts[name], rounds)
    return rows


def steps(case: Case, peers: list[Peer]) -> int:
    return len(case.modes) * (len(peers) + ROUNDS)
