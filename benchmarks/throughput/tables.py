"""The document as plain text: a table for every group, and what was aimed at beside what was measured."""

import textwrap
from collections.abc import Iterator

from benchmarks.throughput import plan
from benchmarks.throughput.clock import COLD, LAUNCHED, WARM
from benchmarks.throughput.plan import BFLOAT16, FLOAT16, GEMM_SHARE, Target

HEADER = ("op", "provider", "warm us", "p20..p80", "cold us", "python us", "TFLOP/s", "x cuBLAS", "cold", "x Linear",
          "x unfused", "x eff-kan", "peak MiB", "of basis", "note")  # fmt: skip
RATIOS = (GEMM_SHARE, GEMM_SHARE + ", cold L2", "speed / nn.Linear", "speed / best unfused", plan.EAGER_SPEEDUP)


def digits(value: float) -> str:
    """Three significant digits, no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1e-3 else f"{value:.5f}".rstrip("0").rstrip(".")


def _number(metrics: dict[str, dict], metric: str, unit: float = 1.0) -> str:
    return digits(metrics[metric]["p50"] / unit) if metric in metrics else "-"


def by_provider(rows: list[dict]) -> dict[str, dict[str, dict]]:
    found: dict[str, dict[str, dict]] = {}
    for row in rows:
        found.setdefault(row["provider"], {})[row["metric"]] = row
    return found


def cells(operation: str, provider: str, metrics: dict[str, dict]) -> tuple[str, ...]:
    time = metrics[WARM]
    if time["p50"] is None:
        return (operation, provider, *["-"] * (len(HEADER) - 3), f"{time['status']}: {time['reason']}")
    spread = f"{digits(1e6 * time['p20'])}..{digits(1e6 * time['p80'])}"
    numbers = [_number(metrics, metric, 1e-6) for metric in (COLD, LAUNCHED)]
    ratios = [_number(metrics, metric) for metric in RATIOS]
    rate, peak = _number(metrics, "dense rate", 1e12), _number(metrics, "peak memory", 2**20)
    share = f"{metrics[plan.BASIS_SHARE]['p50']:.1%}" if plan.BASIS_SHARE in metrics else "-"
    return (operation, provider, digits(1e6 * time["p50"]), spread, *numbers, rate, *ratios, peak, share, time["reason"])


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
    groups: dict[tuple[str, str], dict[str, list[dict]]] = {}
    for row in document["rows"]:
        groups.setdefault((row["case"], row["dtype"]), {}).setdefault(row["mode"], []).append(row)
    parts = []
    for (case, dtype), operations in groups.items():
        rows = [row for found in operations.values() for row in found]
        if all(row["status"] == "not reached" for row in rows):
            parts.append(f"{case}, {dtype}: not reached")
            continue
        lines, omitted = [HEADER], set()
        for operation in filter(operations.get, plan.ORDER):
            for name, metrics in by_provider(operations[operation]).items():
                if metrics[WARM]["reason"].startswith("left out"):
                    omitted.add(f"{name} {metrics[WARM]['reason']}")
                else:
                    lines.append(cells(operation, name, metrics))
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
    place = {"case": case, "dtype": dtype, "mode": target.operation, "metric": target.metric, "family": "fastkan"}
    rows = [row for row in document["rows"] if all(row[key] == value for key, value in place.items())]
    choose = min if target.at_most else max
    return choose(rows, key=lambda row: row["p50"], default=None)


def target_lines(document: dict) -> Iterator[tuple[str, ...]]:
    yield ("op", "what", "case", "precision", "target", "measured", "by", "verdict")
    for target in plan.TARGETS:
        wish = f"{'<=' if target.at_most else '>='} {target.value:g}"
        for size in target.sizes:
            for dtype in (BFLOAT16, FLOAT16):
                found = best(document, target, size.name, dtype)
                if found is None:
                    yield (target.operation, target.metric, size.name, dtype, wish, "-", "-", "not measured")
                    continue
                met = found["p50"] <= target.value if target.at_most else found["p50"] >= target.value
                verdict = "met" if met else "MISSED"
                yield (target.operation, target.metric, size.name, dtype, wish, digits(found["p50"]), found["provider"], verdict)


def targets(document: dict) -> list[str]:
    lines = list(target_lines(document))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return ["\n".join(["Targets (warm L2)", *padded])]
