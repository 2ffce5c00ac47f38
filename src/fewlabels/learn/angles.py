"""Angles as targets of a regression: as a plain number, or on the circle.

All angles are in degrees. An output's ``loss`` is what a network is trained with, ``angle`` what
it says, ``errors`` how far off it is.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewlabels.errors import UserError


def difference(a: Tensor, b: Tensor, wraps: bool = True) -> Tensor:
    """Absolute difference of angles in degrees.

    Convention: with ``wraps`` the short way round, 0..180, however often they go round.
    """
    apart = (a - b).abs()
    return 180 - (apart.remainder(360) - 180).abs() if wraps else apart


@dataclass(frozen=True)
class Number:
    """The angle as a plain number, standardised, with squared error.

    Its loss does not know that 179 and -179 degrees are neighbours.
    """

    mean: float
    """Of the training angles, degrees."""
    deviation: float
    wraps: bool
    """Whether the angles fill the circle; then errors are taken the short way round."""

    def losses(self, outputs: Tensor, degrees: Tensor) -> Tensor:
        """Squared errors [N] of outputs [N, 1].

        Convention: in squared deviations of the training angles, and never the short way round.
        """
        _check(outputs, degrees, 1)
        return (outputs.squeeze(1) - (degrees - self.mean) / self.deviation) ** 2

    def loss(self, outputs: Tensor, degrees: Tensor) -> Tensor:
        """Their mean."""
        return self.losses(outputs, degrees).mean()

    def angle(self, outputs: Tensor) -> Tensor:
        """Angles [N] in degrees that the outputs [N, 1] stand for."""
        return outputs.squeeze(1) * self.deviation + self.mean

    def errors(self, outputs: Tensor, degrees: Tensor) -> Tensor:
        """Absolute errors [N] in degrees."""
        return difference(self.angle(outputs), degrees, self.wraps)


@dataclass(frozen=True)
class Circle:
    """The angle as the direction of a vector, with the von Mises likelihood.

    Outputs (c, s) are the natural parameters of a von Mises distribution: its mean direction is
    atan2(s, c), its concentration the vector's length (Mardia & Jupp 2000, section 3.5.4). The
    density of an angle t is exp(c cos t + s sin t) / (2 pi I0(length)).
    """

    def losses(self, outputs: Tensor, degrees: Tensor) -> Tensor:
        """Negative log likelihoods [N] of outputs [N, 2].

        Convention: of a density per radian, in nats; it may be negative.
        """
        _check(outputs, degrees, 2)
        angle = torch.deg2rad(degrees)
        along = outputs[:, 0] * angle.cos() + outputs[:, 1] * angle.sin()
        # The small term keeps the gradient of the length finite at (0, 0).
        length = (outputs.square().sum(dim=1) + 1e-12).sqrt()
        # I0 grows like exp: i0e is I0 without that factor.
        return math.log(2 * math.pi) + torch.special.i0e(length).log() + length - along

    def loss(self, outputs: Tensor, degrees: Tensor) -> Tensor:
        """Their mean."""
        return self.losses(outputs, degrees).mean()

    def angle(self, outputs: Tensor) -> Tensor:
        """Directions [N] in degrees, -180..180, of the outputs [N, 2]."""
        return torch.rad2deg(torch.atan2(outputs[:, 1], outputs[:, 0]))

    def errors(self, outputs: Tensor, degrees: Tensor) -> Tensor:
        """Absolute errors [N] in degrees, the short way round."""
        return difference(self.angle(outputs), degrees)


def _check(outputs: Tensor, degrees: Tensor, width: int) -> None:
    if outputs.shape != (len(degrees), width) or degrees.dim() != 1:
        raise UserError(
            f"outputs have shape {tuple(outputs.shape)} and degrees {tuple(degrees.shape)}: pass "
            f"[N, {width}] and [N]."
        )
