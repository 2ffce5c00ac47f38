"""Three 3 x 3 convolutions to measure equivariance on, with the choices that make or break it."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.nets.c4 import C4Conv, C4Lift

PADDINGS = ("none", "zeros", "circular")
DOWNS = ("none", "stride", "stride, blurred", "max", "max, blurred")
CHANNELS = 8


class BlurPool(nn.Module):
    """Low-pass filter (1 2 1) x (1 2 1) / 16, then every second pixel (Zhang 2019, section 3.2).

    Maps are continued around their edges.
    """

    def __init__(self):
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filter", torch.outer(row, row).view(1, 1, 3, 3))

    def forward(self, maps: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, H / 2, W / 2]."""
        padded = F.pad(maps, (1, 1, 1, 1), mode="circular")
        filters = self.filter.expand(maps.shape[1], -1, -1, -1)
        return F.conv2d(padded, filters, stride=2, groups=maps.shape[1])


class _DenseMax(nn.Module):
    """Maximum over 2 x 2 pixels at every pixel; the sides are joined, as in circular padding."""

    def forward(self, maps: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(maps, (0, 1, 0, 1), mode="circular"), 2, stride=1)


class ConvStack(nn.Module):
    """Three convolutions, the first two followed by ReLU and by what ``down`` says.

    ``stride`` gives these two a stride of 2, ``max`` pools after them; ``blurred`` does the same
    densely, blurs and then takes every second pixel. Blurring needs circular padding here, so that
    the images lie on a torus and no border disturbs the measurement.
    """

    def __init__(self, padding: str, down: str, outputs: int):
        super().__init__()
        layers: list[nn.Module] = []
        mode = "circular" if padding == "circular" else "zeros"
        for i, c_in in enumerate((1, CHANNELS, CHANNELS)):
            last = i == 2
            stride = 2 if down == "stride" and not last else 1
            side = 0 if padding == "none" else 1
            layers.append(nn.Conv2d(c_in, CHANNELS, 3, stride, side, padding_mode=mode))
            if last:
                break
            layers.append(nn.ReLU())
            if down == "max":
                layers.append(nn.MaxPool2d(2))
            elif down == "max, blurred":
                layers += [_DenseMax(), BlurPool()]
            elif down == "stride, blurred":
                layers.append(BlurPool())
        self.features = nn.Sequential(*layers)
        self.head = _head(CHANNELS, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 1, H, W] to [N, outputs]."""
        return self.head(self.features(images))


class SymmetricConv(nn.Conv2d):
    """A convolution whose filters are their own quarter turns: extent, and no direction."""

    def forward(self, maps: Tensor) -> Tensor:
        """[N, C, H, W] to [N, D, H, W]: the mean of the filter over its four quarter turns."""
        turned = [self.weight.rot90(k, dims=(2, 3)) for k in range(4)]
        return self._conv_forward(maps, torch.stack(turned).mean(dim=0), self.bias)


class UndirectedStack(nn.Module):
    """The same with filters that look alike in all four directions, of 1 x 1 or 3 x 3 pixels: it
    turns with the image but for its interpolation."""

    def __init__(self, kernel: int, outputs: int):
        super().__init__()
        conv = partial(SymmetricConv, kernel_size=kernel, padding=kernel // 2)
        self.features = nn.Sequential(
            conv(1, CHANNELS),
            nn.ReLU(),
            conv(CHANNELS, CHANNELS),
            nn.ReLU(),
            conv(CHANNELS, CHANNELS),
        )
        self.head = _head(CHANNELS, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 1, H, W] to [N, outputs]."""
        return self.head(self.features(images))


class C4Stack(nn.Module):
    """The same in the group p4: as many channels, each in four orientations."""

    def __init__(self, outputs: int):
        super().__init__()
        self.maps = nn.Sequential(
            C4Lift(1, CHANNELS, 3, padding=1),
            nn.ReLU(),
            C4Conv(CHANNELS, CHANNELS, 3, padding=1),
            nn.ReLU(),
            C4Conv(CHANNELS, CHANNELS, 3, padding=1),
        )
        # The head sees the orientations: it is to tell the angle, not to ignore it.
        self.head = _head(4 * CHANNELS, outputs)

    def features(self, images: Tensor) -> Tensor:
        """Float [N, 1, H, H] to the largest over orientations [N, C, H, H], which turns along."""
        return self.maps(images).amax(dim=2)

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 1, H, H] to [N, outputs]."""
        return self.head(self.maps(images).flatten(1, 2))


def _head(channels: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(), nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(49 * channels, outputs)
    )
