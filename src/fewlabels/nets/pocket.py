"""A residual network that two CPU cores train in a minute on images of any size."""

from torch import Tensor, nn

from fewlabels.nets.small_resnet import Block

WIDTH = 32
"""Maps of the first block; the others have two and four times as many."""
MAP = 14
"""Pixels a side, about, of the maps behind the first convolution, whatever the images' size."""


class PocketNet(nn.Module):
    """A strided convolution and three residual blocks (14 -> 7 -> 4 pixels), then the mean.

    Args:
        side: of the images, pixels.
    """

    size = None

    features = 4 * WIDTH

    def __init__(self, side: int):
        super().__init__()
        stride = max(1, round(side / MAP))
        self.stem = nn.Sequential(
            nn.Conv2d(3, WIDTH, 2 * stride + 1, stride, padding=stride, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(
            Block(WIDTH, WIDTH, 1), Block(WIDTH, 2 * WIDTH, 2), Block(2 * WIDTH, 4 * WIDTH, 2)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 3, side, side] to features [N, 128]."""
        return self.blocks(self.stem(images)).mean(dim=(2, 3))
