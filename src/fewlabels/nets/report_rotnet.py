"""The two networks of the RotNet report, as printed in its appendix."""

from itertools import pairwise

from torch import Tensor, nn


def _convolutions(channels: list[int]) -> list[nn.Module]:
    layers = []
    for c_in, c_out in pairwise(channels):
        layers += [nn.Conv2d(c_in, c_out, 3, padding="same"), nn.ReLU()]
    return layers


class RotNet(nn.Module):
    """Six 3 x 3 convolutions in two blocks, then 3136 -> 1024 -> ``outputs``.

    The convolutions are the backbone; the report freezes them and trains both linear layers on the
    digits, the first from its pretrained state and the second anew.
    """

    def __init__(self, outputs: int):
        super().__init__()
        self.backbone = nn.Sequential(
            *_convolutions([1, 32, 32, 32]),
            nn.MaxPool2d(2),
            *_convolutions([32, 64, 64, 64]),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(3136, 1024), nn.ReLU(), nn.Linear(1024, outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 1, 28, 28] to logits [N, outputs]."""
        return self.head(self.backbone(images))


class PlainCNN(nn.Module):
    """Two 3 x 3 convolutions, then 6272 -> 1024 -> ``outputs`` with dropout one half."""

    def __init__(self, outputs: int):
        super().__init__()
        self.backbone = nn.Sequential(*_convolutions([1, 32, 32]), nn.MaxPool2d(2), nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(6272, 1024), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1024, outputs)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 1, 28, 28] to logits [N, outputs]."""
        return self.head(self.backbone(images))
