"""Rotated images and their angles, generated: the data of a regression on the angle.

The archive "rotated Fashion-MNIST" behind the rotation report is no longer public. This makes
another one of the same kind: every image turned by an angle drawn uniformly, bilinear, at its own
size, rounded to grey levels as image files are. Training and test images come from the respective
official splits.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fewlabels.data.augment import rotated
from fewlabels.errors import UserError

SMALLEST_SPAN = 7
"""2 pi is below: whoever gives radians is told so."""


class Rotated(NamedTuple):
    """Turned images and by how much each was turned."""

    images: Tensor
    """uint8 [N, 1, H, H]."""
    degrees: Tensor
    """float32 [N], counter-clockwise as one sees the image."""


def generate(images: Tensor, span: int, seed: int) -> Rotated:
    """Every image turned by its own angle, uniform in -span..span degrees.

    Args:
        images: uint8 [N, 1, H, H], square.
        span: degrees, 7 to 180; 180 is the full circle.
        seed: names the angles; the same seed gives the same ones on every machine.

    Raises:
        UserError: a span out of range (or in radians), images not square or without a channel.
    """
    check_span(span)
    generator = torch.Generator().manual_seed(seed)
    degrees = (torch.rand(len(images), generator=generator) * 2 - 1) * span
    parts = [
        rotated(part.float(), angles).round().to(torch.uint8)
        for part, angles in zip(images.split(2000), degrees.split(2000), strict=True)
    ]
    return Rotated(torch.cat(parts), degrees)


def check_span(span: int) -> None:
    """Refuse a span that is not in degrees, 7 to 180."""
    number = isinstance(span, int | float) and not isinstance(span, bool)
    if not number or not SMALLEST_SPAN <= span <= 180:
        radians = ""
        if number and 0 < span <= 2 * math.pi:
            radians = f" ({span:.4g} radians are {math.degrees(span):.0f} degrees)"
        raise UserError(
            f"span is {span!r}{radians}; allowed: degrees, {SMALLEST_SPAN} to 180, where 180 is "
            "the full circle"
        )
