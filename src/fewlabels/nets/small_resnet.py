"""A residual network for 28-pixel grey images (He et al. 2016), small enough for one CPU core."""

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3 x 3 convolutions and the way around them."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)])
        self.around = nn.Identity()
        if stride > 1 or c_in != c_out:
            self.around = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, maps: Tensor) -> Tensor:
        inner = F.relu(self.norms[0](self.first(maps)))
        return F.relu(self.norms[1](self.second(inner)) + self.around(maps))


class SmallResNet(nn.Module):
    """A convolution and two blocks (28 -> 14 -> 14 -> 7 pixels), then one linear layer."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            Block(width, width, stride=1),
            Block(width, 2 * width, stride=2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(2 * width * 49, outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 1, 28, 28] to [N, outputs]."""
        return self.head(self.features(images))
