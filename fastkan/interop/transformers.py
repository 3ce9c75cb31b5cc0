"""Models of transformers that hold KAN layers, from the files that save_pretrained wrote."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from fastkan.nn.replace import restore

PIP = "pip install transformers"
PLACES = ("revision", "cache_dir", "token", "local_files_only", "subfolder")  # what from_pretrained finds files by


def _class_of(cls: type, path: Any, revision: dict[str, Any]) -> Any:
    """The model class that an Auto class stands for at a path; any other class as it is."""
    mapping = getattr(cls, "_model_mapping", None)
    if mapping is None:
        return cls
    from transformers import AutoConfig

    found = mapping[type(AutoConfig.from_pretrained(path, **revision))]
    return found[0] if isinstance(found, tuple | list) else found


def _fitting(model: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the names of this model: the body of a model with a head has that model's names less a prefix, and the
    other way round.
    """
    prefix = f"{model.base_model_prefix}."
    there = dict(model.named_modules())
    layers = {}
    for name, settings in config["layers"].items():
        if isinstance(there.get(prefix[:-1]), nn.Module):
            layers[name if name in there else prefix + name] = settings
        elif name in there or name.startswith(prefix):  # else a head that the body alone has not
            layers[name.removeprefix(prefix)] = settings
    return {**config, "layers": layers}


def _swapped(cls: Any) -> Any:
    """A subclass whose models have the layers of their config before their state is loaded."""

    def start(self: Any, config: Any, *arguments: Any, **keywords: Any) -> None:
        cls.__init__(self, config, *arguments, **keywords)
        if getattr(config, "fastkan", None) is None:
            raise ValueError(
                "path: expected a model whose config has an entry `fastkan`, as replace_linear writes it, received one without; "
                "load it with the from_pretrained of its class"
            )
        restore(self, _fitting(self, config.fastkan))

    return type(cls.__name__, (cls,), {"__init__": start, "__module__": cls.__module__})


def _check_loaded(path: Any, layers: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    """RuntimeError if a KAN layer did not get all that the files have, or needs more than they have."""
    wrong = []
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        for entry in info[what]:
            key = entry if isinstance(entry, str) else entry[0]
            owner = key.rpartition(".")[0]
            if any(key.startswith(f"{name}.") for name in layers) and not key.endswith("._extra_state"):
                wrong.append(f"{key} ({what.removesuffix('_keys')} of {owner})")
    if wrong:
        raise RuntimeError(
            f"path: expected files that fit the KAN layers of the config, received {path} with {', '.join(sorted(wrong)[:5])}; "
            "after refine, set model.config.fastkan = fastkan.describe(model) and save again"
        )


def from_pretrained(cls: type, path: Any, **settings: Any) -> Any:
    """A model of transformers with its KAN layers, from what save_pretrained wrote after replace_linear.

    The from_pretrained of the class itself would not know of the layers. replace_linear and restore write them into
    `model.config.fastkan`; after a refine, set it to fastkan.describe(model) before you save.

    cls: the class of the model, or an Auto class
    path: a folder or a name on the hub
    settings: from_pretrained's; dtype leaves the knots in float32
    returns: the model, of class cls
    raises: ImportError without transformers; ValueError for a model without an entry `fastkan` in its config; RuntimeError for
        files that do not fit it
    """
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise ImportError(f"from_pretrained: expected transformers, which is not installed: {PIP}") from error
    places: dict[str, Any] = {key: settings[key] for key in PLACES if key in settings}
    cls = _class_of(cls, path, places)
    wanted = settings.pop("output_loading_info", False)
    model, info = _swapped(cls).from_pretrained(path, output_loading_info=True, **settings)
    model.__class__ = cls
    _check_loaded(path, _fitting(model, model.config.fastkan)["layers"], info)
    return (model, info) if wanted else model
