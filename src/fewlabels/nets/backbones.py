"""Backbones by name."""

from torch import nn

from fewlabels import config
from fewlabels.nets.resnet import ResNet, TinyNet

NAMES = (
    "resnet18",
    "resnet34",
    "resnet18-small",
    "resnet34-small",
    "vit-b32",
    "vit-28",
    "vit-narrow",
    "aim",
    "aim-tuned",
    "aim-narrow",
)
"""``resnet18-small`` and ``resnet34-small`` have the stem for small images; ``vit-b32`` takes
images of 224 pixels; ``vit-narrow`` and ``aim-narrow`` are for two CPU cores."""


def backbone(name: str, size: int, channels: int = 3, tiny: bool = False) -> nn.Module:
    """A new backbone with random weights: float [N, channels, side, side] to features [N, D].

    ``features`` is D. Transformers are made for one side, their ``size``; where that is None, a
    network takes any.

    Args:
        name: one of ``NAMES``.
        size: side of the data set's images in pixels.
        channels: of the images.
        tiny: a network of the same kind that a test can train.
    """
    config.one_of("network", name, NAMES)
    if name.startswith("resnet"):
        if tiny:
            return TinyNet(channels)
        return ResNet(name.removesuffix("-small"), name.endswith("-small"), channels)
    # timm is slow to import, and the residual networks do without it.
    from fewlabels.nets.vit import CausalViT, MaskedViT

    patch = patch_side(size)
    if tiny:
        shape = {"patch": patch, "width": 16, "depth": 1, "heads": 1, "channels": channels}
        return MaskedViT(size, **shape) if "vit" in name else CausalViT(size, **shape, outputs=10)
    match name:
        case "vit-b32":
            return MaskedViT(224, patch=32, width=768, depth=12, heads=12, channels=channels)
        case "vit-28":
            return MaskedViT(size, patch, width=192, depth=12, heads=3, channels=channels)
        case "vit-narrow":
            return MaskedViT(size, patch, width=128, depth=4, heads=4, channels=channels)
        case "aim-narrow":
            shape = {"width": 128, "depth": 4, "heads": 4, "channels": channels}
            return CausalViT(size, patch, **shape, outputs=100)
        case "aim":
            return CausalViT(size, patch, width=280, depth=12, heads=1, channels=channels)
        case _:
            return CausalViT(size, patch, width=256, depth=12, heads=4, channels=channels)


def patch_side(size: int) -> int:
    """Side of the patches that images of ``size`` pixels are cut into: the largest that divides it
    into seven or more a side. Seven for 28 and 224 pixels, eight for 64 and 128."""
    return next(side for side in range(size // 7, 0, -1) if size % side == 0)
