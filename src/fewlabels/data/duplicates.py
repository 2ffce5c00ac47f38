"""Images that occur twice: to the pixel, nearly, or as another print of one picture."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

TWINS = 0.85
"""Correlation of two thumbnails from which on the images count as twins."""
THUMBNAIL = 32
"""Pixels a side of a thumbnail."""


def exact(parts: Mapping[str, Tensor]) -> pd.DataFrame:
    """Every pair of equal images, within a split and across splits.

    parts: name of the split -> uint8 [N, C, H, W].

    Returns columns split, index, other_split, other_index, distance (0.0). A group of three equal
    images gives its three pairs.
    """
    groups = defaultdict(list)
    for name, images in parts.items():
        for index, image in enumerate(images.contiguous().numpy()):
            groups[image.tobytes()].append((name, index))
    rows = [
        (*first, *second, 0.0)
        for group in groups.values()
        for k, first in enumerate(group)
        for second in group[k + 1 :]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def near(parts: Mapping[str, Tensor], limit: float, chunk: int = 1024) -> pd.DataFrame:
    """Every pair of images whose root mean square difference is at most ``limit`` grey levels.

    Convention: the mean is over pixels and channels, and ``limit`` itself included. The images are
    compared pixel by pixel, in place and orientation: a turned or moved copy is not found. parts
    and the columns as in :func:`exact`; exact pairs are among the pairs found.
    """
    names = [(name, index) for name, images in parts.items() for index in range(len(images))]
    flat = torch.cat([images.flatten(1).float() for images in parts.values()])
    # Centring leaves differences as they are and saves the float32 digits of large norms.
    flat = flat - flat.mean(dim=0)
    norms = flat.square().sum(dim=1)
    rows = []
    for start in range(0, len(flat), chunk):
        part = flat[start : start + chunk]
        # Only what lies behind the chunk's first image: every pair is met once.
        squared = (
            norms[start : start + chunk, None] + norms[None, start:] - 2 * part @ flat[start:].T
        )
        close = squared <= limit**2 * flat.shape[1] + 1
        for i, j in torch.triu(close, diagonal=1).nonzero().tolist():
            distance = (flat[start + i] - flat[start + j]).square().mean().sqrt().item()
            if distance <= limit:
                rows.append((*names[start + i], *names[start + j], distance))
    return pd.DataFrame(rows, columns=COLUMNS)


COLUMNS = ["split", "index", "other_split", "other_index", "distance"]


def twins(images: Tensor) -> pd.DataFrame:
    """Pairs of images that are one, or nearly, cut or saved differently, mirrored or not.

    Convention: Pearson's correlation of grey thumbnails (plain mean of the channels, averaged areas
    of `THUMBNAIL` pixels), `TWINS` or more. images: uint8 [N, C, H, W].

    Returns columns first, second (positions), correlation, mirrored; by falling correlation.
    """
    grey = images.float().mean(dim=1, keepdim=True)
    small = F.interpolate(grey, THUMBNAIL, mode="area")[:, 0]

    def unit(images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return F.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1)

    rows = []
    for mirrored in (False, True):
        same = unit(small) @ unit(small.flip(2) if mirrored else small).T
        for first, second in (same.triu(1) >= TWINS).nonzero().tolist():
            rows.append((first, second, same[first, second].item(), mirrored))
    columns = ["first", "second", "correlation", "mirrored"]
    return pd.DataFrame(rows, columns=columns).sort_values("correlation", ascending=False)


def without_twin(pairs: pd.DataFrame, train: Tensor, test: Tensor) -> np.ndarray:
    """Which test images have no twin among the training images: booleans [len(test)].

    pairs: of :func:`twins`; train, test: positions.
    """
    inside = train.tolist()
    known = pairs["second"][pairs["first"].isin(inside)].tolist()
    known += pairs["first"][pairs["second"].isin(inside)].tolist()
    return ~np.isin(test.numpy(), known)
