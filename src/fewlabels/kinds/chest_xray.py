"""Runs of chapter 3: pneumonia in chest X-rays, from ImageNet features and from scratch.

Protocol ``report`` repeats the report: for the pretrained network random crops in training *and* in
evaluation, plain SGD at 0.001 for 3 epochs, on the new head or on all layers; a network of ten
convolutions, Adam at 0.001, whole images; a fifth of the images drawn at random for validation.
Protocol ``tuned`` is ours: whole images, validation by patient, a threshold set on validation
images.

Deviations from the report: a frozen backbone's features are computed once per image and view, so
that the epochs share a few random crops of every image instead of drawing fresh ones; the report
does not print its share of validation images or its network's ``forward``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from lightning.fabric import Fabric
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from fewlabels import config, data
from fewlabels.data.images import draw_labels
from fewlabels.data.xrays import XrayData, three_classes, validation
from fewlabels.errors import UserError
from fewlabels.kinds.measured import scored_protocol, sizes
from fewlabels.learn import evaluation, features
from fewlabels.learn.features import View
from fewlabels.learn.training import Recipe, fit
from fewlabels.nets.pretrained import Pretrained, backbone, split
from fewlabels.runs.records import Experiment, Outcome, Store

PROTOCOLS = ("report", "tuned")
BALANCES = ("none", "weights", "sampling")
VIEWS = ("crop", "whole")
HELD_OUT = 0.2
"""Share of the training images that validates."""


def whole(images: Tensor, size: int) -> View:
    """The whole image, resized to ``size`` pixels where it has another size."""
    if images.shape[-1] == size:
        return View()
    return View(f"whole image at {size} pixels", v2.Resize((size, size), antialias=True))


def crop(size: int, seed: int) -> View:
    """The report's transform: ``Resize((232, 232))`` and ``RandomResizedCrop(224)``, whose crop
    keeps 8 to 100% of the image's area; in proportion where ``size`` is not 224."""
    steps = [
        v2.Resize((round(size * 232 / 224),) * 2, antialias=True),
        v2.RandomResizedCrop(size, antialias=True),
    ]
    compose = v2.Compose(steps)
    # The transform draws one crop for all images it is given.
    return View(
        f"RandomResizedCrop at {size} pixels",
        lambda images: torch.stack([compose(image) for image in images]),
        seed,
    )


@lru_cache(maxsize=4)
def xrays(dataset: str, classes: int) -> XrayData:
    """The data set with two classes, or with three (normal, bacterial, viral).

    Raises:
        UserError: three classes of a data set whose files' names do not tell them.
    """
    images = data.chest(dataset)
    return images if classes == 2 else three_classes(images)


@dataclass(frozen=True)
class Parts:
    """Which training images a run trains on and which validate, with the labels of all."""

    kept: Tensor
    held: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    @property
    def trained(self) -> Tensor:
        return self.labels[self.kept]


def parts(
    dataset: str, classes: int, by_patient: bool, labels: int, seed: int, device: torch.device
) -> Parts:
    """The split of run ``seed``, on the device.

    Args:
        labels: images kept for training, as many of every class; 0 keeps all.
    """
    images = xrays(dataset, classes)
    truth = images.train.labels
    held = validation(images, HELD_OUT, by_patient, seed)
    free = torch.ones(len(truth), dtype=torch.bool)
    free[held] = False
    kept = free.nonzero().squeeze(1)
    if labels:
        kept = kept[draw_labels(truth[kept], labels // classes, seed)]
    return Parts(
        kept.to(device),
        held.to(device),
        truth.to(device),
        images.classes,
    )


@lru_cache(maxsize=16)
def frozen_features(
    dataset: str, part: str, source: Pretrained, size: int, view: str, device: torch.device
) -> Tensor:
    """Features [N, D] of the training or test images, see :mod:`fewlabels.learn.features`.

    Args:
        part: ``train`` or ``test``.
        view: ``whole``, or a number that seeds the random crops.
    """
    images = getattr(data.chest(dataset), part).images
    own = whole(images, size) if view == "whole" else crop(size, int(view))
    return features.frozen(source, lambda: backbone(source), images, device, own)


@lru_cache(maxsize=4)
def layer3(dataset: str, part: str, source: Pretrained, size: int, device: torch.device) -> Tensor:
    """Outputs [N, C, H, W], float16, of a ResNet's layers before its last block."""
    images = getattr(data.chest(dataset), part).images
    return features.frozen(
        source,
        lambda: split(backbone(source), 1)[0],
        images,
        device,
        whole(images, size),
        dtype=torch.float16,
        part="before the last block",
    )


@dataclass(frozen=True)
class XrayExperiment(Experiment):
    """What all runs of the chapter share."""

    protocol: str
    seed: int
    """Names the split, the label draw, the initial weights and the order of the batches."""
    training: Recipe
    balance: str = "none"
    """``none``; ``weights``: the loss of a class weighs the inverse of its share; ``sampling``:
    every class is drawn equally often."""
    labels: int = 0
    """Labelled images, as many of every class; 0: all that are not held out."""
    by_patient: bool = True
    """Validation by patient, or by image at random as in the report."""
    classes: int = 2
    scored_on: str = "test"
    """``validation``: a candidate, scored on held-out training images and never on the test set."""

    def __post_init__(self):
        config.one_of("protocol", self.protocol, PROTOCOLS)
        config.one_of("balance", self.balance, BALANCES)
        config.one_of("classes", self.classes, (2, 3))
        config.one_of("scored_on", self.scored_on, ("validation", "test"))
        config.whole("seed", self.seed, 0)
        if self.labels < 0 or self.labels % self.classes:
            raise UserError(f"labels is {self.labels}; allowed: 0, or a multiple of the classes")

    def _split(self, device: torch.device) -> Parts:
        return parts(self.dataset, self.classes, self.by_patient, self.labels, self.seed, device)

    def _cell(self, method: str, backbone: str) -> dict[str, str | int]:
        if self.classes == 3:
            method += ", three classes"
        if self.balance != "none":
            method += f", class {self.balance}"
        protocol = scored_protocol(self.protocol, self.scored_on)
        return self.row(self.labels or "all", method, backbone, protocol)

    def _objective(self, own: Parts):
        """``(positions, loss)``: which training images a batch takes, and its loss."""
        counts = own.trained.bincount(minlength=self.classes).float()
        share = counts.sum() / (self.classes * counts)
        weight = share if self.balance == "weights" else None
        chance = share[own.trained] if self.balance == "sampling" else None

        def positions(index: Tensor) -> Tensor:
            if chance is not None:
                index = torch.multinomial(chance, len(index), replacement=True)
            return own.kept[index]

        def loss(logits: Tensor, at: Tensor) -> Tensor:
            return F.cross_entropy(logits, own.labels[at], weight)

        return positions, loss

    def _outcome(
        self, own: Parts, valid: Tensor, test: Tensor | None, curves, network: nn.Module, weights
    ) -> Outcome:
        """Metrics of logits on the held-out images and, for a test run, on the test images."""
        held = own.labels[own.held]
        metrics = scores(valid, held, own.classes, "valid_")
        predictions = {}
        if test is None:
            metrics |= scores(valid, held, own.classes)
        else:
            truth = xrays(self.dataset, self.classes).test.labels
            metrics |= scores(test, truth, own.classes)
            probabilities = test.softmax(dim=1).cpu().numpy()
            kept = probabilities[:, 1] if self.classes == 2 else probabilities
            predictions["test"] = kept.astype(np.float16)
            if self.classes == 2:
                metrics |= moved_threshold(valid, held, test, truth)
        if curves.get("train_accuracy"):
            metrics["train_accuracy"] = curves["train_accuracy"][-1]
        return Outcome(metrics, curves, predictions, sizes(network), weights)


def scores(
    logits: Tensor, labels: Tensor, classes: Sequence[str], prefix: str = ""
) -> dict[str, float]:
    """All of `fewlabels.learn.evaluation.evaluate`, and the recall of every class.

    Convention: that of `evaluate`; ``recall_pneumonia`` is its sensitivity, ``recall_normal`` the
    specificity.
    """
    probabilities, truth = logits.softmax(dim=1).cpu().numpy(), labels.cpu().numpy()
    measured = evaluation.evaluate(probabilities, truth)
    predicted = probabilities.argmax(axis=1)
    for k, name in enumerate(classes):
        measured[f"recall_{name.lower()}"] = float((predicted[truth == k] == k).mean())
    return {f"{prefix}{name}": value for name, value in measured.items()}


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold on ``scores`` [N] with the highest balanced accuracy.

    Convention: an image is positive (label 1) where its score is above the threshold, which lies
    half way between two scores; of equally good ones it is the middle, of two the higher.
    """
    order = np.argsort(scores)
    sorted_scores, truth = scores[order], labels[order]
    # Cut before the first, between neighbours, and after the last.
    cuts = np.concatenate([[-np.inf], (sorted_scores[1:] + sorted_scores[:-1]) / 2, [np.inf]])
    negatives = np.concatenate([[0], np.cumsum(truth == 0)]) / max(1, (truth == 0).sum())
    positives = 1 - np.concatenate([[0], np.cumsum(truth == 1)]) / max(1, (truth == 1).sum())
    # A cut between equal scores cannot be made.
    possible = np.concatenate([[True], sorted_scores[1:] > sorted_scores[:-1], [True]])
    balanced = np.where(possible, negatives + positives, -1)
    best = np.flatnonzero(balanced == balanced.max())
    middle = cuts[best[len(best) // 2]]
    return float(np.clip(middle, sorted_scores[0] - 1, sorted_scores[-1] + 1))


def moved_threshold(valid: Tensor, held: Tensor, test: Tensor, labels: Tensor) -> dict[str, float]:
    """Metrics on the test images when the threshold is the best one of the validation images.

    Convention: scores are the difference of the two logits, 0 is the usual threshold; fractions.
    """
    margin, score = ((x[:, 1] - x[:, 0]).cpu().numpy().astype(float) for x in (valid, test))
    threshold = best_threshold(margin, held.cpu().numpy())
    truth = labels.cpu().numpy()
    predicted = (score > threshold).astype(int)
    return {
        "threshold": threshold,
        "moved_accuracy": float((predicted == truth).mean()),
        "moved_mean_class_accuracy": float(balanced_accuracy_score(truth, predicted)),
        "moved_recall_normal": float((predicted[truth == 0] == 0).mean()),
        "moved_recall_pneumonia": float((predicted[truth == 1] == 1).mean()),
    }


@dataclass(frozen=True)
class HeadTraining(XrayExperiment, kind="xray-head", recipe=1):
    """A linear layer on the features of a frozen backbone."""

    source: Pretrained = field(kw_only=True)
    size: int = 224
    """Pixels a side that the backbone sees."""
    train_view: str = "whole"
    """``crop``: the report's random crops, for training and validation images."""
    test_view: str = "whole"
    crops: int = 1
    """Random crops of every training image; a step takes one of them."""
    test_crops: int = 1
    """Random crops of every test image; seeds take turns over them."""

    def __post_init__(self):
        super().__post_init__()
        config.one_of("train_view", self.train_view, VIEWS)
        config.one_of("test_view", self.test_view, VIEWS)
        config.whole("crops", self.crops, 1)
        config.whole("test_crops", self.test_crops, 1)

    def cell(self) -> dict[str, str | int]:
        method = self.source.architecture
        if self.size != 224:
            method += f" at {self.size} px"
        if self.protocol == "report" and (self.train_view, self.test_view) != ("crop", "crop"):
            method += f", trained on {self.train_view}, tested on {self.test_view}"
        if not self.by_patient and self.protocol == "tuned":
            method += ", split by image"
        if self.scored_on == "validation":
            method += f", rate {self.training.rate:g}, decay {self.training.weight_decay:g}"
        return self._cell(method, "frozen")

    def checksums(self) -> dict[str, str]:
        return super().checksums() | weights_checksum(self.source)

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.seed)
        own = self._split(fabric.device)
        seeds = range(self.crops) if self.train_view == "crop" else ("whole",)
        views = [self._features("train", str(each), fabric.device) for each in seeds]
        mean, deviation = torch.zeros(()), torch.ones(())
        if self.protocol == "tuned":
            known = views[0][own.kept]
            mean, deviation = known.mean(dim=0), known.std(dim=0).clamp(min=1e-6)
            views = [(view - mean) / deviation for view in views]
        head = nn.Linear(views[0].shape[1], self.classes).to(fabric.device)
        positions, objective = self._objective(own)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            at = positions(index)
            view = views[int(torch.randint(len(views), ()))] if len(views) > 1 else views[0]
            return objective(module(view[at]), at)

        def evaluate(module: nn.Module) -> dict[str, float]:
            return curve_points(
                (module(views[0][own.kept]), own.trained),
                (module(views[0][own.held]), own.labels[own.held]),
            )

        curves = fit(head, loss, len(own.kept), self.training, fabric, evaluate, label=str(self))
        with torch.no_grad():
            valid, test = head(views[0][own.held]), None
            if self.scored_on == "test":
                crop_seed = "whole" if self.test_view == "whole" else str(self._test_crop())
                scored = self._features("test", crop_seed, fabric.device)
                test = head((scored - mean) / deviation)
        weights = head.state_dict() | {"mean": mean, "deviation": deviation}
        return self._outcome(own, valid, test, curves, head, weights)

    def _test_crop(self) -> int:
        return self.seed % self.test_crops

    def _features(self, part: str, view: str, device: torch.device) -> Tensor:
        return frozen_features(self.dataset, part, self.source, self.size, view, device)


def curve_points(train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor]) -> dict[str, float]:
    """A point of the learning curves, from (logits, labels) of training and validation images."""
    points = {}
    for name, (logits, labels) in (("train", train), ("valid", valid)):
        right = (logits.argmax(dim=1) == labels).float()
        points[f"{name}_accuracy"] = right.mean().item()
        points["valid_loss" if name == "valid" else "fitted_loss"] = F.cross_entropy(
            logits, labels
        ).item()
    return points


def weights_checksum(source: Pretrained) -> dict[str, str]:
    """The weights a run reads, by a name that captions can show."""
    return {f"weights {source.weights} of {source.architecture}": source.checksum}
