"""One group after another: admit every entrant by the gate, race them, and write rows of one metric each."""

import functools
import gc
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch

from benchmarks.cases import Problem
from benchmarks.memory import Probe, allocated_growth, failed
from benchmarks.speed import Row
from benchmarks.throughput import plan
from benchmarks.throughput.clock import COLD, LAUNCHED, WARM, Flush, Racer, race, ready
from benchmarks.throughput.entrants import CEILING, EAGER, LINEAR, UNFUSED, Entrant, entrants
from benchmarks.throughput.gate import Gate
from benchmarks.throughput.plan import Group
from benchmarks.timing import Spread, ratio

SLOWEST = 1.0  # seconds a call


class ContextLost(RuntimeError):
    """A kernel left the GPU unusable for this process."""


@dataclass
class Round:
    """What a worker knows while it measures one operation of one group."""

    group: Group
    operation: str
    problem: Problem
    gate: Gate
    device: str
    flush: Flush
    beat: Callable[[str], bool]
    crashed: dict[str, str] = field(default_factory=dict)  # entrants that ended an earlier worker here, and how
    everything: bool = False


def _admit(entrant: Entrant, now: Round) -> Racer | Probe:
    """Correct, not too slow, its memory known: ready to race; else why not."""
    prepared = entrant.prepare(now.problem, now.operation)
    results = prepared.call()
    if prepared.named and (objection := now.gate.objection(now.operation, prepared.named(results))):
        return Probe("wrong", objection)
    del results
    found = allocated_growth(prepared.call) if now.device == "cuda" else Probe("ok", seconds=0.0)
    if found.seconds > SLOWEST:
        return Probe("skipped", f"{found.seconds:.1f} s a call, limit {SLOWEST:.0f} s")
    racer = ready(prepared.call, now.device)
    racer.peak = found.peak
    return racer


def admit(entrant: Entrant, now: Round) -> Racer | Probe:
    """_admit, with every failure turned into its reason; ContextLost if the GPU does not answer any more."""
    if entrant.name in now.crashed:
        return Probe("crashed", now.crashed[entrant.name])
    reason = entrant.declines(now.group.case)
    if reason is None and not now.everything:
        reason = plan.left_out(now.group, entrant.family, entrant.compiled)
    if reason is not None:
        return Probe("skipped", reason)
    if not now.beat(entrant.name):
        return Probe("not reached", "the time was spent")
    try:
        return _admit(entrant, now)
    except Exception as error:
        found = failed(error)
    if now.device == "cuda":
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError as error:
            raise ContextLost(f"{found.reason}; then {failed(error).reason}") from error
    return found


def _common(group: Group, operation: str, entrant: Entrant, device: str) -> dict:
    size = group.size
    shape = {"batch": size.batch, "in_features": size.in_features, "out_features": size.out_features}
    who = {"mode": operation, "provider": entrant.name, "family": entrant.family}
    shape |= {"grid_size": size.grid_size, "degree": 3, "dtype": group.precision, "device": device}
    return {"case": size.name, **shape, **who}


def failure(group: Group, operation: str, entrant: Entrant, device: str, found: Probe) -> dict:
    """The one row of an entrant without times."""
    common = _common(group, operation, entrant, device)
    return asdict(Row(**common, metric=WARM, unit="s", status=found.status, reason=found.reason))


def _speeds(racer: Racer, racers: dict[str, Racer]) -> dict[str, Spread]:
    """How many times as fast as the others, round by round; with a cold cache as the ceiling only."""
    speeds = {}
    for other, metric in ((CEILING, WARM), (LINEAR, WARM), (UNFUSED, WARM), (EAGER, WARM), (CEILING, COLD)):
        if other in racers and (found := ratio(racers[other].times[metric], racer.times[metric])):
            speeds[f"speed / {other.partition(',')[0]}" + metric.removeprefix(WARM)] = found
    return speeds


def rows(entrant: Entrant, racer: Racer, racers: dict[str, Racer], now: Round) -> list[dict]:
    """Times, rates, ratios and memory of one entrant."""
    group, operation = now.group, now.operation
    row = functools.partial(Row, **_common(group, operation, entrant, now.device))
    found = []
    for metric in (WARM, COLD, LAUNCHED):
        times = [seconds for seconds in racer.times.get(metric, []) if seconds is not None]
        if times:
            reason = racer.note if metric == WARM else ""
            found.append(row(metric=metric, unit="s", **asdict(Spread.of(times)), reason=reason))
    flops = group.size.flops * plan.PRODUCTS.get(operation, 1)
    if found and entrant.family != "baseline":
        found.append(row(metric="dense rate", unit="FLOP/s", p50=flops / found[0].p50, count=found[0].count))
    found += [row(metric=metric, unit="1", **asdict(spread)) for metric, spread in _speeds(racer, racers).items()]
    if racer.peak is not None:
        found.append(row(metric="peak memory", unit="B", p50=racer.peak, count=1))
        found.append(row(metric=plan.BASIS_SHARE, unit="1", p50=racer.peak / group.basis_bytes, count=1))
    return [asdict(line) for line in found]


def measure(now: Round) -> list[dict]:
    """Every entrant of one operation; an entrant that did not come to its first turn says so."""
    taking_part = [entrant for entrant in entrants(now.device) if now.operation in entrant.operations]
    verdicts = {entrant.name: admit(entrant, now) for entrant in taking_part}
    racers = {name: verdict for name, verdict in verdicts.items() if isinstance(verdict, Racer)}
    race(racers, now.flush, now.device, now.beat)
    found = []
    for entrant in taking_part:
        verdict = verdicts[entrant.name]
        if isinstance(verdict, Probe):
            found.append(failure(now.group, now.operation, entrant, now.device, verdict))
        else:
            found += rows(entrant, verdict, racers, now)
    return found


def release(device: str) -> None:
    """Between operations: graphs and their memory pools."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
