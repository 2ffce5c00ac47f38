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


def shifted(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Every image moved by whole pixels of its own, zero where nothing was.

    Args:
        images: [N, C, H, W].
        rows: int64 [N], pixels downwards.
        columns: int64 [N], pixels to the right.
    """
    n, _, height, width = images.shape
    row = torch.arange(height, device=images.device) - rows.view(-1, 1)
    column = torch.arange(width, device=images.device) - columns.view(-1, 1)
    inside = ((row >= 0) & (row < height)).unsqueeze(2) & (
        (column >= 0) & (column < width)
    ).unsqueeze(1)
    image = torch.arange(n, device=images.device).view(-1, 1, 1)
    row, column = row.clamp(0, height - 1).unsqueeze(2), column.clamp(0, width - 1).unsqueeze(1)
    moved = images.permute(0, 2, 3, 1)[image, row, column]
    return (moved * inside.unsqueeze(3)).permute(0, 3, 1, 2)


def random_resized_crop(
    images: Tensor, size: int, area: tuple[float, float] = (0.08, 1.0)
) -> Tensor:
    """A random cut of every image, stretched to ``size`` x ``size``, as torchvision's
    ``RandomResizedCrop`` does, without its smoothing where a cut is shrunk.

    Args:
        images: float [N, C, H, W].
        area: the cut's share of the image's area is uniform in it; its ratio of width to height is
            log-uniform in 3/4..4/3. A side that would be longer than the image's is cut to it.
    """
    n = len(images)
    share, ratio, x, y = torch.rand(4, n, device=images.device)
    share = area[0] + (area[1] - area[0]) * share
    ratio = torch.exp((2 * ratio - 1) * math.log(4 / 3))
    width, height = (share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1)
    # Coordinates run from -1 to 1, so the middle of a cut may lie within 1 minus half its side.
    zero = torch.zeros_like(x)
    matrix = torch.stack(
        [
            torch.stack([width, zero, (2 * x - 1) * (1 - width)], dim=1),
            torch.stack([zero, height, (2 * y - 1) * (1 - height)], dim=1),
        ],
        dim=1,
    )
    shape = [n, images.shape[1], size, size]
    grid = F.affine_grid(matrix.to(images.dtype), shape, align_corners=False)
    return F.grid_sample(images, grid, align_corners=False, padding_mode="border")
