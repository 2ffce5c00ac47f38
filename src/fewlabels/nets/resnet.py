"""Residual networks without their last layer, as backbones for small colour images."""

from torch import Tensor, nn
from torchvision import models

from fewlabels.nets.small_maps import on_small_maps

DEPTHS = {"resnet18": models.resnet18, "resnet34": models.resnet34}


class ResNet(nn.Module):
    """torchvision's ResNet up to its average pooling: 512 features.

    Args:
        name: ``resnet18`` or ``resnet34``.
        small: a stem for small images, one 3 x 3 convolution at full resolution, in place of the
            7 x 7 convolution and the pooling that leave a 28-pixel image 7 pixels wide.
        channels: of the images.
    """

    features = 512
    size = None

    def __init__(self, name: str, small: bool = False, channels: int = 3):
        super().__init__()
        network = DEPTHS[name]()
        if small:
            network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
            network.maxpool = nn.Identity()
            nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        elif channels != 3:
            network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        network.fc = nn.Identity()
        self.network = on_small_maps(network)

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, C, H, W] to features [N, 512]."""
        return self.network(images)


class TinyNet(nn.Module):
    """Two convolutions with batch norm, for tests: 16 features."""

    features = 16
    size = None

    def __init__(self, channels: int = 3):
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(channels, 8, 5, stride=3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, C, H, W] to features [N, 16]."""
        return self.network(images)
