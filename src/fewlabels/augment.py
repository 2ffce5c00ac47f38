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
    images: Tensor,
    degrees: float,
    shift: float,
    zoom: float = 0.0,
    shear: float = 0.0,
    outside: str = "zeros",
) -> Tensor:
    """Random rotation, translation, zoom and shear, bilinear, black outside.

    Args:
        images: [N, C, H, W].
        degrees: rotation is uniform in -degrees..degrees.
        shift: translation is uniform in -shift..shift, in pixels, per axis.
        zoom: the scale factor is uniform in 1-zoom..1+zoom.
        shear: horizontal shear, uniform in -shear..shear (tangent of the angle).
        outside: ``zeros``, or ``reflection`` to fill the margins with the mirrored image.
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
    return F.grid_sample(images, grid, padding_mode=outside, align_corners=False)


def flipped(images: Tensor, axis: str) -> Tensor:
    """Every image mirrored with probability one half.

    Args:
        images: [N, C, H, W].
        axis: ``horizontal`` exchanges left and right, ``vertical`` top and bottom.
    """
    mirrored = images.flip(3 if axis == "horizontal" else 2)
    chosen = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(chosen.view(-1, 1, 1, 1), mirrored, images)


def cropped(images: Tensor, smallest: float) -> Tensor:
    """A random window of every image, with its proportions, enlarged to the whole size, bilinear.

    Args:
        images: [N, C, H, W].
        smallest: the window's side is uniform in smallest..1 of the image's, its place uniform.
    """
    n = len(images)
    uniform = torch.rand(3, n, device=images.device)
    side = smallest + (1 - smallest) * uniform[0]
    centre = (1 - side) * (2 * uniform[1:] - 1)
    zero = torch.zeros_like(side)
    matrix = torch.stack(
        [torch.stack([side, zero, centre[0]], dim=1), torch.stack([zero, side, centre[1]], dim=1)],
        dim=1,
    )
    grid = F.affine_grid(matrix.to(images.dtype), list(images.shape), align_corners=False)
    # Half a pixel of the window's edge lies outside: it takes the pixel beside it.
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


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
