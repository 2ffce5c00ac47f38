"""Augmentation of whole batches on the device, with fresh parameters for every image.

Images are float [N, C, H, W]; every function raises UserError for other types and shapes, and for
no image. Values are looked at only where it is said: a card would have to wait. Randomness comes
from torch's generator of the images' device, which the training loop seeds.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fewlabels import config
from fewlabels.errors import UserError


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Every image turned counter-clockwise by its own number of quarter turns.

    Args:
        images: [N, C, H, H] of any type, square.
        turns: int64 [N]; four are none.
    """
    check(images, square=True, floats=False)
    one_each("turns", turns, images)
    turned, turns = images, turns.remainder(4).view(-1, 1, 1, 1)
    for k in range(1, 4):
        # Chosen by position a turn would have to wait for the device, to know how many there are.
        turned = torch.where(turns != k, turned, torch.rot90(images, k, dims=(2, 3)))
    return turned


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Every image turned about its middle by its own angle, bilinear, black (0) outside.

    A positive angle is counter-clockwise as one sees the image, so that 90 degrees are one of
    :func:`quarter_turns`.

    Args:
        images: float [N, C, H, H], square.
        degrees: float [N].
    """
    check(images, square=True)
    one_each("degrees", degrees, images)
    angle = torch.deg2rad(degrees.to(images.dtype))
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # From output to input: rows point downwards, so this matrix turns counter-clockwise.
    matrix = torch.stack(
        [torch.stack([cos, -sin, zero], dim=1), torch.stack([sin, cos, zero], dim=1)], dim=1
    )
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


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
    check(images)
    config.one_of("outside", outside, ("zeros", "reflection"))
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
        images: [N, C, H, W] of any type.
        axis: ``horizontal`` exchanges left and right, ``vertical`` top and bottom.
    """
    check(images, floats=False)
    config.one_of("axis", axis, ("horizontal", "vertical"))
    mirrored = images.flip(3 if axis == "horizontal" else 2)
    chosen = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(chosen.view(-1, 1, 1, 1), mirrored, images)


def cropped(images: Tensor, smallest: float) -> Tensor:
    """A random window of every image, with its proportions, enlarged to the whole size, bilinear.

    Args:
        images: [N, C, H, W].
        smallest: the window's side is uniform in smallest..1 of the image's, its place uniform.
    """
    check(images)
    share("smallest", smallest, above_zero=True)
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
        images: [N, C, H, W] of any type.
        rows: int64 [N], pixels downwards.
        columns: int64 [N], pixels to the right.
    """
    check(images, floats=False)
    one_each("rows", rows, images)
    one_each("columns", columns, images)
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


def check(
    images: Tensor,
    channels: int | None = None,
    square: bool = False,
    floats: bool = True,
    empty: bool = False,
) -> None:
    """Refuse what is not [N, C, H, W]; ``empty``: none of them will do."""
    fits = images.ndim == 4 and (empty or len(images)) and channels in (None, images.shape[1])
    fits = fits and (images.is_floating_point() or not floats)
    if not fits or (square and images.shape[2] != images.shape[3]):
        kind = "float" if floats else "a tensor"
        raise UserError(
            f"images are {images.dtype} {tuple(images.shape)}: pass {kind} "
            f"[N, {channels or 'C'}, H, {'H' if square else 'W'}], at least one "
            "(images.unsqueeze(1) adds a channel)."
        )


def one_each(key: str, values: Tensor, images: Tensor) -> None:
    if values.shape != images.shape[:1]:
        raise UserError(
            f"{key} has shape {tuple(values.shape)} for {len(images)} images: pass one each."
        )


def share(key: str, value: float, above_zero: bool = False) -> None:
    allowed = f"{'above 0 and at most' if above_zero else 'from 0 to'} 1"
    config.finite(key, value, allowed)
    if not 0 <= value <= 1 or (above_zero and not value):
        raise UserError(f"{key} is {value!r}; allowed: {allowed}")
