"""Poisson's equation on [-1, 1]^2 with the solution sin(pi x) sin(pi y^2) (Liu et al., arXiv 2404.19756, section 3.4).

A KAN [2, 10, 1] by fit, the same by pykan, and a perceptron 4 x 100: errors over CPU seconds.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import fastkan
from benchmarks.display import grouped
from benchmarks.progress import CONSOLE
from benchmarks.science.interface import Run

INSIDE, ON_A_SIDE, NEW = 2000, 200, 4000
WEIGHT = 0.1  # of the residual inside: the paper's 0.01 is of its square
EQUATIONS = [(3, (5, 10, 20)), (5, (5, 10, 20)), (5, (5, 10, 20, 30))]  # degree, grids
GIVEN = 20.0  # CPU seconds of the perceptron: as long as the longest fit may take
PYKAN_GIVEN, PYKAN_SEEDS = 60.0, 5
ADAM = 0.5  # the share of its time in which the perceptron takes steps of Adam; L-BFGS goes on
LOOK = 0.5  # seconds between looks


def solution(x: Tensor) -> Tensor:
    return torch.sin(math.pi * x[:, :1]) * torch.sin(math.pi * x[:, 1:] ** 2)


def gradient(u: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(u.sum(), x, create_graph=True)[0]


def laplacian(u: Tensor, x: Tensor) -> Tensor:
    slope = gradient(u, x)
    return sum(gradient(slope[:, i], x)[:, i : i + 1] for i in range(2))


class Problem:
    """The points of one seed, and the curve of errors of one method on new points."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        uniform = lambda *shape: 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1  # noqa: E731
        self.x, self.new = uniform(INSIDE, 2).requires_grad_(), uniform(NEW, 2).requires_grad_()
        along, one = uniform(4, ON_A_SIDE), torch.ones(ON_A_SIDE, dtype=torch.float64)
        sides = ((along[0], one), (along[1], -one), (one, along[2]), (-one, along[3]))
        self.border = torch.cat([torch.stack(side, dim=1) for side in sides])
        self.source = laplacian(solution(self.x), self.x).detach()
        self.curve: list[list[float]] = []
        self.start, self.looking, self.before = time.process_time(), 0.0, -math.inf

    def residual(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        return WEIGHT * (laplacian(model(self.x), self.x) - self.source), model(self.border)

    def loss(self, model: nn.Module) -> Tensor:
        inside, border = self.residual(model)
        return inside.square().mean() + border.square().mean()

    @property
    def seconds(self) -> float:
        """CPU seconds from the start on, without those of looks."""
        return time.process_time() - self.start - self.looking

    def look(self, model: nn.Module, always: bool = False) -> None:
        """[seconds, mean square error of u, and of its gradient], if half a second has gone by."""
        seconds = self.seconds
        if not always and seconds - self.before < LOOK:
            return
        began = time.process_time()
        with torch.enable_grad():
            error = model(self.new) - solution(self.new)
            slope = gradient(error, self.new).square().sum(1).mean()
        self.curve.append([seconds, error.square().mean().item(), slope.item()])
        self.looking, self.before = self.looking + time.process_time() - began, seconds

    def row(self, peer: str, degree: int, grids: Sequence[int], seed: int, model: nn.Module) -> dict:
        self.look(model, always=True)
        seconds, mse, slope = self.curve[-1]
        return {
            "peer": peer, "degree": degree, "grids": str(grids), "seed": seed, "cpu_seconds": seconds, "mse": mse,
            "mse_of_gradient": slope, "curve": self.curve,
        }  # fmt: skip


def solve(degree: int, grids: Sequence[int], seed: int) -> dict:
    """By fit, with Levenberg-Marquardt on the residual's exact Jacobian."""
    problem = Problem(seed)
    model = fastkan.KAN([2, 10, 1], grid_size=grids[0], degree=degree, seed=seed, dtype=torch.float64)
    look = lambda history, model: problem.look(model)  # noqa: E731
    model.fit(residual=problem.residual, grids=grids, starts=2, steps=25, seed=seed, callback=look)
    return problem.row("fastkan", degree, grids, seed, model)


def _descend(problem: Problem, model: nn.Module, optimizer: torch.optim.Optimizer, until: float) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = problem.loss(model)
        loss.backward()
        return loss

    while problem.seconds < until:
        optimizer.step(closure)
        problem.look(model)


def solve_perceptron(seed: int) -> dict:
    """Adam with a falling learning rate, then L-BFGS, on the same residual."""
    problem, given = Problem(seed), GIVEN
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Linear(2, 100), nn.Tanh()]
        for _ in range(3):
            layers += [nn.Linear(100, 100), nn.Tanh()]
        model = nn.Sequential(*layers, nn.Linear(100, 1)).double()
    for rate, share in ((1e-3, ADAM / 2), (3e-4, ADAM)):
        _descend(problem, model, torch.optim.Adam(model.parameters(), lr=rate), share * given)
    _descend(problem, model, torch.optim.LBFGS(model.parameters(), history_size=50, line_search_fn="strong_wolfe"), given)
    return problem.row("MLP 4 x 100", 0, (), seed, model)


def solve_pykan(grids: Sequence[int], seed: int) -> dict:
    """pykan's layers and its L-BFGS, cubic, on the same residual, an equal time on each grid."""
    import kan
    from kan.LBFGS import LBFGS

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = kan.KAN(width=[2, 10, 1], grid=grids[0], k=3, seed=seed, auto_save=False)
        problem = Problem(seed)
        for k, size in enumerate(grids):
            model = model if size == grids[0] else model.refine(size)
            model.auto_save = False
            model.speed()
            optimizer = LBFGS(model.parameters(), history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-32,
                              tolerance_change=1e-32, tolerance_ys=1e-32)  # fmt: skip
            _descend(problem, model, optimizer, (k + 1) * PYKAN_GIVEN / len(grids))
            model.save_act = True
            model(problem.x)
        return problem.row("pykan", 3, grids, seed, model)
    finally:
        torch.set_default_dtype(before)


def runs(seeds: int) -> list[Run]:
    found = []
    for seed in range(seeds):
        found += [Run(f"Poisson, degree {degree}, seed {seed}", solve, (degree, grids, seed)) for degree, grids in EQUATIONS]
        found.append(Run(f"Poisson, perceptron, seed {seed}", solve_perceptron, (seed,)))
        if seed < PYKAN_SEEDS:
            found.append(Run(f"Poisson, pykan, seed {seed}", solve_pykan, (EQUATIONS[0][1], seed)))
    return found


def show(results: list[dict]) -> None:
    """Medians over the seeds, and the worst."""
    parts: Callable[[list[dict]], str] = lambda same: ", ".join(  # noqa: E731
        f"{key} {statistics.median(row[key] for row in same):.2g} ({max(row[key] for row in same):.2g})"
        for key in ("mse", "mse_of_gradient", "cpu_seconds")
    )
    for (peer, degree, grids), same in grouped(results, "peer", "degree", "grids").items():
        CONSOLE.print(f"Poisson by {peer}, degree {degree}, grids {grids}: median (worst) of {len(same)}: {parts(same)}")
