"""The structure all data sets share, and the two ways of splitting one."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fewlabels.errors import UserError


class Split(NamedTuple):
    """Images and their labels, on one device."""

    images: Tensor
    """uint8 [N, C, H, W], values 0..255."""
    labels: Tensor
    """int64 [N], values 0..classes-1."""

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, index: Tensor) -> "Split":
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True)
class ImageData:
    """A whole data set as uint8 tensors."""

    name: str
    title: str
    """What a caption calls it; says so where the files are a rebuild and not the official ones."""
    classes: tuple[str, ...]
    md5: str
    train: Split
    test: Split
    valid: Split | None = None
    """The official validation split, where the data set has one."""


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [C] of every channel of uint8 images [N, C, H, W], in 0..1.

    Convention: over all pixels of all images at once, the deviation with N and not N - 1. UserError
    for another type or shape, and for no image.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        raise UserError(
            f"images are {images.dtype} {tuple(images.shape)}: pass uint8 [N, C, H, W], at least "
            "one."
        )
    pixels = images.transpose(0, 1).flatten(1).double() / 255
    return pixels.mean(dim=1).float(), pixels.std(dim=1, correction=0).float()


def draw_labels(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """A stratified label draw: ``per_class`` positions of every class.

    Draws with one seed are nested: the draw with ``per_class=1`` is part of the one with 10, so
    that an accuracy-against-labels curve compares like with like.

    Args:
        labels: int64 [N].
        per_class: images taken of every class, at least 1.
        seed: names the draw.

    Returns:
        int64 [classes * per_class], positions in ``labels``, grouped by class, on its device.

    Raises:
        UserError: a class has fewer than ``per_class`` images.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for cls in labels.unique().tolist():
        members = (labels == cls).nonzero().squeeze(1)
        if not 1 <= per_class <= len(members):
            raise UserError(
                f"{per_class} labels per class asked for, but class {cls} has {len(members)} "
                f"images; allowed: 1 to {len(members)}"
            )
        order = torch.randperm(len(members), generator=generator)[:per_class]
        chosen.append(members[order.to(members.device)])
    return torch.cat(chosen)


def draw_fraction(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """A stratified draw of a fraction of the images: that share of every class, at least one.

    Draws with one seed are nested, as those of :func:`draw_labels`.

    Args:
        labels: int64 [N].
        fraction: above 0 and at most 1; with 1 every image is drawn.
        seed: names the draw.

    Returns:
        int64 positions in ``labels``, in ascending order, on its device.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"fraction is {fraction}; allowed: above 0 and at most 1")
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for cls in labels.unique().tolist():
        members = (labels == cls).nonzero().squeeze(1)
        count = max(1, round(fraction * len(members)))
        order = torch.randperm(len(members), generator=generator)[:count]
        chosen.append(members[order.to(members.device)])
    return torch.cat(chosen).sort().values


def hold_out(labels: Tensor, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Positions (kept, held out), with ``per_class`` images of every class held out."""
    out = draw_labels(labels, per_class, seed)
    kept = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
    kept[out] = False
    return kept.nonzero().squeeze(1), out
