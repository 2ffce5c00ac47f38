"""A residual network that two CPU cores train in a minute on images of any size."""

from torch import Tensor, nn

from fewlabels.nets.small_resnet import Block

MAP = 14
"""Pixels a side, about, of the maps behind the first convolution, whatever the images' size."""


class PocketNet(nn.Module):
    """A strided convolution and three residual blocks (14 -> 7 -> 4 pixels), then the mean.

    Args:
        side: of the images, pixels.
        channels: of the images.
        width: of the first block; the others have two and four times as many maps.
    """

    size = None

    def __init__(self, side: int, channels: int = 3, width: int = 32):
        super().__init__()
        stride = max(1, round(side / MAP))
        self.features = 4 * width
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 2 * stride + 1, stride, padding=stride, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(
            Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, channels, side, side] to features [N, 4 * width]."""
        return self.blocks(self.stem(images)).mean(dim=(2, 3))
