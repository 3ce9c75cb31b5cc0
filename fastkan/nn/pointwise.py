"""KANPointwise: a KAN layer along the channels, in the place of a convolution with kernel 1."""

from torch import Tensor, nn

from fastkan.nn.linear import KANLinear


class KANPointwise(nn.Module):
    """A KANLinear along the channels of x [B, C, ...] or [C, ...], at every place by itself: a 1x1 convolution with splines.

    layer: the KANLinear
    dims: how many dimensions follow the channels: 1 as for nn.Conv1d, 2 as for nn.Conv2d
    """

    def __init__(self, layer: KANLinear, dims: int) -> None:
        super().__init__()
        self.layer = layer
        self.dims = dims

    @property
    def in_channels(self) -> int:
        """The layer's in_features."""
        return self.layer.in_features

    @property
    def out_channels(self) -> int:
        """The layer's out_features."""
        return self.layer.out_features

    def forward(self, input: Tensor) -> Tensor:
        """x [B, C, ...] -> [B, O, ...], contiguous as a convolution's result is; channels_last if x is."""
        x = input
        is_tensor = isinstance(x, Tensor)  # or a Proxy of torch.fx, which has neither sizes nor strides
        if is_tensor and x.ndim not in (self.dims + 1, self.dims + 2):
            raise ValueError(f"x: expected {self.dims + 1} or {self.dims + 2} dimensions, received shape {tuple(x.shape)}")
        channels = -1 - self.dims
        y = self.layer(x.movedim(channels, -1)).movedim(-1, channels)
        last = is_tensor and x.ndim == 4 and x.stride(1) == 1 and not x.is_contiguous()  # vmap cannot ask for channels_last
        return y if last else y.contiguous()

    def extra_repr(self) -> str:
        return f"dims={self.dims}"
