"""Convolutions that commute with quarter turns: the group p4 (Cohen & Welling 2016).

A feature map of these layers has four orientations, [N, C, 4, H, W]. When the image turns by 90
degrees counter-clockwise, the maps turn with it and the orientations move on by one:
``out(rot90(x)) == rot90(out(x)).roll(1, dims=2)``. That is exact, up to rounding, as long as the
sampling grid maps onto itself: square images, stride 1 or an even kernel with an even stride on an
even side, and the same padding on every side.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class C4Lift(nn.Module):
    """From an image to four orientations: every filter in its four quarter turns (section 6.1)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0):
        super().__init__()
        self.stride, self.padding = stride, padding
        # With the initial weights of a plain convolution.
        plain = nn.Conv2d(c_in, c_out, kernel)
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, images: Tensor) -> Tensor:
        """[N, C_in, H, W] to [N, C_out, 4, H', W']."""
        filters = torch.stack([self.weight.rot90(r, dims=(2, 3)) for r in range(4)], dim=1)
        return _conv(images, filters.flatten(0, 1), self)


class C4Conv(nn.Module):
    """From four orientations to four: filters turn, their orientations move on (section 6.2)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0):
        super().__init__()
        self.stride, self.padding = stride, padding
        # With the initial weights of a plain convolution.
        plain = nn.Conv2d(c_in * 4, c_out, kernel)
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, maps: Tensor) -> Tensor:
        """[N, C_in, 4, H, W] to [N, C_out, 4, H', W']."""
        weight = self.weight.unflatten(1, (-1, 4))
        filters = torch.stack(
            [weight.rot90(r, dims=(3, 4)).roll(r, dims=2) for r in range(4)], dim=1
        )
        return _conv(maps.flatten(1, 2), filters.flatten(2, 3).flatten(0, 1), self)


def _conv(maps: Tensor, filters: Tensor, layer: C4Lift | C4Conv) -> Tensor:
    bias = layer.bias.repeat_interleave(4)
    out = F.conv2d(maps, filters, bias, layer.stride, layer.padding)
    return out.unflatten(1, (-1, 4))


class C4Net(nn.Module):
    """Four layers (28 -> 14 -> 7 -> 7 -> 1 pixels) whose output vector turns with the image.

    The last layer gives one number per orientation, a0..a3, of which the output is the vector
    (a0 - a2, a1 - a3). When the image turns by 90 degrees, so does the vector: its direction is an
    angle that follows quarter turns exactly, trained or not.
    """

    def __init__(self, width: int, side: int = 28):
        super().__init__()
        sizes = [width, 2 * width, 2 * width]
        self.features = nn.Sequential(
            # Even kernels: with stride 2 on an even side their grid maps onto itself.
            C4Lift(1, sizes[0], 6, stride=2, padding=2),
            nn.BatchNorm3d(sizes[0]),
            nn.ReLU(),
            C4Conv(sizes[0], sizes[1], 4, stride=2, padding=1),
            nn.BatchNorm3d(sizes[1]),
            nn.ReLU(),
            C4Conv(sizes[1], sizes[2], 3, padding=1),
            nn.BatchNorm3d(sizes[2]),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            C4Conv(sizes[2], 4 * width, side // 4), nn.ReLU(), C4Conv(4 * width, 1, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 1, H, H] to vectors [N, 2]."""
        a = self.head(self.features(images)).flatten(1)
        return torch.stack([a[:, 0] - a[:, 2], a[:, 1] - a[:, 3]], dim=1)
