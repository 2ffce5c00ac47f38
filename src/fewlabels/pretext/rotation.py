"""Predicting image rotations (Gidaris, Singh & Komodakis 2018).

Every image is shown turned by 0, 90, 180 and 270 degrees and the network names the turn.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from fewlabels.augment import quarter_turns

TURNS = ("0", "90", "180", "270")
"""Class names: degrees, counter-clockwise."""


def all_turns(images: Tensor) -> tuple[Tensor, Tensor]:
    """All four turns of every image, as in section 3 of the paper.

    Args:
        images: [N, C, H, H], any type.

    Returns:
        Images [4N, C, H, H] with the four turns of an image next to each other, and their classes
        int64 [4N].
    """
    turned = torch.stack([torch.rot90(images, k, dims=(2, 3)) for k in range(4)], dim=1)
    turns = torch.arange(4, device=images.device).repeat(len(images))
    return turned.flatten(0, 1), turns


def one_turn(images: Tensor) -> tuple[Tensor, Tensor]:
    """One random turn of every image: the same task in expectation, for a quarter of the cost.

    The paper turns every image of a batch all four ways (section 4.1), at four times the batch.
    """
    turns = torch.randint(4, (len(images),), device=images.device)
    return quarter_turns(images, turns), turns


def loss(logits: Tensor, turns: Tensor) -> Tensor:
    """Mean cross-entropy over the turns (equation 3)."""
    return F.cross_entropy(logits, turns)
