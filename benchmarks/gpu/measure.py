"""One group after another: admit every peer by the gate, race them, and write rows of one metric each."""

import functools
import gc
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch

from benchmarks.cases import Problem
from benchmarks.document import Row
from benchmarks.gate import Gate
from benchmarks.gpu import plan
from benchmarks.gpu.plan import Group
from benchmarks.gpu.race import COLD, LAUNCHED, WARM, Flush, Racer, race, ready
from benchmarks.memory import Probe, allocated_growth, failed
from benchmarks.peers.operations import CEILING, EAGER, LINEAR, UNFUSED, OperationPeer, taking_part
from benchmarks.timer import Spread, ratio

SLOWEST = 1.0  # seconds a call


class ContextLost(RuntimeError):
    """A kernel left the GPU unusable for this process."""


@dataclass
class Round:
    """What a worker knows while it measures one mode of one group."""

    group: Group
    mode: str
    problem: Problem
    gate: Gate
    device: str
    flush: Flush
    beat: Callable[[str], bool]
    crashed: dict[str, str] = field(default_factory=dict)  # peers that ended an earlier worker here, and how
    everything: bool = False


def _admit(peer: OperationPeer, now: Round) -> Racer | Probe:
    """Correct, not too slow, its memory known: ready to race; else why not."""
    prepared = peer.prepare(now.problem, now.mode)
    results = prepared.call()
    if prepared.named and (objection := now.gate.objection(now.mode, prepared.named(results))):
        return Probe("wrong", objection)
    del results
    found = allocated_growth(prepared.call) if now.device == "cuda" else Probe("ok", seconds=0.0)
    if found.seconds > SLOWEST:
        return Probe("skipped", f"{found.seconds:.1f} s a call, limit {SLOWEST:.0f} s")
    racer = ready(prepared.call, now.device)
    racer.peak = found.peak
    return racer


def admit(peer: OperationPeer, now: Round) -> Racer | Probe:
    """_admit, with every failure turned into its reason; ContextLost if the GPU does not answer any more."""
    if peer.name in now.crashed:
        return Probe("crashed", now.crashed[peer.name])
    reason = peer.declines(now.group.case)
    if reason is None and not now.everything:
        reason = plan.left_out(now.group, peer.family, peer.compiled)
    if reason is not None:
        return Probe("skipped", reason)
    if not now.beat(peer.name):
        return Probe("not reached", "the time was spent")
    try:
        return _admit(peer, now)
    except Exception as error:
        found = failed(error)
    if now.device == "cuda":
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError as error:
            raise ContextLost(f"{found.reason}; then {failed(error).reason}") from error
    return found


def _common(group: Group, mode: str, peer: OperationPeer, device: str) -> dict:
    size = group.size
    shape = {"batch": size.batch, "in_features": size.in_features, "out_features": size.out_features}
    who = {"mode": mode, "peer": peer.name, "family": peer.family}
    shape |= {"grid_size": size.grid_size, "degree": 3, "dtype": group.precision, "device": device}
    return {"case": size.name, **shape, **who}


def failure(group: Group, mode: str, peer: OperationPeer, device: str, found: Probe) -> dict:
    """The one row of a peer without times."""
    common = _common(group, mode, peer, device)
    return asdict(Row(**common, metric=WARM, unit="s", status=found.status, reason=found.reason))


def _speeds(racer: Racer, racers: dict[str, Racer]) -> dict[str, Spread]:
    """How many times as fast as the others, round by round; with a cold cache as the ceiling only."""
    speeds = {}
    for other, metric in ((CEILING, WARM), (LINEAR, WARM), (UNFUSED, WARM), (EAGER, WARM), (CEILING, COLD)):
        if other in racers and (found := ratio(racers[other].times[metric], racer.times[metric])):
            speeds[f"speed / {other.partition(',')[0]}" + metric.removeprefix(WARM)] = found
    return speeds


def rows(peer: OperationPeer, racer: Racer, racers: dict[str, Racer], now: Round) -> list[dict]:
    """Times, rates, ratios and memory of one peer."""
    group, mode = now.group, now.mode
    row = functools.partial(Row, **_common(group, mode, peer, now.device))
    found = []
    for metric in (WARM, COLD, LAUNCHED):
        times = [seconds for seconds in racer.times.get(metric, []) if seconds is not None]
        if times:
            reason = racer.note if metric == WARM else ""
            found.append(row(metric=metric, unit="s", **asdict(Spread.of(times)), reason=reason))
    flops = group.size.flops * plan.PRODUCTS.get(mode, 1)
    if found and peer.family != "baseline":
        found.append(row(metric="matrix rate", unit="FLOP/s", p50=flops / found[0].p50, count=found[0].count))
    found += [row(metric=metric, unit="1", **asdict(spread)) for metric, spread in _speeds(racer, racers).items()]
    if racer.peak is not None:
        found.append(row(metric="peak memory", unit="B", p50=racer.peak, count=1))
        found.append(row(metric=plan.SLOTS_SHARE, unit="1", p50=racer.peak / group.slots_bytes, count=1))
    return [asdict(line) for line in found]


def measure(now: Round) -> list[dict]:
    """Every peer in one mode; a peer that did not come to its first turn says so."""
    present = [peer for peer in taking_part(now.device) if now.mode in peer.modes]
    verdicts = {peer.name: admit(peer, now) for peer in present}
    racers = {name: verdict for name, verdict in verdicts.items() if isinstance(verdict, Racer)}
    race(racers, now.flush, now.device, now.beat)
    found = []
    for peer in present:
        verdict = verdicts[peer.name]
        if isinstance(verdict, Probe):
            found.append(failure(now.group, now.mode, peer, now.device, verdict))
        else:
            found += rows(peer, verdict, racers, now)
    return found


def release(device: str) -> None:
    """Between modes: graphs and their memory pools."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
