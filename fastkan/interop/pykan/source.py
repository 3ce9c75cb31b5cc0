"""What a pykan model says, from the live object, from its state or from a checkpoint. No code of a file is run."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from fastkan.interop.pykan.names import base_activation, is_formula
from fastkan.interop.pykan.names import formula as ours
from fastkan.interop.states import load_tensors

LIVE = ("width", "mult_arity", "act_fun", "symbolic_fun", "node_scale", "node_bias", "subnode_scale", "subnode_bias")
SHOWN = 5  # names in an error


class Part(NamedTuple):
    """A layer of pykan: its tensors by its own names, letters as in docs/design.md.

    grid [I, G + 2p + 1], coef [I, O, S], mask, scale_base, scale_sp [I, O]: the splines
    symbolic_mask [O, I], affine [O, I, 4], names[o][i]: the formulas; names are None where no formula is on
    subnode_scale, subnode_bias [O]: of the layer's outputs; node_scale, node_bias [N]: of the nodes that they make
    """

    grid: Tensor
    coef: Tensor
    mask: Tensor
    scale_base: Tensor
    scale_sp: Tensor
    symbolic_mask: Tensor
    affine: Tensor
    subnode_scale: Tensor
    subnode_bias: Tensor
    node_scale: Tensor
    node_bias: Tensor
    names: Any
    sums: int
    arities: tuple[int, ...]
    activation: str


class Source(NamedTuple):
    """A pykan model. columns: which inputs it reads, or None for all"""

    parts: list[Part]
    columns: list[int] | None
    grid_range: tuple[float, float]


# ---- widths


def _nodes(config: Mapping[str, Any]) -> list[tuple[int, tuple[int, ...]]]:
    """(sums, arities of the products) of every layer of nodes, the inputs first."""
    widths, arity = config["width"], config.get("mult_arity", 2)
    try:
        pairs = [(int(w), 0) if not isinstance(w, Sequence) else (int(w[0]), int(w[1])) for w in widths]
        each = [
            (int(arity),) * n if not isinstance(arity, Sequence) else tuple(map(int, arity[k])) for k, (_, n) in enumerate(pairs)
        ]
    except (TypeError, ValueError, IndexError):
        pairs, each = [], []
    fine = len(pairs) > 1 and all(s >= 0 and n == len(a) and min((2, *a)) == 2 for (s, n), a in zip(pairs, each, strict=True))
    if not fine:
        raise ValueError(
            "width, mult_arity: expected pykan's, such as [2, [5, 1], 1] and 2 or [[], [2], []], "
            f"received {widths!r} and {arity!r}"
        )
    return [(s, a) for (s, _), a in zip(pairs, each, strict=True)]


# ---- a state and a config


def _keys(layer: int) -> dict[str, str]:
    """Where a state has the tensors of a Part."""
    numeric = {name: f"act_fun.{layer}.{name}" for name in ("grid", "coef", "mask", "scale_base", "scale_sp")}
    symbolic = {"symbolic_mask": f"symbolic_fun.{layer}.mask", "affine": f"symbolic_fun.{layer}.affine"}
    return numeric | symbolic | {name: f"{name}_{layer}" for name in LIVE[4:]}


def _of_state(state: Mapping[str, Any], config: Mapping[str, Any]) -> Source:
    for name in ("width", "base_fun_name"):
        if name not in config:
            raise ValueError(f"config: expected an entry {name!r}, as saveckpt writes it, received {', '.join(map(str, config))}")
    nodes = _nodes(config)
    missing = [key for layer in range(len(nodes) - 1) for key in _keys(layer).values() if not isinstance(state.get(key), Tensor)]
    if missing:
        raise ValueError(f"source: expected the tensors of pykan 0.2 for width={config['width']}, received no {_few(missing)}")
    activation = base_activation(config["base_fun_name"])
    enabled = config.get("symbolic_enabled", True)
    parts = []
    for layer, (sums, arities) in enumerate(nodes[1:]):
        tensors = {name: state[key].detach() for name, key in _keys(layer).items()}
        names = config.get(f"symbolic.funs_name.{layer}") if enabled else None
        if enabled and names is None and tensors["symbolic_mask"].any():
            raise ValueError(f"config: expected an entry 'symbolic.funs_name.{layer}', as the layer has formulas, received none")
        parts.append(
            _checked(layer, Part(**tensors, names=names, sums=sums, arities=arities, activation=activation), nodes[layer])
        )
    chosen = config.get("input_id")
    return Source(parts, None if chosen is None else [int(i) for i in chosen], _range(config.get("grid_range")))


def _range(given: Any) -> tuple[float, float]:
    return (-1.0, 1.0) if given is None else (float(given[0]), float(given[1]))


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _checked(layer: int, part: Part, before: tuple[int, tuple[int, ...]]) -> Part:
    """The part if its tensors fit the nodes on both of its sides."""
    inputs, outputs, nodes = before[0] + len(before[1]), part.sums + sum(part.arities), part.sums + len(part.arities)
    knots, splines = part.grid.shape[-1], part.coef.shape[-1]
    edges = (inputs, outputs)
    expected = {
        "grid": (inputs, knots), "coef": (*edges, splines), "mask": edges, "scale_base": edges, "scale_sp": edges,
        "symbolic_mask": edges[::-1], "affine": (outputs, inputs, 4), "subnode_scale": (outputs,), "subnode_bias": (outputs,),
        "node_scale": (nodes,), "node_bias": (nodes,),
    }  # fmt: skip
    for name, shape in expected.items():
        tensor = getattr(part, name)
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise ValueError(
                f"layer {layer}, {name}: expected floating numbers of shape {shape}, received {tuple(tensor.shape)} of "
                f"{tensor.dtype}"
            )
    degree = knots - splines - 1
    if not 1 <= degree < splines:
        raise ValueError(f"layer {layer}: expected a grid of G + 2k + 1 knots for G + k splines, received {knots} for {splines}")
    if part.names is not None and ([len(row) for row in part.names] != [inputs] * outputs):
        raise ValueError(f"layer {layer}: expected names of formulas in {outputs} rows of {inputs}, received others")
    return part


# ---- a live model


def _named(layer: int, symbolic: Any) -> list[list[Any]]:
    """The names of a live layer's formulas. ValueError where a name says another function than the one that runs."""
    names = [list(row) for row in symbolic.funs_name]
    for o, i in symbolic.mask.nonzero().tolist():
        name = ours(names[o][i])
        if name is not None and not is_formula(symbolic.funs[o][i], name):
            raise ValueError(
                f"layer {layer}, edge ({i}, {o}): expected the function {names[o][i]!r} that its name says, received another"
            )
    return names


def _of_model(model: Any) -> Source:
    if missing := [name for name in LIVE if not hasattr(model, name)]:
        raise TypeError(
            "source: expected a pykan model (0.2), its state dict or the path of its checkpoint, "
            f"received {type(model).__name__} without {', '.join(missing)}"
        )
    nodes = _nodes({"width": model.width, "mult_arity": model.mult_arity})
    parts = []
    for layer, (sums, arities) in enumerate(nodes[1:]):
        numeric, symbolic = model.act_fun[layer], model.symbolic_fun[layer]
        tensors = {name: getattr(numeric, name).detach() for name in ("grid", "coef", "mask", "scale_base", "scale_sp")}
        tensors |= {"symbolic_mask": symbolic.mask.detach(), "affine": symbolic.affine.detach()}
        tensors |= {name: getattr(model, name)[layer].detach() for name in LIVE[4:]}  # some are in no state
        names = _named(layer, symbolic) if getattr(model, "symbolic_enabled", True) else None
        activation = base_activation(numeric.base_fun)
        parts.append(
            _checked(layer, Part(**tensors, names=names, sums=sums, arities=arities, activation=activation), nodes[layer])
        )
    chosen = [int(i) for i in model.input_id]
    inputs = nodes[0][0] + len(nodes[0][1])
    return Source(parts, None if chosen == list(range(inputs)) else chosen, _range(getattr(model, "grid_range", None)))


# ---- a checkpoint


def _config(path: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise ImportError("from_pykan: the config of a checkpoint needs PyYAML: pip install 'fastkan[pykan]'") from error
    try:
        found = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(
            f"source: expected plain YAML in {path}, received {str(error).splitlines()[0]}; pykan writes objects there after "
            "prune_input and for a base_fun that is no name, and cannot load that itself: give the live model"
        ) from error
    if not isinstance(found, Mapping):
        raise ValueError(f"source: expected a config of pykan in {path}, received {type(found).__name__}")
    return found


def _of_checkpoint(prefix: Path) -> Source:
    config, state = (prefix.with_name(prefix.name + end) for end in ("_config.yml", "_state"))
    if missing := [str(file) for file in (config, state) if not file.is_file()]:
        raise FileNotFoundError(f"source: expected a checkpoint of pykan's saveckpt, but there is no {' and no '.join(missing)}")
    tensors = load_tensors(state)
    if not isinstance(tensors, Mapping):
        raise ValueError(f"source: expected a state dict in {state}, received {type(tensors).__name__}")
    return _of_state(tensors, _config(config))


def read(source: Any, config: Mapping[str, Any] | None) -> Source:
    """What from_pykan was given."""
    if isinstance(source, Mapping):
        if config is None:
            raise ValueError("config: expected pykan's for a state dict, such as yaml.safe_load of _config.yml, received None")
        return _of_state(source, config)
    if config is not None:
        raise ValueError("config: expected None, as the source holds its own, received one")
    return _of_checkpoint(Path(source)) if isinstance(source, str | os.PathLike) else _of_model(source)
