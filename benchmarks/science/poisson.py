"""Poisson's equation on [-1, 1]^2 with the solution sin(pi x) sin(pi y^2) (Liu et al., arXiv 2404.19756, section 3.4)."""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

import fastkan

INSIDE, ON_A_SIDE, NEW = 2000, 200, 4000
WEIGHT = 0.1  # of the residual inside: the paper's 0.01 is of its square


def solution(x: Tensor) -> Tensor:
    return torch.sin(math.pi * x[:, :1]) * torch.sin(math.pi * x[:, 1:] ** 2)


def gradient(u: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(u.sum(), x, create_graph=True)[0]


def laplacian(u: Tensor, x: Tensor) -> Tensor:
    slope = gradient(u, x)
    return sum(gradient(slope[:, i], x)[:, i : i + 1] for i in range(2))


def solve(degree: int, grids: Sequence[int], seed: int) -> dict:
    """Errors of a KAN [2, 10, 1] on new points: mean square of u, and of its gradient (the H1 seminorm)."""
    generator = torch.Generator().manual_seed(seed)
    uniform = lambda *shape: 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1  # noqa: E731
    x, new = uniform(INSIDE, 2).requires_grad_(), uniform(NEW, 2).requires_grad_()
    along, one = uniform(4, ON_A_SIDE), torch.ones(ON_A_SIDE, dtype=torch.float64)
    sides = ((along[0], one), (along[1], -one), (one, along[2]), (-one, along[3]))
    border = torch.cat([torch.stack(side, dim=1) for side in sides])
    source = laplacian(solution(x), x).detach()

    def residual(model: torch.nn.Module) -> tuple[Tensor, Tensor]:
        return WEIGHT * (laplacian(model(x), x) - source), model(border)

    start = time.process_time()
    model = fastkan.KAN([2, 10, 1], grid_size=grids[0], degree=degree, seed=seed, dtype=torch.float64)
    fastkan.fit(model, residual=residual, grids=grids, starts=2, steps=25, seed=seed)
    seconds = time.process_time() - start
    error = model(new) - solution(new)
    return {
        "degree": degree, "grids": str(grids), "seed": seed, "cpu_seconds": seconds, "mse": error.square().mean().item(),
        "mse_of_gradient": gradient(error, new).square().sum(1).mean().item(),
    }  # fmt: skip
