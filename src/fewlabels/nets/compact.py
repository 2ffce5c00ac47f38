"""The network of our own protocol for 28-pixel grey images: small, with batch norm."""

from torch import Tensor, nn


def _block(c_in: int, c_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
    ]


class CompactNet(nn.Module):
    """Three convolutions (28 -> 14 -> 7 -> 3 pixels) and one linear layer.

    The head sees where a feature is: averaging over the positions instead lost several points on
    held-out training images with 100 labels.
    """

    def __init__(self, outputs: int, width: int = 24):
        super().__init__()
        self.features = 9 * 4 * width
        self.backbone = nn.Sequential(
            *_block(1, width, kernel=5, stride=2),
            *_block(width, 2 * width, kernel=3),
            nn.MaxPool2d(2),
            *_block(2 * width, 4 * width, kernel=3),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Linear(self.features, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 1, 28, 28] to logits [N, outputs]."""
        return self.head(self.backbone(images))
