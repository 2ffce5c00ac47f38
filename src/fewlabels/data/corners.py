"""What lies outside the ellipse that touches an image's four sides: its corners."""

import torch
from torch import Tensor

COVERS = ("nothing", "outside", "inside")
GREY = 128
BLACK, WHITE = 10, 245


def covered(images: Tensor, cover: str) -> Tensor:
    """Grey over what lies outside (or inside) the ellipse that touches the image's four sides.

    Args:
        images: uint8 [N, 3, H, W].
        cover: ``nothing``, ``outside`` (the corners, which hold mostly background) or ``inside``.
    """
    if cover == "nothing":
        return images
    outside = _outside(*images.shape[-2:]).to(images.device)
    return images.masked_fill(outside if cover == "outside" else ~outside, GREY)


def _outside(height: int, width: int) -> Tensor:
    """Where a pixel lies outside the ellipse: booleans [H, W]."""
    y = (torch.arange(height) + 0.5) / height * 2 - 1
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    return y.view(-1, 1) ** 2 + x.view(1, -1) ** 2 > 1


def corner_colours(images: Tensor) -> Tensor:
    """Mean and deviation of each colour in each corner outside the ellipse: float [N, 24], 0..1.

    Convention: an image's own deviation, with n - 1 for n pixels of the corner.

    Args:
        images: uint8 [N, 3, H, W].
    """
    height, width = images.shape[-2:]
    outside = _outside(height, width)
    found = []
    for rows in (slice(0, height // 2), slice(height // 2, height)):
        for columns in (slice(0, width // 2), slice(width // 2, width)):
            chosen = outside[rows, columns]
            pixels = images[:, :, rows, columns][:, :, chosen].float() / 255
            found += [pixels.mean(dim=2), pixels.std(dim=2)]
    return torch.cat(found, dim=1)


def borders(images: Tensor) -> Tensor:
    """Of every image the shares of the pixels outside the ellipse that are nearly black, and nearly
    white: float [N, 2].

    Convention: every channel is at most `BLACK`, or at least `WHITE`, both included. images: uint8
    [N, 3, H, W].
    """
    pixels = images[:, :, _outside(*images.shape[-2:])]
    dark, bright = (pixels <= BLACK).all(dim=1), (pixels >= WHITE).all(dim=1)
    return torch.stack([dark, bright], dim=2).float().mean(dim=1)
