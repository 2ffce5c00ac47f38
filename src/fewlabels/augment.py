"""Augmentation of whole batches on the device, with fresh parameters for every image.

Images are float [N, C, H, W]. Randomness comes from torch's generator of the images' device, which
the training loop seeds.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Every image turned counter-clockwise by its own number of quarter turns.

    Args:
        images: [N, C, H, H], square.
        turns: int64 [N], values 0..3.
    """
    turned = torch.empty_like(images)
    for k in range(4):
        chosen = turns == k
        turned[chosen] = torch.rot90(images[chosen], k, dims=(2, 3))
    return turned


def affine(
    images: Tensor, degrees: float, shift: float, zoom: float = 0.0, shear: float = 0.0
) -> Tensor:
    """Random rotation, translation, zoom and shear, bilinear, black outside.

    Args:
        images: [N, C, H, W].
        degrees: rotation is uniform in -degrees..degrees.
        shift: translation is uniform in -shift..shift, in pixels, per axis.
        zoom: the scale factor is uniform in 1-zoom..1+zoom.
        shear: horizontal shear, uniform in -shear..shear (tangent of the angle).
    """
    n, _, height, width = images.shape
    uniform = torch.rand(5, n, device=images.device) * 2 - 1
    angle = uniform[0] * math.radians(degrees)
    scale = 1 + uniform[1] * zoom
    slant = uniform[2] * shear
    cos, sin = angle.cos() / scale, angle.sin() / scale
    # affine_grid wants the map from output to input, in coordinates -1..1 (hence 2 / size).
    matrix = torch.stack(
        [
            torch.stack([cos, cos * slant - sin, uniform[3] * 2 * shift / width], dim=1),
            torch.stack([sin, sin * slant + cos, uniform[4] * 2 * shift / height], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix.to(images.dtype), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def cutout(images: Tensor, size: int) -> Tensor:
    """One black square of ``size`` x ``size`` pixels per image (DeVries & Taylor 2017).

    Its centre is uniform over the image, so that it may reach beyond the border.
    """
    n, _, height, width = images.shape
    row = torch.randint(height, (n, 1, 1), device=images.device)
    column = torch.randint(width, (n, 1, 1), device=images.device)
    rows = torch.arange(height, device=images.device).view(1, -1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, -1)
    half = size / 2
    hidden = ((rows - row + 0.5).abs() < half) & ((columns - column + 0.5).abs() < half)
    return images.masked_fill(hidden.unsqueeze(1), 0)
