"""Runs of chapter 4: four classes of photographs, a few dozen images of each.

Caltech-101 has no test set. Split ``s`` divides the images 70 to 30 by class at random, and its
number seeds weights and batches as well; every method meets the same splits. A run
scored on validation images never sees the test part: a fifth of the training part is held out.

Deviations from the sheet: its split is over all images at once, not by class; it reads images with
Keras's nearest-neighbour scaling, these are read with antialiased bilinear scaling; its network
is a VGG-16.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from lightning.fabric import Fabric
from sklearn.model_selection import StratifiedShuffleSplit
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels import config
from fewlabels.data import augment, draw_labels, photographs
from fewlabels.data.corners import COVERS, corner_colours, covered
from fewlabels.kinds.measured import (
    accuracy,
    classified,
    placed,
    probed,
    scored_protocol,
    sizes,
    validation,
)
from fewlabels.learn.training import Recipe, fit, predict
from fewlabels.nets.sheet_cnn import SheetCNN
from fewlabels.runs.records import Experiment, Outcome, Store

TEST_SHARE = 0.3
VALIDATION_SHARE = 0.2
OVERLAP = TEST_SHARE / (1 - TEST_SHARE)
"""Test images per training image: what intervals over splits of the same images need."""
BATCH = 32
"""Keras's default, which the sheet leaves as it is."""

DEGREES, SHIFT, ZOOM, WINDOW = 15, 0.08, 0.15, 0.6
"""Largest turn, move (in image widths) and zoom of ``affine``; smallest window of ``crops``."""

AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda images: images,
    "vertical flip": lambda images: augment.flipped(images, "vertical"),
    "horizontal flip": lambda images: augment.flipped(images, "horizontal"),
    "affine": lambda images: augment.affine(
        images, DEGREES, shift=SHIFT * images.shape[-1], zoom=ZOOM, outside="reflection"
    ),
    "crops": lambda images: augment.cropped(images, WINDOW),
}
"""Each gives every image of a batch its own parameters."""
COMBINED = ("horizontal flip", "affine", "crops")
AUGMENTATIONS["all but vertical"] = lambda images: _each(images, COMBINED)


def _each(images: Tensor, names: Sequence[str]) -> Tensor:
    for name in names:
        images = AUGMENTATIONS[name](images)
    return images


@lru_cache(maxsize=256)
def parts(
    dataset: str, classes: tuple[str, ...], split: int, labels: int, scored_on: str
) -> tuple[Tensor, Tensor]:
    """Positions of the training images and of those that are scored, int64.

    ``labels``: images of every class that train, 0 for all; nested for one split.
    """
    truth = photographs.load(dataset, classes, 32).labels
    train, score = _divided(truth, torch.arange(len(truth)), TEST_SHARE, split)
    if scored_on == "validation":
        train, score = _divided(truth, train, VALIDATION_SHARE, split)
    if labels:
        train = train[draw_labels(truth[train], labels, split)]
    return train, score


def _divided(truth: Tensor, among: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """``share`` of the positions ``among``, by class, and before them the rest."""
    splitter = StratifiedShuffleSplit(1, test_size=share, random_state=seed)
    (first, second) = next(splitter.split(np.zeros(len(among)), truth[among].numpy()))
    return among[first].sort().values, among[second].sort().values


@dataclass(frozen=True, kw_only=True)
class PhotographRun(Experiment):
    """What the runs on photographs share: which images they learn from and are scored on."""

    overlap: ClassVar = OVERLAP

    classes: tuple[str, ...]
    size: int
    """Pixels a side that the photographs are squeezed to."""
    split: int
    labels: int = 0
    """Images of every class that train; 0: the whole training part."""
    cover: str = "nothing"
    """What is hidden by grey, see `fewlabels.data.corners.covered`."""
    scored_on: str = "test"

    def __post_init__(self):
        config.one_of("dataset", self.dataset, photographs.SOURCES)
        photographs.check_classes(self.dataset, self.classes)
        config.whole("split", self.split, 0)
        config.whole("labels", self.labels, 0)
        config.one_of("cover", self.cover, COVERS)
        config.one_of("scored_on", self.scored_on, ("validation", "test"))

    def checksums(self) -> dict[str, str]:
        return {self.dataset: photographs.md5(self.dataset, self.classes)}

    def positions(self) -> tuple[Tensor, Tensor]:
        """Of the training images and of those that are scored."""
        return parts(self.dataset, self.classes, self.split, self.labels, self.scored_on)

    def labelled(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """On the device: the classes of all photographs, and `positions`."""
        truth = photographs.load(self.dataset, self.classes, self.size).labels
        train, score = self.positions()
        return truth.to(device), train.to(device), score.to(device)

    def _cell(self, method: list[str], backbone: str, protocol: str) -> dict[str, str | int]:
        hidden = [] if self.cover == "nothing" else [f"{self.cover} covered"]
        labels = self.labels * len(self.classes) if self.labels else "all"
        protocol = scored_protocol(protocol, self.scored_on)
        return self.row(labels, ", ".join(method + hidden), backbone, protocol)


@dataclass(frozen=True, kw_only=True)
class ScratchClassification(PhotographRun, kind="scratch", recipe=1):
    """The sheet's network, trained from its initial weights (sections 1.2 to 1.4)."""

    training: Recipe
    filters: tuple[int, ...] = (32, 64)
    dropout: float = 0.0
    augmentation: str = "none"

    def __post_init__(self):
        super().__post_init__()
        config.one_of("augmentation", self.augmentation, AUGMENTATIONS)
        config.positive("dropout", self.dropout, or_zero=True)

    def cell(self) -> dict[str, str | int]:
        method = ["small CNN", f"{self.size} px"]
        if self.augmentation != "none":
            method.append(self.augmentation)
        if self.filters != (32, 64):
            method.append(f"filters {'-'.join(map(str, self.filters))}")
        method += [f"dropout {self.dropout:g}"] if self.dropout else []
        method += [f"rate {self.training.rate:g}"] if self.training.rate != 0.001 else []
        if self.scored_on == "validation":
            method.append(f"{self.training.steps} steps")
        return self._cell(method, "scratch", "report" if len(method) == 2 else "tuned")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        return self.between(fabric, *self.positions())

    def between(self, fabric: Fabric, train: Tensor, score: Tensor) -> Outcome:
        """What the network measures on some photographs that has learned from others, by their
        positions, int64."""
        torch.manual_seed(self.split)
        photos = photographs.load(self.dataset, self.classes, self.size)
        pixels = covered(photos.images, self.cover).to(fabric.device).float() / 255
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        truth, train, score = (each.to(fabric.device) for each in (photos.labels, train, score))
        network = SheetCNN(self.size, len(self.classes), self.filters, dropout=self.dropout)
        placed(network, fabric)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            images = AUGMENTATIONS[self.augmentation](pixels[train[index]])
            images = images.contiguous(memory_format=torch.channels_last)
            return F.cross_entropy(module(images), truth[train[index]])

        def evaluate(module: nn.Module) -> dict[str, float]:
            own = predict(module, pixels[train], BATCH)
            return {
                "train_accuracy": accuracy(own, truth[train]),
                **validation(predict(module, pixels[score], BATCH), truth[score]),
            }

        watched = evaluate if self.scored_on == "validation" else None
        curves = fit(network, loss, len(train), self.training, fabric, watched, label=str(self))
        logits = predict(network, pixels[score], BATCH)
        upside_down = predict(network, pixels[score].flip(2), BATCH)
        extra = {
            "train_accuracy": accuracy(predict(network, pixels[train], BATCH), truth[train]),
            "accuracy_upside_down": accuracy(upside_down, truth[score]),
        }
        return classified(
            logits.softmax(dim=1), truth[score], extra, curves=curves, parameters=sizes(network)
        )


@dataclass(frozen=True, kw_only=True)
class CornerColours(PhotographRun, kind="corners", recipe=1):
    """No network at all: the class from the colours in the four corners.

    The features are mean and deviation of every colour in the four parts outside the ellipse that
    touches the image's sides; a linear probe reads them.
    """

    def cell(self) -> dict[str, str | int]:
        return self._cell(["colours of the corners, linear probe"], "none", "tuned")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        photos = photographs.load(self.dataset, self.classes, self.size)
        train, score = self.positions()
        found = corner_colours(photos.images)
        truth = photos.labels
        probabilities = probed(
            "linear probe", found[train], truth[train], found[score], len(self.classes)
        )
        return classified(probabilities, truth[score])
