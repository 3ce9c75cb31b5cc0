"""How figures are shown, in every table and plot: their digits, their order and the colours of the peers."""

# Okabe and Ito's palette, told apart by colour-blind readers and in grey.
COLOURS = {
    "fastkan": "#0072B2",
    "unfused": "#56B4E9",
    "efficient-kan": "#E69F00",
    "inkan": "#009E73",
    "pykan": "#D55E00",
    "baseline": "#BBBBBB",
    "cuBLAS": "#333333",
}
MEBIBYTE = 2**20


def digits(value: float) -> str:
    """Three significant digits, no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1e-4 else f"{value:.5f}".rstrip("0").rstrip(".")


def grouped(rows: list[dict], *keys: str) -> dict[tuple, list[dict]]:
    """Rows by the values of some keys, in order of appearance."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def by_peer(rows: list[dict]) -> dict[str, dict[str, dict]]:
    """The rows of one case and mode as {peer: {metric: row}}, in order of appearance."""
    return {peer: {row["metric"]: row for row in group} for (peer,), group in grouped(rows, "peer").items()}


def by_time(rows: list[dict]) -> dict[str, dict[str, dict]]:
    """by_peer, fastest first, those without a time last."""
    return dict(sorted(by_peer(rows).items(), key=lambda pair: pair[1]["time"]["p50"] or float("inf")))
