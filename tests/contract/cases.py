"""The one table of shapes, grids and activations that every backend runs, with the exact answer and the tolerance.

Exact answers come from an independent implementation in numpy's extended precision. An answer is right when its error is at
most 2x (3x for gradients) that of the plain PyTorch expression in the same dtype on the same inputs, plus two rounding units
of the answer, since the yardstick may be exact by luck where every term but one is 0.
"""

import functools
import math
import os
from dataclasses import dataclass

import numpy as np
import torch
from contract.exact_activations import exact_activation

from fastkan import reference
from fastkan.splines.activations import ACTIVATIONS

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SHARE = int(os.environ.get("FASTKAN_CASES", "1"))  # one case in so many: Makefile
ABSENT: dict[str, set[str]] = {}  # by backend, the operations that it has no kernel for: their tests are skipped
FACTOR = {"forward": 2, "grad_input": 3, "grad_weight": 3, "gram": 3, "quadratic": 3}


@dataclass(frozen=True)
class Case:
    """B rows, I inputs, O outputs, grid_size, degree; knots: uniform, spread (every input its own) or repeated."""

    B: int
    I: int
    O: int
    grid_size: int = 5
    degree: int = 3
    knots: str = "uniform"
    activation: str = "silu"
    row_weight: bool = False

    def __str__(self):
        words = (f"{self.B}x{self.I}x{self.O}", f"G{self.grid_size}", f"p{self.degree}", self.knots, self.activation)
        return "-".join(words + (("weighted",) if self.row_weight else ()))

    @property
    def slots(self):
        return self.grid_size + self.degree + 1

    @property
    def draws(self):
        """Seeds of the inputs: several for small cases, whose errors are few numbers, one of which may outweigh all others."""
        terms = self.B * self.I * self.O
        return range(1 if terms > 1000 else 4 if terms > 40 else 12)

    @property
    def orders(self):
        """Derivative orders worth testing: to one past the degree, where splines vanish, as far as the activation goes."""
        limit = ACTIVATIONS[self.activation].max_nu
        return range(min(self.degree + 1, self.degree + 1 if limit is None else limit) + 1)


ALL_CASES = (
    [Case(7, 3, 4, degree=p, activation="silu") for p in range(1, 9)]
    + [Case(5, 2, 3, grid_size=G, knots="spread") for G in (1, 2, 16, 40)]
    + [Case(9, 4, 3, degree=p, knots="spread", row_weight=True) for p in (1, 2, 3, 5)]
    + [Case(8, 3, 2, grid_size=6, degree=p, knots="repeated", activation="identity") for p in (1, 2, 3, 5)]
    + [Case(6, 3, 5, activation=activation, row_weight=True) for activation in ("gelu", "tanh", "relu", "identity", "zero")]
    + [Case(1, 1, 1), Case(1, 5, 1), Case(33, 1, 17), Case(65, 37, 19), Case(130, 17, 19, grid_size=9), Case(3, 2, 513)]
    + [Case(600, 3, 2, row_weight=True)]
    + [Case(70, 20, 72, grid_size=6), Case(150, 20, 72, grid_size=9, activation="gelu", row_weight=True)]  # the GPU's fast path
)
CASES = ALL_CASES[::SHARE]


def make_knots(case):
    """Extended knots [I, K] in float64, all of them float32 numbers so that every dtype sees the same grid."""
    rng = np.random.default_rng(case.grid_size * 100 + case.degree)
    count = case.grid_size + 2 * case.degree + 1
    if case.knots == "uniform":
        knots = np.linspace(-1.5, 2.0, count)[None].repeat(case.I, 0)
    else:
        knots = np.cumsum(rng.uniform(0.1, 1.0, (case.I, count)), axis=1) * rng.uniform(0.5, 2, (case.I, 1))
        knots -= knots.mean(1, keepdims=True)
    if case.knots == "repeated":
        knots[:, 2] = knots[:, 1]
        middle = count // 2
        knots[:, middle + 1 : middle + 1 + case.degree] = knots[:, middle, None]
        knots.sort(1)
    return torch.from_numpy(knots.astype(np.float32)).double()


def make_x(case, knots, generator):
    """x [B, I]: inside and around the grid, every fourth value exactly on a knot; float16 numbers up to the knots."""
    low, high = knots[:, 0], knots[:, -1]
    share = torch.rand(case.B, case.I, generator=generator, dtype=torch.float64) * 1.3 - 0.15
    x = (low + share * (high - low)).half().double()
    pick = torch.randint(knots.shape[1], (case.B, case.I), generator=generator)
    on_knot = torch.randint(4, (case.B, case.I), generator=generator) == 0
    return torch.where(on_knot, knots.gather(1, pick.T).T, x)


def make_inputs(case, dtype=torch.float64, device="cpu", seed=0):
    """Every tensor an operation may take, by name; their values are exact in `dtype`."""
    generator = torch.Generator().manual_seed(seed)
    knots = make_knots(case)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).to(device)

    x = make_x(case, knots, generator).to(dtype).to(device)
    return {
        "x": x,
        "weight": normal(case.I, case.slots, case.O),
        "row_weight": normal(case.B, case.I) if case.row_weight else None,
        "grad_output": normal(case.B, case.O),
        "form": normal(case.I, case.slots, case.slots),
        "knots": knots.to(torch.float64 if dtype == torch.float64 else torch.float32).to(device),
    }


FORMULAS = {  # by the names of OPERATIONS, with f and h the slots of order nu and mu
    "forward": "bi,bim,imo->bo",
    "grad_input": "bim,imo,bo->bi",
    "grad_weight": "bi,bim,bo->imo",
    "gram": "bi,bim,bin->imn",
    "quadratic": "bim,imn,bin->bi",
}


# ---- the exact answer


def exact_slots(x, knots, degree, activation, nu):
    """f_m^(nu)(x) [B, I, M] in extended precision, one spline at a time by the recursion's definition."""
    x, knots = (np.asarray(a, dtype=np.longdouble) for a in (x, knots))
    count = knots.shape[1]

    def ratio(numerator, denominator):
        return np.where(denominator == 0, 0, numerator / np.where(denominator == 0, 1, denominator))

    @functools.cache
    def spline(m, k, order):
        t = [knots[:, m + q] for q in range(k + 2)]
        if k == 0:
            return ((x >= t[0]) & (x < t[1])).astype(np.longdouble) if order == 0 else np.zeros_like(x)
        left, right = t[k] - t[0], t[k + 1] - t[1]
        if order:
            return k * (ratio(spline(m, k - 1, order - 1), left) - ratio(spline(m + 1, k - 1, order - 1), right))
        return ratio((x - t[0]) * spline(m, k - 1, 0), left) + ratio((t[k + 1] - x) * spline(m + 1, k - 1, 0), right)

    values = [spline(m, degree, nu) for m in range(count - degree - 1)] + [exact_activation(x, activation, nu)]
    return np.stack(values, axis=-1)


def exact(name, case, tensors, orders):
    """(the operation's answer, the sum of its terms' magnitudes) in extended precision."""
    wide = {k: None if t is None else t.double().cpu().numpy().astype(np.longdouble) for k, t in tensors.items()}
    slots = [exact_slots(wide["x"], wide["knots"], case.degree, case.activation, order) for order in orders]
    operands = {"forward": [slots[0], wide["weight"]], "grad_input": [slots[0], wide["weight"], wide["grad_output"]],
                "grad_weight": [slots[0], wide["grad_output"]], "gram": [slots[0], slots[-1]],
                "quadratic": [slots[0], wide["form"], slots[-1]]}[name]  # fmt: skip
    if FORMULAS[name].startswith("bi,"):
        row_weight = wide["row_weight"]
        operands.insert(0, np.ones_like(wide["x"]) if row_weight is None else row_weight)
    return np.einsum(FORMULAS[name], *operands), np.einsum(FORMULAS[name], *map(np.abs, operands))


# ---- the yardstick


def plain(name, case, tensors, orders):
    """The same expression in ordinary PyTorch: splines in float32 at least, products in the tensors' own dtype."""
    dtype = tensors["x"].dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, knots = tensors["x"].to(wide), tensors["knots"].to(wide)
    slots = [reference.slots(x, knots, case.degree, case.activation, order).to(dtype) for order in orders]
    if name in ("forward", "grad_weight", "gram") and tensors["row_weight"] is not None:
        slots[0] = slots[0] * tensors["row_weight"][..., None]
    if name == "forward":
        return slots[0].flatten(1) @ tensors["weight"].flatten(0, 1)
    if name == "grad_weight":
        return (slots[0].flatten(1).T @ tensors["grad_output"]).unflatten(0, (case.I, case.slots))
    if name == "gram":
        return torch.einsum("bim,bin->imn", slots[0], slots[1])
    if name == "grad_input":
        pulled_back = tensors["grad_output"] @ tensors["weight"].flatten(0, 1).T
        return (slots[0] * pulled_back.unflatten(1, (case.I, case.slots))).sum(-1)
    return (torch.einsum("bim,imn->bin", slots[0], tensors["form"]) * slots[1]).sum(-1)


def root_mean_square(arrays):
    return float(np.sqrt(np.mean(np.concatenate([a.ravel() for a in arrays]) ** 2))) if arrays[0].size else 0.0


def assert_accurate(name, case, samples, orders):
    """The contract's rule for the answers to some draws of the inputs: samples = [(answer, tensors), ...].

    Errors are compared as root mean squares over all draws: one unlucky rounding of a small case decides nothing, while one
    wrong entry still stands out a thousandfold.
    """
    truths, magnitudes = zip(*(exact(name, case, tensors, orders) for _, tensors in samples), strict=True)
    answers = [answer for answer, _ in samples]
    assert all(tuple(answer.shape) == truth.shape for answer, truth in zip(answers, truths, strict=True))

    largest = torch.finfo(answers[0].dtype).max

    def error(values):
        wide = [value.detach().double().cpu().numpy().astype(np.longdouble) for value in values]
        pairs = zip(wide, truths, strict=True)  # past the dtype's range infinity is the right answer
        return root_mean_square([value.clip(-largest, largest) - truth.clip(-largest, largest) for value, truth in pairs])

    yardstick = error([plain(name, case, tensors, orders) for _, tensors in samples])
    rounding = torch.finfo(answers[0].dtype).eps / 2
    if not math.isfinite(yardstick):  # slots past float16's range (high orders on repeated knots): then to rounding alone
        yardstick = 0.0
    # A yardstick that is itself wrong would let anything pass: 1024 units of the terms are far above rounding, and far
    # below a mistake.
    assert yardstick <= 1024 * rounding * root_mean_square(magnitudes), f"the yardstick is {yardstick:.3g} off"
    allowed = FACTOR[name] * yardstick + 2 * rounding * root_mean_square([truth.clip(-largest, largest) for truth in truths])
    assert error(answers) <= allowed, f"error {error(answers):.3g}, allowed {allowed:.3g}, plain PyTorch {yardstick:.3g}"
