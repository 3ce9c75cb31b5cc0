"""Linear blocks that are no nn.Linear: 1x1 convolutions, and transformers' Conv1D."""

import pytest
import torch
from torch import nn

from fastkan import KANLinear, replace_linear
from fastkan.nn import KANPointwise

TOLERANCE = 64 * torch.finfo(torch.float32).eps


class Conv1D(nn.Module):
    """As transformers': weight [I, O], and its place is in the name of its module."""

    __module__ = "transformers.pytorch_utils"

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], self.nf)


class MyConv1D(Conv1D):
    __module__ = "somewhere"


def test_conv1d_of_gpt2_is_replaced():
    model = nn.Sequential(Conv1D(6, 4), nn.GELU(), Conv1D(3, 6)).eval()
    model[2].weight.requires_grad_(False)
    x = torch.randn(2, 5, 4)
    want = model(x)
    report = replace_linear(model)
    assert report.replaced == ["0", "2"] and report.classes["0"] == "Conv1D"
    assert [type(model[i]) for i in (0, 2)] == [KANLinear] * 2
    assert (model[0].in_features, model[0].out_features, model[0].training, model[2].weight.requires_grad) == (4, 6, False, False)
    torch.testing.assert_close(model(x), want, rtol=0, atol=TOLERANCE)


def test_a_subclass_of_conv1d_is_refused():
    reason = "MyConv1D is a subclass of transformers.pytorch_utils.Conv1D with behaviour of its own"
    assert replace_linear(nn.Sequential(MyConv1D(6, 4))).refused == {"0": reason}


def test_attributes_that_others_read_are_kept():
    model = nn.Sequential(Conv1D(6, 4), nn.Linear(6, 4), nn.Conv1d(4, 4, 1))
    model[1].scale_init, model[1].weight._no_weight_decay = 3, True
    model[2].bias.note = "mine"
    replace_linear(model)
    assert (model[0].nf, model[0].nx, model[1].scale_init, model[1].weight._no_weight_decay) == (6, 4, 3, True)
    assert (model[2].kernel_size, model[2].stride, model[2].layer.bias.note) == ((1,), (1,), "mine")


POINTWISE = {
    "1d": (nn.Conv1d(4, 6, 1), (2, 4, 5)),
    "1d, no batch": (nn.Conv1d(4, 6, 1, padding="same"), (4, 5)),
    "2d": (nn.Conv2d(4, 6, 1), (2, 4, 5, 3)),
    "2d, no bias": (nn.Conv2d(4, 6, (1, 1), bias=False, padding="valid"), (2, 4, 4, 4)),
    "2d, no batch": (nn.Conv2d(4, 6, 1), (4, 4, 4)),
    "2d, no rows": (nn.Conv2d(4, 6, 1), (0, 4, 4, 4)),
}


@pytest.mark.parametrize("convolution, shape", POINTWISE.values(), ids=list(POINTWISE))
def test_a_pointwise_convolution_is_replaced(convolution, shape):
    model = nn.Sequential(convolution).eval()
    x = torch.randn(shape)
    want = model(x)
    report = replace_linear(model)
    assert report.replaced == ["0"] and isinstance(model[0], KANPointwise) and not model[0].training
    assert report.parameters[1] == sum(parameter.numel() for parameter in model.parameters())
    assert (model[0].in_channels, model[0].out_channels) == (4, 6)
    torch.testing.assert_close(model(x), want, rtol=0, atol=TOLERANCE)
    assert model(x).is_contiguous()
    model(x).square().sum().backward()
    if x.numel():
        assert model[0].layer.weight.grad[:, :-1].any()


def test_channels_last_stays_channels_last():
    model = nn.Sequential(nn.Conv2d(4, 6, 1))
    x = torch.randn(2, 4, 5, 3).to(memory_format=torch.channels_last)
    want = model(x)
    replace_linear(model)
    torch.testing.assert_close(model(x), want, rtol=0, atol=TOLERANCE)
    assert model(x).is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match=r"^x: expected 3 or 4 dimensions, received shape \(4,\)"):
        model(torch.randn(4))


OTHERS = {
    "kernel": nn.Conv2d(4, 4, (1, 3)),
    "stride": nn.Conv2d(4, 4, 1, stride=2),
    "padding": nn.Conv1d(4, 4, 1, padding=1),
    "groups": nn.Conv1d(4, 4, 1, groups=2),
    "dilation": nn.Conv2d(4, 4, 1, dilation=2),
    "3d": nn.Conv3d(4, 4, 1),
    "transposed": nn.ConvTranspose2d(4, 4, 1),
}


@pytest.mark.parametrize("convolution", OTHERS.values(), ids=list(OTHERS))
def test_other_convolutions_are_left_alone(convolution):
    model = nn.Sequential(convolution)
    report = replace_linear(model)
    assert model[0] is convolution and not report.replaced and not report.refused
    kernel = "x".join(map(str, convolution.kernel_size))
    assert report.left == {"0": f"kernel {kernel}: only plain 1x1 convolutions are linear"}


def test_a_subclass_of_a_convolution_is_refused():
    assert replace_linear(nn.Sequential(nn.LazyConv2d(4, 1))).replaced == []
    model = nn.Sequential(type("MyConv", (nn.Conv2d,), {})(4, 4, 1))
    assert replace_linear(model).refused == {"0": "MyConv is a subclass of nn.Conv2d with behaviour of its own"}
    with pytest.raises(ValueError, match="^model: expected a module that contains linear blocks, received one itself, nn.Conv2d"):
        replace_linear(nn.Conv2d(4, 4, 1))


def test_a_pointwise_layer_goes_through_the_tools():
    model = nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1)).eval()
    replace_linear(model)
    x = torch.randn(2, 4, 5, 3)
    want = model(x)
    routes = {
        "compile": torch.compile(model, fullgraph=True, backend="aot_eager"),
        "fx": torch.fx.symbolic_trace(model),
        "export": torch.export.export(model, (x,)).module(),
        "trace": torch.jit.trace(model, x),
        "vmap": torch.func.vmap(model),
    }
    for name, route in routes.items():
        got = route(x)
        torch.testing.assert_close(got, want, rtol=0, atol=TOLERANCE, msg=name)
    torch.testing.assert_close(torch.func.vmap(model)(x.to(memory_format=torch.channels_last)), want, rtol=0, atol=TOLERANCE)
