"""Layers of other libraries by their published formulas, with the names that their states have."""

import torch
from torch import nn


def bases(x, knots, degree):
    """Cox-de Boor on knots [I, K]: x [B, I] -> [B, I, K - degree - 1]."""
    x, t = x[..., None], knots
    values = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
    for p in range(1, degree + 1):
        n = values.shape[-1] - 1
        up = (x - t[:, :n]) / (t[:, p : p + n] - t[:, :n])
        down = (t[:, p + 1 : p + 1 + n] - x) / (t[:, p + 1 : p + 1 + n] - t[:, 1 : 1 + n])
        values = up * values[..., :n] + down * values[..., 1:]
    return values


class EfficientLayer(nn.Module):
    """y = W_b silu(x) + sum_is (W_s c)_ois B_is(x)."""

    def __init__(self, inputs, outputs, grid_size=5, degree=3, scaler=True):
        super().__init__()
        self.degree = degree
        self.base_weight = nn.Parameter(torch.randn(outputs, inputs))
        self.spline_weight = nn.Parameter(torch.randn(outputs, inputs, grid_size + degree))
        self.spline_scaler = nn.Parameter(torch.randn(outputs, inputs)) if scaler else None
        cells = torch.rand(inputs, grid_size + 2 * degree + 1) + 0.3
        self.register_buffer("grid", cells.cumsum(1) - 0.4 * cells.sum(1, keepdim=True))

    def forward(self, x):
        weight = self.spline_weight if self.spline_scaler is None else self.spline_weight * self.spline_scaler[..., None]
        splines = torch.einsum("bis,ois->bo", bases(x, self.grid, self.degree), weight)
        return nn.functional.silu(x) @ self.base_weight.T + splines


class Radial(nn.Module):
    def __init__(self, low, high, count):
        super().__init__()
        self.grid = nn.Parameter(torch.linspace(low, high, count), requires_grad=False)
        self.width = (high - low) / (count - 1)

    def forward(self, x):
        return torch.exp(-(((x[..., None] - self.grid) / self.width) ** 2))


class RadialLayer(nn.Module):
    """y = W_s rbf(norm(x)) + W_b silu(x) + b."""

    def __init__(self, inputs, outputs, norm=True, base=True, count=8):
        super().__init__()
        self.rbf = Radial(-2.0, 2.0, count)
        self.spline_linear = nn.Linear(inputs * count, outputs, bias=False)
        self.layernorm = nn.LayerNorm(inputs) if norm else None
        self.base_linear = nn.Linear(inputs, outputs) if base else None
        if norm:
            nn.init.normal_(self.layernorm.weight)
            nn.init.normal_(self.layernorm.bias)

    def forward(self, x):
        y = self.spline_linear(self.rbf(x if self.layernorm is None else self.layernorm(x)).flatten(-2))
        return y if self.base_linear is None else y + self.base_linear(nn.functional.silu(x))


class Stack(nn.Module):
    """Layers one after another, as `layers`."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
