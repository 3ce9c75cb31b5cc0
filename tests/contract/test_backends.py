"""Every backend against the numerical contract (docs/design.md, section 4): the same cases, dtypes, orders and special values."""

import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from contract.cases import CASES, DTYPES, Case, assert_accurate, make_inputs
from contract.exact_activations import HIGHEST, SMOOTH, exact_points

import fastkan
from fastkan import backends, ops
from fastkan.ops import OPERATIONS

SPECIAL = Case(6, 3, 4)


def run(name, case, tensors, orders, backend):
    operands = [tensors[k] for k in OPERATIONS[name].tensors]
    return getattr(ops, name)(*operands, tensors["knots"], case.degree, case.activation, backend, *orders)


def order_choices(name, case):
    orders = case.orders
    return [(nu,) for nu in orders] if len(OPERATIONS[name].orders) == 1 else [(0, 0), (1, 0), (min(2, max(orders)), 1)]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_accuracy(name, dtype, case, device, backend):
    draws = [make_inputs(case, dtype, device, seed) for seed in case.draws]
    before = {k: None if t is None else t.clone() for k, t in draws[0].items()}
    for orders in order_choices(name, case):
        answers = [run(name, case, tensors, orders, backend) for tensors in draws]
        assert all(answer.dtype == dtype and answer.device.type == device for answer in answers)
        assert_accurate(name, case, list(zip(answers, draws, strict=True)), orders)
    assert all(t is None or torch.equal(t, draws[0][k]) for k, t in before.items())  # inputs are never written to


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("nu", [0, 1, 3, 8])
def test_nan_reaches_its_own_answers_only(name, nu, device, backend):
    tensors = make_inputs(SPECIAL, device=device)
    orders = (nu,) * len(OPERATIONS[name].orders)
    clean = run(name, SPECIAL, tensors, orders, backend)
    tensors["x"] = tensors["x"].clone()
    tensors["x"][2, 1] = float("nan")
    answer = run(name, SPECIAL, tensors, orders, backend)
    touched = torch.zeros_like(clean, dtype=torch.bool)
    touched[{"forward": 2, "grad_input": (2, 1), "quadratic": (2, 1)}.get(name, 1)] = True  # row, element, or input 1's slots
    assert answer[touched].isnan().all()
    assert torch.equal(answer[~touched], clean[~touched])


@pytest.mark.parametrize("activation", fastkan.splines.activations.ACTIVATIONS)
@pytest.mark.parametrize("far", [float("inf"), 1e30, 3e4])
def test_far_outside_only_the_base_speaks(activation, far, device, backend):
    knots = torch.linspace(-2, 2, 12, dtype=torch.float64, device=device)[None]
    x = torch.tensor([[-far], [far]], dtype=torch.float64, device=device)
    weight = torch.ones(1, 9, 1, dtype=torch.float64, device=device)
    left, right = {
        "silu": (0, far),
        "gelu": (0, far),
        "relu": (0, far),
        "tanh": (-1, 1),
        "identity": (-far, far),
        "zero": (0, 0),
    }[activation]
    slopes = {"identity": (1, 1), "silu": (0, 1), "gelu": (0, 1), "relu": (0, 1)}.get(activation, (0, 0))
    for nu, expected in enumerate([(left, right), slopes] + [(0, 0)] * (HIGHEST - 1)):
        y = ops.forward(x, weight, None, knots, 3, activation, backend, nu)
        assert y.flatten().tolist() == list(expected), f"order {nu}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("activation", SMOOTH)
def test_every_order_of_a_smooth_activation(activation, dtype, device, backend):
    """Against mpmath: a few roundings of the answer and of x, which moves the answer by the next derivative. So a tail is held to
    its own size, and a zero to the slope there."""
    knots = torch.linspace(-2, 2, 12, dtype=dtype, device=device)[None]
    for nu, outputs in itertools.product(range(HIGHEST + 1), (1, 20)):  # few outputs and many: two ways of the CPU core
        weight = torch.zeros(1, 9, outputs, dtype=dtype, device=device)
        weight[:, -1] = 1
        x, exact, slope = exact_points(activation, nu)
        y = ops.forward(torch.from_numpy(x)[:, None].to(dtype).to(device), weight, None, knots, 3, activation, backend, nu)
        unit = torch.finfo(dtype).eps * (np.abs(exact) + np.maximum(1, np.abs(x)) * np.abs(slope)) + torch.finfo(dtype).tiny
        errors = np.abs(y.double().cpu().numpy() - exact[:, None]) / unit[:, None]
        assert errors.max() <= 8, f"order {nu}: {errors.max():.3g} roundings at x = {x[errors.max(1).argmax()]}"


@pytest.mark.parametrize("nu", range(5))
def test_both_sides_of_every_knot(nu, device, backend):
    """On a knot, one rounding below and above it, and at both ends of the extended grid."""
    knots = torch.tensor([[-3.0, -2, -1.5, 0, 0.25, 1, 1.7, 2, 3.1, 3.5, 4]], dtype=torch.float64, device=device)
    below, above = torch.full_like(knots, -torch.inf), torch.full_like(knots, torch.inf)
    x = torch.cat((knots, knots.nextafter(below), knots.nextafter(above)), 1).T.contiguous()
    case = Case(len(x), 1, 3, grid_size=4)
    tensors = make_inputs(case, device=device) | {"x": x, "knots": knots}
    assert_accurate("forward", case, [(run("forward", case, tensors, (nu,), backend), tensors)], (nu,))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("B, I, O", [(0, 3, 4), (5, 0, 4), (5, 3, 0), (0, 0, 0)])
def test_empty(name, B, I, O, device, backend):
    case = Case(B, I, O)
    tensors = make_inputs(case, device=device)
    answer = run(name, case, tensors, (0,) * len(OPERATIONS[name].orders), backend)
    nothing_to_sum = not (B and I and (O or name in ("gram", "quadratic")))
    assert bool(answer.any()) != nothing_to_sum  # zeros, or no entries at all


@pytest.mark.parametrize("name", OPERATIONS)
def test_strides_do_not_matter(name, device, backend):
    case = Case(8, 4, 6, row_weight=True)
    tensors = make_inputs(case, torch.float32, device)
    orders = (1,) * len(OPERATIONS[name].orders)
    answer = run(name, case, tensors, orders, backend)
    for layout in (
        lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
        lambda t: t.repeat_interleave(2, -1)[..., ::2],
        lambda t: torch.nn.functional.pad(t, (1, 2), value=float("nan"))[..., 1:-2],
        lambda t: torch.cat((t.new_full((1,), torch.nan), t.flatten()))[1:].view(t.shape),
    ):
        odd = {k: layout(t) for k, t in tensors.items()}
        same = run(name, case, odd, orders, backend)
        if backend == "reference":  # PyTorch's GEMM may sum another layout in another order
            assert_accurate(name, case, [(same, tensors)], orders)
        else:
            assert torch.equal(same, answer)
    row = {k: t[:1].expand(8, *t.shape[1:]) if len(t) == 8 else t for k, t in tensors.items()}
    assert_accurate(name, case, [(run(name, case, row, orders, backend), row)], orders)  # stride 0, as from y.sum().backward()


@pytest.mark.parametrize("name", OPERATIONS)
def test_deterministic(name, device, backend):
    case = Case(700, 9, 33, row_weight=True)
    tensors = make_inputs(case, torch.float32, device)
    answers = []
    threads = torch.get_num_threads()
    for count in (1, 2, 3, threads) if backend in ("cpu", "reference") else (threads,):  # those that torch's threads work for
        torch.set_num_threads(count)
        answers += [run(name, case, tensors, (0,) * len(OPERATIONS[name].orders), backend) for _ in range(3)]
        if backend == "reference":  # PyTorch's own kernels: repeatable for one thread count
            answers = answers[-3:]
        assert all(torch.equal(answers[0], answer) for answer in answers)
    torch.set_num_threads(threads)


# ---- choosing


def test_named_backend_is_obeyed_or_says_why():
    layer = fastkan.KANLinear(2, 3, backend="cuda")
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="backend 'cuda' cannot serve this call: "):
            layer(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="backend: expected one of .* received 'fast'"):
        fastkan.KANLinear(2, 3, backend="fast")
    with pytest.raises(ValueError, match="received 'fast'"), fastkan.use_backend("fast"):
        pass


def test_degree_past_the_core_goes_to_the_reference():
    assert backends.available("cpu", degree=9) == ["reference"]
    knots = fastkan.splines.knots.uniform(2, 3, 9, (-1, 1))
    y = fastkan.functional.kan_linear(torch.zeros(1, 2).double(), torch.ones(2, 13, 1).double(), knots, degree=9)
    torch.testing.assert_close(y, torch.tensor([[2.0]], dtype=torch.float64))  # partition of unity, twice


def test_context_serves_backward_too(monkeypatch):
    used = []
    table = {b.name: b for b in backends.table()}
    monkeypatch.setattr(backends, "select", lambda name, *rest: used.append(name) or table["reference"])
    x = torch.zeros(2, 2, requires_grad=True)
    layer = fastkan.KANLinear(2, 3)
    with fastkan.use_backend("reference"):
        y = layer(x)
    y.sum().backward()
    assert used == ["reference"] * 2  # forward inside the block, and the backward pass outside of it, once


def test_context_is_of_its_own_thread():
    seen = []
    with fastkan.use_backend("reference"):
        other = threading.Thread(target=lambda: seen.append(backends.resolve(None)))
        other.start()
        other.join()
        assert backends.resolve(None) == "reference"
    assert seen == [""] and backends.resolve(None) == ""


def test_environment_variable():
    code = "import fastkan; print(fastkan.backends.resolve(None))"
    good = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"FASTKAN_BACKEND": "reference"}, capture_output=True, text=True
    )
    assert good.stdout.strip() == "reference"
    bad = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"FASTKAN_BACKEND": "fast"}, capture_output=True, text=True
    )
    assert bad.returncode and "received 'fast'" in bad.stderr
