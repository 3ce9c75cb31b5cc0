"""torch.func over KANs on the CPU beside plain ways to the same numbers: `python -m benchmarks vmap` writes vmap.json.

ensemble: forward and backward of 8 networks by stack_module_state and vmap, beside a loop over the modules. per-sample:
gradients towards the weights of every row, vmap(grad), beside the gradient of the batch. Hessian: all second derivatives
by x of every row, vmap(jacrev(jacrev)) or vmap(hessian), beside nested torch.autograd.grad. An MLP of the same widths stands
beside each. A ratio is vmap's time over the plain way's.
"""

import argparse
import copy
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacrev, stack_module_state, vmap

import fastkan
from benchmarks import document, timer
from benchmarks.environment import environment, results_folder

WIDTHS, ROWS, MEMBERS = [8, 32, 1], 128, 8
OF_HESSIANS = [2, 10, 1]
NAMES = ("vmap", "plain")


def network(kind: str, widths: list[int]) -> nn.Module:
    if kind == "KAN":
        return fastkan.KAN(widths)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def ensemble(kind: str, own_rows: bool) -> dict[str, Callable[[], Any]]:
    """All gradients of the members, which see the same rows, or each its own."""
    models = [network(kind, WIDTHS) for _ in range(MEMBERS)]
    parameters, buffers = stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")
    rows = torch.rand(MEMBERS, ROWS, WIDTHS[0])
    x = rows if own_rows else rows[0]
    run = vmap(lambda p, b, x: functional_call(base, (p, b), (x,)), (0, 0, 0 if own_rows else None))

    def by_vmap() -> list[Tensor]:
        loss = run(parameters, buffers, x).square().mean((1, 2)).sum()
        return list(torch.autograd.grad(loss, list(parameters.values())))

    def by_loop() -> list[Tensor]:
        of_members = []
        for k, model in enumerate(models):
            loss = model(x[k] if own_rows else x).square().mean()
            of_members.append(torch.autograd.grad(loss, list(model.parameters())))
        return [torch.stack(each) for each in zip(*of_members, strict=True)]

    return {"vmap": by_vmap, "plain": by_loop}


def per_sample(kind: str) -> dict[str, Callable[[], Any]]:
    """The weights' gradients of every row, and those of the sum."""
    model, x = network(kind, WIDTHS), torch.rand(ROWS, WIDTHS[0])
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return functional_call(model, parameters, (row,)).square().sum()

    rows = vmap(grad(loss), (None, 0))
    return {
        "vmap": lambda: [g.sum(0) for g in by_rows.values()] if (by_rows := rows(parameters, x)) else [],
        "plain": lambda: list(torch.autograd.grad(model(x).square().sum(), list(model.parameters()))),
    }


def hessians(kind: str, transform: Callable) -> dict[str, Callable[[], Any]]:
    """[rows, inputs, inputs]."""
    model, x = network(kind, OF_HESSIANS), torch.rand(ROWS, OF_HESSIANS[0])
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    by_rows = vmap(transform(lambda row: functional_call(model, parameters, (row,))[0]))
    frozen = copy.deepcopy(model).requires_grad_(False)

    def nested() -> list[Tensor]:
        leaf = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(frozen(leaf).sum(), leaf, create_graph=True)
        columns = [torch.autograd.grad(s.sum(), leaf, retain_graph=True)[0] for s in slope.unbind(1)]
        return [torch.stack(columns, 1)]

    return {"vmap": lambda: [by_rows(x)], "plain": nested}


CASES: dict[str, Callable[[str], dict[str, Callable[[], Any]]]] = {
    "ensemble, the same rows": partial(ensemble, own_rows=False),
    "ensemble, own rows": partial(ensemble, own_rows=True),
    "per-sample gradients": per_sample,
    "Hessian, jacrev of jacrev": partial(hessians, transform=lambda f: jacrev(jacrev(f))),
    "Hessian, torch.func.hessian": partial(hessians, transform=hessian),
}


def compare(case: str, kind: str) -> dict[str, Any]:
    calls = CASES[case](kind)
    for ours, expected in zip(calls["vmap"](), calls["plain"](), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
    rounds = timer.interleave(calls, dict.fromkeys(calls, 0.0), "cpu", lambda: None)
    found: dict[str, Any] = {"case": case, "network": kind}
    for name in NAMES:
        found[f"{name}, us"] = round(1e6 * timer.Spread.of(rounds.seconds[name]).p50, 1)
    ratio = timer.ratio(rounds.seconds["vmap"], rounds.seconds["plain"])
    assert ratio
    spread = {"p20": round(ratio.p20, 2), "p80": round(ratio.p80, 2)}
    return found | {"vmap / plain": round(ratio.p50, 2)} | spread | {"elsewhere": rounds.elsewhere}


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="python -m benchmarks vmap", description=__doc__).parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [compare(case, kind) for case in CASES for kind in ("KAN", "MLP")]
    for row in rows:
        print(*row.values(), sep="  ")
    found = environment("cpu")
    document.write({"environment": found, "rows": rows}, results_folder(found) / "vmap.json")
    return 0
