"""A pretrained network's convolutions as blocks, of which the last ones can be trained."""

import torch
from torch import Tensor, nn
from torchvision.models import VGG, ResNet

from fewlabels.errors import UserError
from fewlabels.nets.frozen import keep_statistics
from fewlabels.nets.pretrained import Backbone
from fewlabels.nets.sheet_cnn import keras_start


def blocks(backbone: Backbone, normalised: bool = True) -> list[nn.Module]:
    """From pixels 0..255 to the last feature map [N, C, h, w], in consecutive parts.

    A ResNet has five (the first convolution with its pooling, and ``layer1`` to ``layer4``), a
    VGG one for every pooling, also five.

    Args:
        backbone: a ResNet or a VGG; its modules are used, not copied.
        normalised: False feeds pixels / 255 without the weights' normalisation, as the sheet does.

    Raises:
        UserError: another architecture.
    """
    pixels = _Pixels(backbone, normalised)
    body = backbone.body
    if isinstance(body, ResNet):
        stem = nn.Sequential(pixels, body.conv1, body.bn1, body.relu, body.maxpool)
        return [stem, body.layer1, body.layer2, body.layer3, body.layer4]
    if isinstance(body, VGG):
        parts: list[list[nn.Module]] = [[pixels]]
        for layer in body.features:
            parts[-1].append(layer)
            if isinstance(layer, nn.MaxPool2d):
                parts.append([])
        return [nn.Sequential(*part) for part in parts if part]
    raise UserError(
        f"networks has a {type(body).__name__}; allowed: ResNets and VGGs, such as resnet18, vgg16"
    )


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """The sheet's classifier on features: one hidden layer."""
    return keras_start(
        nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    )


class Concatenated(nn.Module):
    """Blocks of a pretrained network under a head on the mean of their last feature map.

    Batch norm stays in evaluation mode while the rest is trained: its statistics belong to the
    weights, and a few dozen images are too few for others.
    """

    def __init__(self, parts: list[nn.Module], head: nn.Module):
        super().__init__()
        self.parts, self.head = nn.Sequential(*parts), head

    def train(self, mode: bool = True) -> "Concatenated":
        super().train(mode)
        keep_statistics(self.parts)
        return self

    def forward(self, maps: Tensor) -> Tensor:
        """What the first part takes (pixels, or a feature map) to logits [N, outputs]."""
        return self.head(self.parts(maps).mean(dim=(2, 3)))


class _Pixels(nn.Module):
    """Pixels 0..255 as the weights want them, or only divided by 255."""

    def __init__(self, backbone: Backbone, normalised: bool):
        super().__init__()
        mean, deviation = backbone.mean, backbone.deviation
        if not normalised:
            mean, deviation = torch.zeros_like(mean), torch.full_like(deviation, 255)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) / self.deviation
