"""The recipe of docs/how-to/save-and-load.md: a KAN with huggingface_hub's mixin."""

import pytest
import torch

from fastkan import KAN

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
pytest.importorskip("safetensors")


class HubKAN(KAN, hub.PyTorchModelHubMixin):
    pass


def test_a_model_is_the_same_after_save_and_load(tmp_path):
    net = HubKAN([2, (3, 1), 1], grid_size=4, degree=2, seed=0)
    net.update_grid(torch.randn(50, 2))
    net.layers[0].set_mask(torch.rand(2, 5) < 0.7)
    net.layers[1].set_symbolic({(0, 0): ("sin", (3.0, 0, 1, 0))})
    net.save_pretrained(tmp_path)
    loaded = HubKAN.from_pretrained(tmp_path)
    x = torch.randn(5, 2)
    assert torch.equal(loaded(x), net(x))


def test_a_refined_model_names_the_sizes_that_differ(tmp_path):
    net = HubKAN([2, 1])
    net.refine(8)
    net.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match=r"0\.weight"):
        HubKAN.from_pretrained(tmp_path)
