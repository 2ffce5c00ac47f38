"""Is a network equivariant? Measured, for any callable and any pair of transforms.

A function f of images is equivariant to a transform g when moving the input moves the output:
f(g x) = g f(x). How far it is from that is the relative error |f(g x) - g f(x)| / |g f(x)|, here
kept for every position of the output, so that borders can be told from the interior::

    import torch
    from fewlabels.learn import equivariance as eq

    conv = torch.nn.Conv2d(1, 8, 3)
    images = torch.rand(16, 1, 28, 28)

    errors = eq.error_map(conv, images, eq.shift(5, 5))
    errors.relative                                  # [16, 26, 26], one map per image
    errors.over(eq.interior(26, 26, margin=5))       # [16]: 0, convolutions move with a shift ...
    errors.over(~eq.interior(26, 26, margin=5))      # [16]: ... but not where it brought in black

    turned = eq.error_map(conv, images, eq.rotation(90))
    turned.over(eq.disc(26, margin=1))               # far from 0: they do not turn with a rotation

Where the output has another resolution or other axes than the input, g acts on it in another way,
which is the fourth argument: with a stride of 2 a shift by 4 pixels is one by 2,
``eq.error_map(net, images, eq.roll(4, 4), eq.roll(2, 2))``. A transform is any function from
[N, C, H, W] to the same shape.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewlabels.data import augment
from fewlabels.errors import UserError
from fewlabels.learn.training import evaluated

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ErrorMap:
    """How far f(g x) and g f(x) lie apart, position by position; norms are over channels."""

    difference: Tensor
    """|f(g x) - g f(x)|, [N, H, W]."""
    reference: Tensor
    """|g f(x)|, [N, H, W]."""

    @property
    def relative(self) -> Tensor:
        """Differences [N, H, W] as fractions of the image's root mean square of |g f(x)|.

        Convention: one scale an image, so that empty places do not count as large errors; nan for
        an image whose whole output is zero.
        """
        size = self.reference.square().mean(dim=(1, 2), keepdim=True).sqrt()
        return self.difference / size

    def over(self, mask: Tensor | None = None) -> Tensor:
        """Relative error of every image, [N], over the positions of the mask (all without one).

        Convention: the root of the sum of squared differences over that of squared references, not
        the mean of ratios; nan where the references are all zero. Raises UserError for a mask of
        another shape or without positions.
        """
        shape = self.difference.shape[1:]
        if mask is None:
            mask = torch.ones(shape, dtype=torch.bool, device=self.difference.device)
        if mask.shape != shape or mask.dtype != torch.bool or not mask.any():
            raise UserError(
                f"mask is {mask.dtype} {tuple(mask.shape)} with {int(mask.sum())} positions: pass "
                f"booleans {tuple(shape)}, true somewhere; the margin may be too wide."
            )
        parts = (self.difference[:, mask], self.reference[:, mask])
        apart, size = (part.cpu().double().square().sum(dim=1).sqrt() for part in parts)
        return (apart / size).float()


def error_map(
    f: Transform, images: Tensor, on_input: Transform, on_output: Transform | None = None
) -> ErrorMap:
    """Compare f(on_input(x)) with on_output(f(x)).

    Args:
        f: from images to maps [N, C, H, W]; a module is called in evaluation mode.
        images: float [N, C, H, W].
        on_input: the transform of the images.
        on_output: what it should do to the output; without it, the same.

    Raises:
        UserError: images without a channel or not float, an output that is no map, or transforms
            that do not fit its shape.
    """
    if images.dim() != 4 or not images.is_floating_point():
        raise UserError(
            f"images are {images.dtype} {tuple(images.shape)}: pass float [N, C, H, W] "
            "(images.unsqueeze(1) adds a channel)."
        )
    module = f if isinstance(f, nn.Module) else nn.Identity()
    both = evaluated(module, lambda _: {"still": f(images), "moved": f(on_input(images))})
    still, moved = both["still"], both["moved"]
    if still.dim() != 4:
        raise UserError(
            f"f returns {tuple(still.shape)}: it has to return maps [N, C, H, W], as the part of a "
            "network before its pooling does."
        )
    expected = (on_output or on_input)(still)
    if expected.shape != moved.shape:
        raise UserError(
            f"on_output makes {tuple(expected.shape)} of {tuple(still.shape)}, f(on_input(x)) has "
            f"{tuple(moved.shape)}: both have to have one shape."
        )
    return ErrorMap((moved - expected).norm(dim=1), expected.norm(dim=1))


def shift(down: int, right: int) -> Transform:
    """Move by whole pixels; zero where nothing was."""

    def move(maps: Tensor) -> Tensor:
        rows, columns = (
            torch.full((len(maps),), pixels, device=maps.device) for pixels in (down, right)
        )
        return augment.shifted(maps, rows, columns)

    return move


def roll(down: float, right: float) -> Transform:
    """Move on a torus: what leaves on one side comes back on the other.

    A part of a pixel is a shift of the phases of the Fourier transform, which is exact for maps
    without their highest frequency.
    """

    def move(maps: Tensor) -> Tensor:
        if down == int(down) and right == int(right):
            return maps.roll((int(down), int(right)), dims=(2, 3))
        height, width = maps.shape[2:]
        rows = torch.fft.fftfreq(height, device=maps.device) * down
        columns = torch.fft.rfftfreq(width, device=maps.device) * right
        phase = torch.exp(-2j * torch.pi * (rows.view(-1, 1) + columns))
        return torch.fft.irfft2(torch.fft.rfft2(maps) * phase, s=(height, width))

    return move


def rotation(degrees: float) -> Transform:
    """Turn counter-clockwise about the middle, bilinear, zero outside; quarter turns are exact."""

    def turn(maps: Tensor) -> Tensor:
        if maps.shape[2] != maps.shape[3]:
            raise UserError(f"maps have shape {tuple(maps.shape)}: only square ones can be turned.")
        if degrees % 90 == 0:
            return maps.rot90(int(degrees // 90), dims=(2, 3))
        return augment.rotated(maps, torch.full((len(maps),), float(degrees), device=maps.device))

    return turn


def interior(height: int, width: int, margin: int) -> Tensor:
    """Mask [H, W]: positions with at least ``margin`` others between them and every edge."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[margin : height - margin, margin : width - margin] = True
    return mask


def disc(side: int, margin: float) -> Tensor:
    """Mask [side, side]: positions in the inscribed circle, ``margin`` pixels from its edge."""
    from_middle = torch.arange(side) - (side - 1) / 2
    return from_middle.square() + from_middle.view(-1, 1).square() <= (side / 2 - margin) ** 2
