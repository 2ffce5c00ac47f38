"""What gives away by how many quarter turns an image was rotated, and where nothing does."""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from fewlabels.data import ImageData
from fewlabels.learn.pretext.rotation import TURNS


def centres(images: Tensor) -> np.ndarray:
    """Centre of mass of every image in pixels from its middle: [N, 2], rightwards and downwards.

    images: [N, 1, H, W], not negative; the pixel values are the masses. nan for a black image.

    Convention: pixels lie at their centres, and the middle of an even side between two of them.
    """
    mass = images.double().squeeze(1)
    down = torch.arange(mass.shape[1]) - (mass.shape[1] - 1) / 2
    right = torch.arange(mass.shape[2]) - (mass.shape[2] - 1) / 2
    total = mass.sum(dim=(1, 2))
    return torch.stack(
        [(mass.sum(dim=1) * right).sum(1) / total, (mass.sum(dim=2) * down).sum(1) / total], dim=1
    ).numpy()


def centre_rule(images: ImageData, prepare: Callable[[Tensor], Tensor] = Tensor.float) -> float:
    """How well two numbers predict the rotation: the nearest mean centre of mass of the four.

    The four means come from the training images, the accuracy (a fraction) from the test images.
    ``prepare`` is applied to the uint8 images first.

    Convention: all four turns of every image count, as in training; distances are Euclidean.
    """
    points, truth = _rotated_centres(prepare(images.test.images))
    rule = NearestCentroid().fit(*_rotated_centres(prepare(images.train.images)))
    return float((rule.predict(points) == truth).mean())


def _rotated_centres(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Centres [4N, 2] of all four rotations of the images, and the rotations [4N]."""
    points = [centres(torch.rot90(images, k, dims=(2, 3))) for k in range(len(TURNS))]
    return np.concatenate(points), np.arange(len(TURNS)).repeat(len(images))


def predicted_by_class(predicted: np.ndarray, labels: np.ndarray, off: int = 0) -> np.ndarray:
    """Share of every class's rotated images whose prediction is ``off`` quarter turns away: [K].

    ``off=0`` is the accuracy, ``off=2`` taking an image for the same one upside down. predicted:
    [4N], the four rotations of an image next to each other; labels: [N] integers 0..K-1.

    Convention: a class's share is of its own images; one without any is nan.
    """
    turns = len(TURNS)
    hit = predicted.reshape(-1, turns) == (np.arange(turns) + off) % turns
    return np.array([hit[labels == k].mean() for k in range(labels.max() + 1)])
