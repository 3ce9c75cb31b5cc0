"""Baselines that compute another function: what a user replaces, and perceptrons of equal size; no biases."""

from torch import nn

from benchmarks.cases import Problem
from benchmarks.peers.interface import Layer, Peer


def _layer(module: nn.Module, problem: Problem) -> Layer:
    module.to(problem.weight.device, problem.weight.dtype)
    return Layer(module, tuple(module.parameters()))


def _perceptron(problem: Problem, cost_per_edge: int) -> Layer:
    """Linear-SiLU-Linear whose weights, one multiply-add each, number about cost_per_edge * I * O."""
    case = problem.case
    hidden = max(1, round(cost_per_edge * case.edges / (case.in_features + case.out_features)))
    first = nn.Linear(case.in_features, hidden, bias=False)
    return _layer(nn.Sequential(first, nn.SiLU(), nn.Linear(hidden, case.out_features, bias=False)), problem)


def linear(problem: Problem) -> Layer:
    case = problem.case
    return _layer(nn.Linear(case.in_features, case.out_features, bias=False), problem)


def equal_parameters(problem: Problem) -> Layer:
    """A KAN edge holds M = G + p + 1 weights."""
    return _perceptron(problem, problem.case.splines + 1)


def equal_flops(problem: Problem) -> Layer:
    """A KAN edge costs p + 2 multiply-adds: the p + 1 splines that are not zero, and the base activation."""
    return _perceptron(problem, problem.case.degree + 2)


PEERS = (
    Peer("nn.Linear", "baseline", linear),
    Peer("MLP, equal parameters", "baseline", equal_parameters),
    Peer("MLP, equal FLOPs", "baseline", equal_flops),
)
