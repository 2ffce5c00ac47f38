"""Networks for chest X-rays that start from random weights."""

from torch import Tensor, nn


def _pair(c_in: int, c_out: int, dropout: float) -> list[nn.Module]:
    return [
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c_out, c_out, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(dropout),
    ]


class TenConvolutions(nn.Module):
    """The report's network: five pairs of 3 x 3 convolutions, then 6272 -> 256 -> ``outputs``.

    Its linear layer expects 7 x 7 positions, which 224 pixels leave. Images of another size are
    pooled to as many: a deviation from the report.
    """

    def __init__(self, outputs: int, size: int = 224):
        super().__init__()
        self.backbone = nn.Sequential(
            *_pair(3, 32, 0.25),
            *_pair(32, 64, 0.25),
            *_pair(64, 64, 0.4),
            *_pair(64, 128, 0.4),
            *_pair(128, 128, 0.4),
            nn.Identity() if size == 224 else nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(128 * 7 * 7, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, outputs)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Grey or colour [N, 1 or 3, size, size] in 0..1 to logits [N, outputs]."""
        return self.head(self.backbone(images.expand(-1, 3, -1, -1)))


class SmallXrayNet(nn.Module):
    """Our own: four convolutions with batch norm, averaged over the positions."""

    def __init__(self, outputs: int):
        super().__init__()
        layers = []
        for c_in, c_out in ((1, 16), (16, 32), (32, 64), (64, 128)):
            layers += [
                nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(c_out),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(128, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Grey [N, 1, H, W], H and W 16 or more, to logits [N, outputs]."""
        return self.head(self.backbone(images))
