"""Models in files: tensors in safetensors, what they are in JSON in its header. Never pickle on writing."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastkan.interop.assembled import make_kan
from fastkan.interop.fast_kan import BASES, NormedKANLinear
from fastkan.nn.kan import KAN
from fastkan.nn.linear import KANLinear
from fastkan.nn.nodes import Columns, Products
from fastkan.nn.start import give_memory

FORMAT = 1  # of the description; a reader refuses a higher one
KEY = "fastkan.model"  # of the description in a file's header
SETTINGS = ("in_features", "out_features", "grid_size", "degree", "activation", "backend", "spline_scale")
PIP = "pip install safetensors"


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(f"safetensors: expected it to be installed: {PIP}") from error
    return safetensors


def _write(tensors: Mapping[str, Tensor], path: str | os.PathLike[str], header: Mapping[str, str]) -> None:
    """A file of tensors, whole or not at all."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path: expected one that ends in .safetensors, received {str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: expected an existing folder, received {path.parent}")
    new = path.with_name(path.name + ".new")
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        _safetensors().torch.save_file(held, new, metadata=dict(header))
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file that ends in .safetensors."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: expected a file, received {str(path)!r}, which is not there")
    _safetensors()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  not a dict
    except SafetensorError as error:
        raise ValueError(f"path: expected a file of safetensors, received {path}: {error}") from error


# ---- what a model is


def _of_layer(layer: KANLinear) -> dict[str, Any]:
    settings = {name: getattr(layer, name) for name in SETTINGS}
    dtype = str(layer.weight.dtype).removeprefix("torch.")
    return settings | {"bias": layer.bias is not None, "grid_range": list(layer.grid_range), "dtype": dtype}


def _described(module: nn.Module) -> dict[str, Any]:
    """One module, as JSON. TypeError for one that no file can hold."""
    if isinstance(module, KANLinear):
        return {"type": "KANLinear", **_of_layer(module)}
    if isinstance(module, Columns):
        return {"type": "Columns", "index": module.index.tolist(), "in_features": module.in_features}
    if isinstance(module, Products):
        return {"type": "Products", "sums": module.sums, "arities": list(module.arities)}
    if isinstance(module, NormedKANLinear):
        base = None if module.base is None else next(name for name, kind in BASES.items() if type(module.base[0]) is kind)
        return {"type": "NormedKANLinear", "eps": module.norm.eps, "base": base, "splines": _of_layer(module.splines)}
    raise TypeError(
        f"model: expected KANLinear, Columns, Products and NormedKANLinear in it, received a {type(module).__name__}; save its "
        "state_dict, and see fastkan.restore"
    )


def _layer_of(settings: Mapping[str, Any]) -> KANLinear:
    settings = {**settings, "grid_range": tuple(settings["grid_range"]), "dtype": getattr(torch, settings["dtype"])}
    layer = KANLinear(**settings, device="meta")
    give_memory(layer, torch.device("cpu"))
    return layer


def _module_of(entry: Mapping[str, Any]) -> nn.Module:
    settings = {name: value for name, value in entry.items() if name != "type"}
    if entry["type"] == "KANLinear":
        return _layer_of(settings)
    if entry["type"] == "Columns":
        return Columns(**settings)
    if entry["type"] == "Products":
        return Products(**settings)
    if entry["type"] != "NormedKANLinear":
        raise ValueError(f"expected a module that fastkan knows, received {entry['type']!r}")
    splines, base = _layer_of(entry["splines"]), None
    like: dict[str, Any] = {"device": "cpu", "dtype": splines.weight.dtype}
    if entry["base"] is not None:
        linear = nn.Linear(splines.in_features, splines.out_features, device="meta", dtype=like["dtype"])
        base = nn.Sequential(BASES[entry["base"]](), linear.to_empty(device="cpu"))
    return NormedKANLinear(nn.LayerNorm(splines.in_features, entry["eps"], **like), splines, base)


# ---- models in files


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a model into one file, from which `load` builds it again.

    model: a KAN; an nn.Sequential of KANLinear and NormedKANLinear, as from_fast_kan gives it; or a KANLinear
    path: ends in .safetensors; a file there is replaced when the new one is complete
    raises: TypeError for a model with other modules; ValueError, FileNotFoundError for a path; ImportError without safetensors

    >>> import fastkan, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fastkan.interop.save(fastkan.KAN([2, (3, 1), 1]), f"{folder}/kan.safetensors")
    ...     fastkan.interop.load(f"{folder}/kan.safetensors").widths
    [2, (3, 1), 1]
    """
    if isinstance(model, KANLinear):
        kind, modules = "KANLinear", [model]
    elif type(model) in (KAN, nn.Sequential):
        kind, modules = type(model).__name__, list(model)  # type: ignore[call-overload]
    else:
        raise TypeError(f"model: expected a KAN, an nn.Sequential or a KANLinear, received {type(model).__name__}")
    described = {"format": FORMAT, "kind": kind, "modules": [_described(module) for module in modules]}
    _write(model.state_dict(), path, {KEY: json.dumps(described)})


def load(path: str | os.PathLike[str]) -> nn.Module:
    """The model that `save` or `python -m fastkan convert` wrote, on the CPU. No code of the file runs.

    raises: ValueError for another file, or one of a newer fastkan; FileNotFoundError; ImportError without safetensors
    """
    tensors, header = read(path)
    if KEY not in header:
        raise ValueError(f"path: expected a model that fastkan.interop.save wrote, received {path} without its description")
    return of_file(tensors, header[KEY], path)


def of_file(tensors: Mapping[str, Tensor], text: str, path: Any) -> nn.Module:
    """The model of a description and its tensors."""
    try:
        described = json.loads(text)
        if described["format"] > FORMAT:
            raise ValueError(f"expected format {FORMAT} at most, received {described['format']}; a newer fastkan wrote it")
        modules = [_module_of(entry) for entry in described["modules"]]
        make: dict[str, Any] = {
            "KAN": make_kan,
            "Sequential": lambda parts: nn.Sequential(*parts),
            "KANLinear": lambda parts: parts[0],
        }
        model = make[described["kind"]](modules)
        model.load_state_dict(tensors)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise ValueError(f"path: expected a model of fastkan in {path}, received one that does not fit: {error}") from error
    return model
