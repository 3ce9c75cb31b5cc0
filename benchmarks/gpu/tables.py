"""The document as plain text: a table for every group, and what was aimed at beside what was measured."""

import textwrap
from collections.abc import Iterator

from benchmarks.display import MEBIBYTE, by_peer, digits, grouped
from benchmarks.gpu import plan
from benchmarks.gpu.plan import BFLOAT16, FLOAT16, GEMM_SHARE, Target
from benchmarks.gpu.race import COLD, LAUNCHED, WARM

HEADER = ("mode", "peer", "warm us", "p20..p80", "cold us", "python us", "TFLOP/s", "x cuBLAS", "cold", "x Linear",
          "x unfused", "x eff-kan", "peak MiB", "of slots", "note")  # fmt: skip
RATIOS = (GEMM_SHARE, GEMM_SHARE + ", cold L2", "speed / nn.Linear", "speed / best unfused", plan.EAGER_SPEEDUP)


def _number(metrics: dict[str, dict], metric: str, unit: float = 1.0) -> str:
    return digits(metrics[metric]["p50"] / unit) if metric in metrics else "-"


def cells(mode: str, peer: str, metrics: dict[str, dict]) -> tuple[str, ...]:
    time = metrics[WARM]
    if time["p50"] is None:
        return (mode, peer, *["-"] * (len(HEADER) - 3), f"{time['status']}: {time['reason']}")
    spread = f"{digits(1e6 * time['p20'])}..{digits(1e6 * time['p80'])}"
    numbers = [_number(metrics, metric, 1e-6) for metric in (COLD, LAUNCHED)]
    ratios = [_number(metrics, metric) for metric in RATIOS]
    rate, peak = _number(metrics, "matrix rate", 1e12), _number(metrics, "peak memory", MEBIBYTE)
    share = f"{metrics[plan.SLOTS_SHARE]['p50']:.1%}" if plan.SLOTS_SHARE in metrics else "-"
    return (mode, peer, digits(1e6 * time["p50"]), spread, *numbers, rate, *ratios, peak, share, time["reason"])


def aligned(lines: list[tuple[str, ...]]) -> Iterator[str]:
    """Columns padded to their widest cell: words to the left, numbers to the right; long notes are cut."""
    lines = [(*line[:-1], textwrap.shorten(line[-1], 100, placeholder=" ...")) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    words = (0, 1, len(widths) - 1)
    for line in lines:
        sides = [str.ljust if k in words else str.rjust for k in range(len(line))]
        yield "  ".join(side(cell, width) for side, cell, width in zip(sides, line, widths, strict=True)).rstrip()


def report(document: dict) -> str:
    """Every group's table, the conditions, then the targets."""
    parts = []
    for (case, dtype), rows in grouped(document["rows"], "case", "dtype").items():
        if all(row["status"] == "not reached" for row in rows):
            parts.append(f"{case}, {dtype}: not reached")
            continue
        lines, omitted = [HEADER], set()
        by_mode = grouped(rows, "mode")
        for mode in (mode for mode in plan.ORDER if (mode,) in by_mode):
            for name, metrics in by_peer(by_mode[mode,]).items():
                if metrics[WARM]["reason"].startswith("left out"):
                    omitted.add(f"{name} {metrics[WARM]['reason']}")
                else:
                    lines.append(cells(mode, name, metrics))
        parts.append("\n".join([f"{case}, {dtype}", *aligned(lines), *sorted(omitted)]))
    return "\n\n".join([*parts, document["method"], conditions(document), *targets(document)]) + "\n"


def conditions(document: dict) -> str:
    found = document["environment"]
    facts = found["gpu_facts"] or {}
    driver = (facts.get("nvidia_smi") or {}).get("driver_version", "unknown")
    clocks = sorted({state["clocks.sm"] for state in document["states"] if "clocks.sm" in state})
    seen = f"; SM clock just after measuring {clocks[0]} to {clocks[-1]}" if clocks else ""
    own = found["fastkan"]
    versions = f"torch {own['torch']}, triton {own['triton']}, CUDA {facts.get('cuda')}, driver {driver}"
    whole = "" if document["complete"] else " The run ended before everything was measured: see the rows not reached."
    return f"{found['gpu'] or found['processor']}; {versions}; commit {found['commit']}, {found['date'][:10]}{seen}.{whole}"


# ---- targets


def best(document: dict, target: Target, case: str, dtype: str) -> dict | None:
    """The row of the best of fastkan's backends."""
    place = {"case": case, "dtype": dtype, "mode": target.mode, "metric": target.metric, "family": "fastkan"}
    rows = [row for row in document["rows"] if all(row[key] == value for key, value in place.items())]
    choose = min if target.at_most else max
    return choose(rows, key=lambda row: row["p50"], default=None)


def target_lines(document: dict) -> Iterator[tuple[str, ...]]:
    yield ("mode", "what", "case", "precision", "target", "measured", "by", "verdict")
    for target in plan.TARGETS:
        wish = f"{'<=' if target.at_most else '>='} {target.value:g}"
        for size in target.sizes:
            for dtype in (BFLOAT16, FLOAT16):
                found = best(document, target, size.name, dtype)
                if found is None:
                    yield (target.mode, target.metric, size.name, dtype, wish, "-", "-", "not measured")
                    continue
                met = found["p50"] <= target.value if target.at_most else found["p50"] >= target.value
                verdict = "met" if met else "MISSED"
                yield (target.mode, target.metric, size.name, dtype, wish, digits(found["p50"]), found["peer"], verdict)


def targets(document: dict) -> list[str]:
    lines = list(target_lines(document))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return ["\n".join(["Targets (warm L2)", *padded])]
