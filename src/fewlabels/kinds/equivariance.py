"""Runs of chapter 2 that measure how far a network is from equivariance."""

from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from torch import Tensor

from fewlabels import config
from fewlabels.errors import UserError
from fewlabels.kinds.angle_networks import Stack
from fewlabels.kinds.angles import AngleRegression, prepared
from fewlabels.learn import equivariance as eq
from fewlabels.runs.records import Experiment, Outcome, Store


@dataclass(frozen=True)
class Equivariance(Experiment, kind="equivariance", recipe=3):
    """How far the feature maps of a :class:`Stack` are from moving and turning with the image.

    Measured on the first test images of the run (turned, grey levels 0..1), none of which is
    scored. Of the features those of an empty image are taken off: a constant, which the biases
    make, follows every transform and would only enlarge the denominator.

    With circular padding images lie on a torus and shifts are whole circles; otherwise a shift
    brings in black, and the error is kept inside and outside the border separately. Outside the
    inscribed circle a rotation loses part of the image: only the disc counts.
    """

    start: AngleRegression
    images: int

    def __post_init__(self):
        _check(self.start, self.images)

    def cell(self) -> dict[str, str | int]:
        return _cell(self.start, "equivariance")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.start
        features, images = _features(own, self.images, fabric, store)
        if own.network.padding == "circular":
            curves = _rolled(features, images)
        else:
            curves = _shifted(features, images, own.network.padding)
        curves |= _turned(features, images)
        metrics = {
            f"{name}_{value}": curve[curves[axis].index(value)]
            for axis, value in (("shift", 5), ("degrees", 90))
            for name, curve in curves.items()
            if name.startswith(f"{axis}_")
        }
        return Outcome(metrics, curves)


@dataclass(frozen=True)
class QuarterTurn(Experiment, kind="quarter-turn", recipe=1):
    """Where the feature maps of a :class:`Stack` follow a rotation by 90 degrees.

    A position follows where the error is less than a twentieth of the image's root mean square of
    the features, which are taken and reduced as in :class:`Equivariance`. Counted is the share of
    such positions, over all images, in the inscribed disc, in its middle (half its radius) and in
    the ring beyond.
    """

    start: AngleRegression
    images: int

    def __post_init__(self):
        _check(self.start, self.images)

    def cell(self) -> dict[str, str | int]:
        return _cell(self.start, "quarter turn")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        features, images = _features(self.start, self.images, fabric, store)
        found = eq.error_map(features, images, eq.rotation(90))
        follows = found.relative < FOLLOWS
        side = follows.shape[1]
        disc = eq.disc(side, REACH * side / images.shape[3])
        middle = eq.disc(side, side / 4)
        parts = {"disc": disc, "middle": middle, "beyond": disc & ~middle}
        return Outcome(
            {
                f"follows_{name}": follows[:, mask].float().mean().item()
                for name, mask in parts.items()
            }
        )


def _check(start: AngleRegression, images: int) -> None:
    config.whole("images", images, 1)
    if not isinstance(start.network, Stack):
        raise UserError("equivariance is measured on networks of the class Stack")


def _cell(start: AngleRegression, protocol: str) -> dict[str, str | int]:
    trained = "trained" if start.training.steps else "untrained"
    method = f"{start.network.kind}, {trained}"
    return start.cell() | {"method": method, "protocol": protocol}


def _features(
    start: AngleRegression, images: int, fabric: Fabric, store: Store
) -> tuple[eq.Transform, Tensor]:
    """What the stack makes of images, less what it makes of an empty one; and the images."""
    seen, network = start.trained(fabric, store)
    shown = prepared(seen.score_images[:images], start.protocol)
    with torch.no_grad():
        empty = network.features(torch.zeros_like(shown[:1]))
    return lambda views: network.features(views) - empty, shown


FOLLOWS = 0.05
SHIFTS = tuple(range(1, 9))
TURNS = tuple(range(0, 360, 15))
REACH = 3
"""Pixels that three 3 x 3 convolutions look sideways."""


def _rolled(f, images: Tensor) -> dict[str, list[float]]:
    """Shifts on a torus; the output moves by the same part of its own width."""
    step = images.shape[3] / f(images[:1]).shape[3]
    errors = [
        eq.error_map(f, images, eq.roll(s, s), eq.roll(s / step, s / step)).over() for s in SHIFTS
    ]
    return {"shift": [*map(float, SHIFTS)], "shift_all": [*map(_over_images, errors)]}


def _shifted(f, images: Tensor, padding: str) -> dict[str, list[float]]:
    """Shifts that bring in black, down and to the right.

    Inside is what lies as far from every edge as the shift, and with zero padding, which the image
    did not bring along, the reach of the convolutions as well.
    """
    inside, outside = [], []
    for s in SHIFTS:
        errors = eq.error_map(f, images, eq.shift(s, s))
        side = errors.difference.shape[1]
        mask = eq.interior(side, side, s + (REACH if padding == "zeros" else 0))
        inside.append(_over_images(errors.over(mask)))
        outside.append(_over_images(errors.over(~mask)))
    return {"shift": [*map(float, SHIFTS)], "shift_inside": inside, "shift_outside": outside}


def _turned(f, images: Tensor) -> dict[str, list[float]]:
    """Rotations over the circle, inside the inscribed disc."""
    errors = []
    for degrees in TURNS:
        found = eq.error_map(f, images, eq.rotation(degrees))
        side = found.difference.shape[1]
        margin = REACH * side / images.shape[3]
        errors.append(_over_images(found.over(eq.disc(side, margin))))
    return {"degrees": [*map(float, TURNS)], "degrees_disc": errors}


def _over_images(errors: Tensor) -> float:
    """Mean over the images that show something where it is measured; the others have no error."""
    return errors.double().nanmean().item()
