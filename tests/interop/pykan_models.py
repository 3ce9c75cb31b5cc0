"""pykan's models with all that they can hold, for the tests beside this file."""

import contextlib
import io

import torch


def make(width, dtype=torch.float64, seed=0, affine=True, moved=True, **settings):
    """A pykan model of random splines and base weights, on grids that samples have moved, with random affine maps of its
    nodes.
    """
    from kan import KAN

    with contextlib.redirect_stdout(io.StringIO()):
        model = KAN(list(width), auto_save=False, seed=seed, noise_scale=3.0, **settings)
    model.double()
    generator = torch.Generator().manual_seed(seed)

    def like(tensor):
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float64)

    for layer in model.act_fun:
        layer.scale_sp.data += 0.3 * like(layer.scale_sp)
    if affine:
        for name in ("node_scale", "node_bias", "subnode_scale", "subnode_bias"):
            for parameter in getattr(model, name):
                parameter.data = like(parameter)
    if moved:
        model.update_grid_from_samples(samples(model))
    return cast(model, dtype)


def cast(model, dtype):
    for parameter in [*model.parameters(), *model.node_bias]:
        parameter.data = parameter.data.to(dtype)
    return model


def samples(model, rows=300, seed=1):
    """Rows in the grids and far beside them."""
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(rows, model.width_in[0], generator=generator, dtype=torch.float64)
