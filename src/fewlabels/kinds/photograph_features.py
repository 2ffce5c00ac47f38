"""Runs of chapter 4 on a pretrained network; see `fewlabels.kinds.few_photographs`."""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels import config
from fewlabels.data import photographs
from fewlabels.data.corners import covered
from fewlabels.errors import UserError
from fewlabels.kinds.few_photographs import (
    AUGMENTATIONS,
    BATCH,
    DEGREES,
    OVERLAP,
    SHIFT,
    WINDOW,
    ZOOM,
    PhotographRun,
)
from fewlabels.kinds.measured import accuracy, classified, placed, probed, size, validation
from fewlabels.learn import features
from fewlabels.learn.features import View
from fewlabels.learn.training import Recipe, fit, predict
from fewlabels.nets.blocks import Concatenated, blocks, mlp
from fewlabels.nets.pretrained import Pretrained, backbone
from fewlabels.runs.records import Experiment, Outcome, Store

COPIES = 2
"""Views of every image where an augmentation is random and features are computed once."""
READOUTS = ("mlp", "linear probe", "kNN")
FEATURES = ("pooled", "map")
PIXELS = ("own", "unit")


@dataclass(frozen=True, kw_only=True)
class FeatureClassification(PhotographRun, kind="features", recipe=1):
    """A classifier on the features of a pretrained network that stays as it is (section 1.5)."""

    source: Pretrained
    training: Recipe
    """Of the MLP; a linear probe and kNN do not use it."""
    feature: str = "pooled"
    """``map``: the whole last feature map, as the sheet takes it; ``pooled``: its mean."""
    pixels: str = "own"
    """``own``: normalised as the weights want it; ``unit``: divided by 255 only, as the sheet."""
    readout: str = "mlp"
    hidden: int = 100
    augmentation: str = "none"
    """Views of the training images that are learned from beside the images themselves."""

    def __post_init__(self):
        super().__post_init__()
        config.one_of("feature", self.feature, FEATURES)
        config.one_of("pixels", self.pixels, PIXELS)
        config.one_of("readout", self.readout, READOUTS)
        config.one_of("augmentation", self.augmentation, AUGMENTATIONS)
        config.whole("hidden", self.hidden, 1)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"weights": self.source.checksum}

    def cell(self) -> dict[str, str | int]:
        random = " (random)" if self.source.weights == "random" else ""
        method = [f"{self.source.architecture}{random}", f"{self.size} px", self.readout]
        method += ["feature map"] if self.feature == "map" else []
        method += ["pixels / 255"] if self.pixels == "unit" else []
        method += [self.augmentation] if self.augmentation != "none" else []
        if not self.training.steps:
            method.append("untrained")
        if self.scored_on == "validation" and self.training.steps:
            method.append(f"rate {self.training.rate:g}")
        report = (self.feature, self.pixels, self.readout) == ("map", "unit", "mlp")
        return self._cell(method, "frozen", "report" if report else "tuned")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.split)
        truth, train, score = self.labelled(fabric.device)
        whole = self._features("none", 0, fabric)
        copies = range(len(views(self.augmentation)))
        own = [whole, *(self._features(self.augmentation, copy, fabric) for copy in copies)]
        x = torch.cat([each[train] for each in own])
        y = truth[train].repeat(len(own))
        if self.readout != "mlp":
            probabilities = probed(self.readout, x, y, whole[score], len(self.classes))
            return classified(probabilities, truth[score])

        head = mlp(x.shape[1], self.hidden, len(self.classes)).to(fabric.device)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            return F.cross_entropy(module(x[index]), y[index])

        def evaluate(module: nn.Module) -> dict[str, float]:
            return {"train_accuracy": accuracy(module(x), y)} | validation(
                module(whole[score]), truth[score]
            )

        watched = evaluate if self.scored_on == "validation" else None
        curves = fit(head, loss, len(x), self.training, fabric, watched, label=str(self))
        extra = {"train_accuracy": accuracy(predict(head, x), y)}
        logits = predict(head, whole[score])
        trained = size(head)
        counts = {"total": trained + size(*_blocks(self.source, self.pixels)), "trained": trained}
        measured = classified(
            logits.softmax(dim=1), truth[score], extra, curves=curves, parameters=counts
        )
        plain = (self.feature, self.pixels, self.cover, self.augmentation) == PLAIN
        # Of these only: others can start from them, and they are small.
        return replace(measured, weights=head.state_dict() if plain else None)

    def head(self, weights: dict[str, Tensor]) -> nn.Sequential:
        """The trained MLP, from the weights that the run left."""
        head = mlp(weights["0.weight"].shape[1], self.hidden, len(self.classes))
        head.load_state_dict(weights)
        return head.eval()

    def network(self) -> list[nn.Module]:
        """The pretrained blocks, from pixels 0..255 to the last feature map, free to be trained."""
        return deepcopy(_blocks(self.source, self.pixels))

    def _features(self, augmentation: str, copy: int, fabric: Fabric) -> Tensor:
        return _kept_features(
            *(self.source, self.dataset, self.classes, self.size, self.cover),
            *(self.feature, self.pixels, augmentation, copy, fabric.device),
        )


PLAIN = ("pooled", "own", "nothing", "none")
"""Feature, pixels, cover and augmentation of a run whose MLP is kept."""


def views(augmentation: str) -> list[View]:
    """The views of every image that a classifier on frozen features learns from.

    Features are computed once, so there is a fixed number of them: the mirrored image, or
    ``COPIES`` random ones.
    """
    if augmentation == "none":
        return []
    if augmentation.endswith("flip"):
        axis = 2 if augmentation.startswith("vertical") else 3
        return [View(f"{augmentation} of all", lambda images: images.flip(axis))]
    name = f"{augmentation} {DEGREES} {SHIFT} {ZOOM} {WINDOW}"
    change = AUGMENTATIONS[augmentation]
    return [View(name, lambda images: change(images.float()), seed) for seed in range(COPIES)]


@lru_cache(maxsize=40)
def _kept_features(
    source: Pretrained,
    dataset: str,
    classes: tuple[str, ...],
    size: int,
    cover: str,
    feature: str,
    pixels: str,
    augmentation: str,
    copy: int,
    device: torch.device,
) -> Tensor:
    """Features of all photographs [N, D], computed once."""
    images = covered(photographs.load(dataset, classes, size).images, cover)

    def network() -> nn.Module:
        pooling = [nn.AdaptiveAvgPool2d(1)] if feature == "pooled" else []
        return nn.Sequential(*deepcopy(_blocks(source, pixels)), *pooling, nn.Flatten())

    view = None if augmentation == "none" else views(augmentation)[copy]
    return features.frozen(source, network, images, device, view, part=f"{feature}, {pixels}")


@lru_cache(maxsize=2)
def _kept_maps(head: FeatureClassification, fixed: int, device: torch.device) -> Tensor:
    """What the first ``fixed`` blocks make of all photographs [N, C, h, w], computed once.

    Exact while they are not trained, batch norm is in evaluation mode and nothing is augmented.
    """
    images = photographs.load(head.dataset, head.classes, head.size).images
    if not fixed:
        return images.to(device)
    part = f"first {fixed} blocks, {head.pixels}"
    first = nn.Sequential(*head.network()[:fixed])
    return features.frozen(head.source, lambda: first, images, device, part=part)


@lru_cache(maxsize=4)
def _blocks(source: Pretrained, pixels: str) -> list[nn.Module]:
    """The pretrained blocks themselves: to be copied before they are changed."""
    with torch.random.fork_rng(devices=[]):
        # Of a network with random weights: one for all splits.
        torch.manual_seed(0)
        return blocks(backbone(source), normalised=pixels == "own")


@dataclass(frozen=True)
class Headed(Experiment):
    """What the runs on a pretrained network with a trained MLP on it share."""

    overlap: ClassVar = OVERLAP

    head: FeatureClassification
    """The MLP that is put on the network; also names the images and the network."""

    def __post_init__(self):
        config.one_of("dataset", self.dataset, [self.head.dataset])
        own = (self.head.feature, self.head.pixels, self.head.cover, self.head.augmentation)
        if self.head.readout != "mlp" or own != PLAIN:
            raise UserError("head goes with readout mlp on pooled features of whole, plain images")

    def checksums(self) -> dict[str, str]:
        return self.head.checksums()


@dataclass(frozen=True)
class FineTuning(Headed, kind="finetuning", recipe=1):
    """The pretrained network and a trained MLP as one network, the last blocks trained on.

    Sections 1.6 of the sheet: with no steps, its test "without training again".
    """

    blocks: int
    """How many of the last blocks are trained with the head."""
    training: Recipe

    def __post_init__(self):
        super().__post_init__()
        config.whole("blocks", self.blocks, 0)

    def cell(self) -> dict[str, str | int]:
        own = self.head.cell()
        blocks = f"{self.blocks} block{'' if self.blocks == 1 else 's'} unfrozen"
        done = f"{blocks} at {self.training.rate:g}" if self.training.steps else "concatenated"
        method = [own["method"], done]
        return own | {"method": ", ".join(method), "backbone": "fine-tuned"}

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        return self.trained(fabric, store)[1]

    def trained(self, fabric: Fabric, store: Store) -> tuple[Concatenated, Outcome]:
        """The trained part of the network, and what the whole measures."""
        own = self.head
        torch.manual_seed(own.split)
        parts_ = own.network()
        if self.blocks > len(parts_):
            raise UserError(f"blocks is {self.blocks}; allowed: 0 to {len(parts_)}")
        # Without training, the whole network from the pixels on: nothing taken from the cache.
        fixed = len(parts_) - self.blocks if self.training.steps else 0
        maps = _kept_maps(own, fixed, fabric.device)
        truth, train, score = own.labelled(fabric.device)
        network = Concatenated(parts_[fixed:], own.head(store.weights(own, fabric)))
        placed(network, fabric)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            batch = maps[train[index]].contiguous(memory_format=torch.channels_last)
            return F.cross_entropy(module(batch), truth[train[index]])

        def evaluate(module: nn.Module) -> dict[str, float]:
            return validation(predict(module, maps[score], BATCH), truth[score])

        watched = evaluate if own.scored_on == "validation" else None
        curves = fit(network, loss, len(train), self.training, fabric, watched, label=str(self))
        logits = predict(network, maps[score], BATCH)
        trained = size(network) if self.training.steps else 0
        counts = {"total": size(*parts_, network.head), "trained": trained}
        probabilities = logits.softmax(dim=1)
        return network, classified(probabilities, truth[score], curves=curves, parameters=counts)
