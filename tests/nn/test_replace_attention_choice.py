"""Which out_proj of nn.MultiheadAttention replace_linear swaps, with calibrate and without, and what it leaves as it was."""

import copy

import pytest
import torch
from torch import nn

from fastkan import replace_linear
from fastkan.nn.replace.attention import REASON, CallingAttention

N, L, E, H = 3, 5, 8, 2


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.free = nn.MultiheadAttention(E, H, batch_first=True), nn.Linear(E, E)

    def forward(self, x):
        return self.free(self.attention(x, x, x, need_weights=False)[0])


def test_nothing_is_changed_where_out_proj_stays():
    model = Model()
    assert replace_linear(model, dry_run=True).changed == {"attention": REASON}
    assert not replace_linear(model, "free").changed
    assert type(model.attention) is nn.MultiheadAttention
    report = replace_linear(model, "*.out_proj")
    assert report.replaced == ["attention.out_proj"] and type(model.attention) is CallingAttention
    again = replace_linear(model)
    assert not (again.replaced or again.refused or again.changed) and type(model.attention) is CallingAttention
    model.attention.out_proj = nn.Linear(E, E)  # a block again
    again = replace_linear(model, "attention.out_proj")
    assert again.replaced == ["attention.out_proj"] and not again.changed


def test_a_shared_attention_is_changed_once():
    one = nn.MultiheadAttention(E, H)
    report = replace_linear(nn.ModuleList([one, one]))
    assert report.replaced == ["0.out_proj", "1.out_proj"] and list(report.changed) == ["0"]


def test_calibrate_sees_what_goes_into_out_proj():
    model = Model()
    before = copy.deepcopy(model).eval()
    x = 3 * torch.randn(64, L, E)
    report = replace_linear(model, calibrate=[x])
    assert report.replaced == ["attention.out_proj", "free"] and not report.refused
    seen = []
    model.attention.out_proj.register_forward_pre_hook(lambda layer, arguments: seen.append(arguments[0].flatten(0, -2)))
    torch.testing.assert_close(model.eval()(x), before(x), rtol=0, atol=3e-6)
    knots = model.attention.out_proj.knots
    low, high = seen[0].amin(0), seen[0].amax(0)
    assert (knots[:, 3] <= low).all() and (knots[:, -4] >= high).all()
    assert ((knots[:, -4] - knots[:, 3]) <= 1.2 * (high - low)).all()


class Counting(Model):
    """Gives other outputs where its second block is a KAN layer."""

    def forward(self, x):
        return super().forward(x) + (not isinstance(self.free, nn.Linear))


def test_what_calibrate_tried_is_undone():
    model = Counting()
    block = model.attention.out_proj
    with pytest.raises(RuntimeError, match="The cause: free"):
        replace_linear(model, calibrate=[torch.randn(N, L, E)])
    assert type(model.attention) is nn.MultiheadAttention and model.attention.out_proj is block
    with pytest.raises(ValueError, match="at least one batch"):
        replace_linear(model, calibrate=[])
    assert type(model.attention) is nn.MultiheadAttention


class MyAttention(nn.MultiheadAttention):
    pass


def patched(module):
    module.forward = module.forward
    return module


def hooked(module):
    module.register_forward_hook(print)
    return module


def compiled(module):
    module.compile()
    return module


class Holder(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.attention = attention
        self.attend = attention.forward


class Reader(Holder):
    def forward(self, x):
        return x @ self.attention.out_proj.weight


REFUSED = {
    "subclass": (lambda: nn.Sequential(MyAttention(E, H)), "MyAttention reads its .weight directly"),
    "patched": (
        lambda: nn.Sequential(patched(nn.MultiheadAttention(E, H))),
        "its attention's forward is patched or compiled in place",
    ),
    "compiled": (
        lambda: nn.Sequential(compiled(nn.MultiheadAttention(E, H))),
        "its attention's forward is patched or compiled in place",
    ),
    "hooks": (
        lambda: nn.Sequential(hooked(nn.MultiheadAttention(E, H))),
        "its attention has hooks; replace first, then attach them",
    ),
    "held": (lambda: Holder(nn.MultiheadAttention(E, H)), "attend holds its attention too, outside of the modules"),
    "reader": (lambda: Reader(nn.MultiheadAttention(E, H)), "Reader reads its .weight directly"),
}


@pytest.mark.parametrize("build, reason", REFUSED.values(), ids=list(REFUSED))
def test_an_attention_with_code_of_its_own_is_refused(build, reason):
    model = build()
    classes = [type(module) for module in model.modules()]
    report = replace_linear(model)
    assert list(report.refused.values()) == [reason] and not (report.replaced or report.changed)
    assert [type(module) for module in model.modules()] == classes
