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
from captum.attr import LayerGradCam
from lightning.fabric import Fabric
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from fewlabels import config, data
from fewlabels.data import pneumonia_mnist
from fewlabels.data.augment import affine, random_crops
from fewlabels.data.images import draw_labels
from fewlabels.data.xrays import CLASSES, XrayData, patient, three_classes, validation
from fewlabels.errors import UserError
from fewlabels.learn import evaluation, features
from fewlabels.learn.features import View
from fewlabels.learn.training import Recipe, fit, predict
from fewlabels.nets.pretrained import Pretrained, backbone, split
from fewlabels.nets.xray_cnn import SmallXrayNet, TenConvolutions
from fewlabels.runs.records import ADDED, Experiment, Outcome, Store

PROTOCOLS = ("report", "tuned")
BALANCES = ("none", "weights", "sampling")
VIEWS = ("crop", "whole")
NETWORKS = ("ten convolutions", "small", "last block", "all layers")
SMALLEST_CROP = 0.08
"""Share of the image's area, torchvision's default for ``RandomResizedCrop``."""
HELD_OUT = 0.2
"""Share of the training images that validates."""
CURVE_IMAGES = 500
"""Training images behind the training accuracy of networks."""
BACKBONE_FACTOR = 0.1
"""Learning rate of pretrained layers, as a share of the new head's."""


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
        protocol = self.protocol
        if self.scored_on == "validation":
            protocol += ", scored on validation images"
        return {
            "dataset": self.dataset,
            "labels": self.labels or "all",
            "method": method,
            "backbone": backbone,
            "protocol": protocol,
        }

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
        return Outcome(metrics, curves, predictions, _count(network), weights)


def scores(
    logits: Tensor, labels: Tensor, classes: Sequence[str], prefix: str = ""
) -> dict[str, float]:
    """All of `fewlabels.learn.evaluation.evaluate`, and the recall of every class."""
    probabilities, truth = logits.softmax(dim=1).cpu().numpy(), labels.cpu().numpy()
    measured = evaluation.evaluate(probabilities, truth)
    predicted = probabilities.argmax(axis=1)
    for k, name in enumerate(classes):
        measured[f"recall_{name.lower()}"] = float((predicted[truth == k] == k).mean())
    return {f"{prefix}{name}": value for name, value in measured.items()}


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold on ``scores`` [N] with the highest balanced accuracy; the middle of ties.

    An image is called positive (label 1) where its score is above the threshold.
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

    Scores are the difference of the two logits; 0 is the usual threshold.
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
class HeadTraining(XrayExperiment):
    """A linear layer on the features of a frozen backbone."""

    kind = "xray-head"
    recipe = 1

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


@dataclass(frozen=True)
class NetworkTraining(XrayExperiment):
    """A network trained on the images: from scratch, or pretrained layers trained further."""

    kind = "xray-network"
    recipe = 1

    network: str = field(kw_only=True)
    """``ten convolutions``: the report's. ``small``: ours. ``last block``, ``all layers``: a
    ResNet with weights from ``source``, its last block or all of it trained."""
    size: int = 64
    source: Pretrained | None = None
    augmented: bool = False
    """Training images slightly turned, moved, zoomed, and changed in contrast."""

    def __post_init__(self):
        super().__post_init__()
        config.one_of("network", self.network, NETWORKS)
        config.whole("size", self.size, 32 if self.network == "ten convolutions" else 16)
        if (self.source is not None) != (self.network in ("last block", "all layers")):
            raise UserError("source goes with the networks last block and all layers")
        if self.augmented and self.network == "last block":
            raise UserError("augmented goes with networks that see images, not with last block")

    def cell(self) -> dict[str, str | int]:
        if self.source is None:
            method, start = f"{self.network} at {self.size} px", "scratch"
        else:
            method = f"{self.source.architecture} at {self.size} px, {self.network}"
            start = "fine-tuned"
        if self.scored_on == "validation":
            method += f", rate {self.training.rate:g}" + (", augmented" * self.augmented)
        return self._cell(method, start)

    def checksums(self) -> dict[str, str]:
        own = weights_checksum(self.source) if self.source is not None else {}
        return super().checksums() | own

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.seed)
        own = self._split(fabric.device)
        network, slower = self._network()
        network = network.to(fabric.device, memory_format=torch.channels_last)
        images = self._inputs("train", fabric.device)
        positions, objective = self._objective(own)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            at = positions(index)
            return objective(module(self._view(images[at].float())), at)

        some = own.kept[:: -(-len(own.kept) // CURVE_IMAGES)]

        def evaluate(module: nn.Module) -> dict[str, float]:
            known, held = (
                (predict(module, self._scored(images[at]), 100), own.labels[at])
                for at in (some, own.held)
            )
            return curve_points(known, held)

        curves = fit(
            network, loss, len(own.kept), self.training, fabric, evaluate, str(self), slower
        )
        valid, test = predict(network, self._scored(images[own.held]), 100), None
        if self.scored_on == "test":
            test = predict(network, self._scored(self._inputs("test", fabric.device)), 100)
        return self._outcome(own, valid, test, curves, network, None)

    def _view(self, batch: Tensor) -> Tensor:
        """Training images, float, as the network sees them."""
        return deformed(batch) if self.augmented else batch

    def _scored(self, images: Tensor) -> Tensor:
        """Validation and test images as the network sees them."""
        return images

    def _network(self) -> tuple[nn.Module, tuple[nn.Module, float] | None]:
        if self.network == "ten convolutions":
            return nn.Sequential(Scaled(), TenConvolutions(self.classes, self.size)), None
        if self.network == "small":
            return nn.Sequential(Scaled(), SmallXrayNet(self.classes)), None
        body = backbone(self.source)
        trained: nn.Module = body
        if self.network == "last block":
            trained = LastBlock(split(body, 1)[1])
        network = nn.Sequential(trained, nn.Linear(body.features, self.classes))
        return network, (trained, BACKBONE_FACTOR)

    def _inputs(self, part: str, device: torch.device) -> Tensor:
        if self.network == "last block":
            return layer3(self.dataset, part, self.source, self.size, device)
        return resized(self.dataset, part, self.size, device)


@dataclass(frozen=True)
class ReportFineTuning(NetworkTraining):
    """Protocol ``report``, read otherwise: nothing is frozen.

    All layers are trained at one rate on the report's random crops, and the crops are drawn in
    evaluation as well. Batch norm stays in evaluation mode, unlike in the report.
    """

    kind = "xray-report-fine-tuning"
    recipe = 1

    def __post_init__(self):
        super().__post_init__()
        config.one_of("network", self.network, ["all layers"])
        config.one_of("protocol", self.protocol, ["report"])

    def cell(self) -> dict[str, str | int]:
        own = super().cell()
        return own | {"method": f"{own['method']}, crops"}

    def _network(self) -> tuple[nn.Module, None]:
        return super()._network()[0], None

    def _view(self, batch: Tensor) -> Tensor:
        return random_crops(batch, self.size, SMALLEST_CROP, flip=0)

    def _scored(self, images: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            crops = [
                random_crops(part.cpu().float(), self.size, SMALLEST_CROP, flip=0)
                for part in images.split(200)
            ]
        return torch.cat(crops).to(images.device)


class Scaled(nn.Module):
    """Pixels 0..255 to 0..1, as torchvision's ``ToTensor`` does."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 255


class LastBlock(nn.Module):
    """The end of a ResNet on stored outputs of its beginning, batch norm in evaluation mode."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def train(self, mode: bool = True) -> "LastBlock":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, outputs: Tensor) -> Tensor:
        return self.layers(outputs.float())


@lru_cache(maxsize=4)
def resized(dataset: str, part: str, size: int, device: torch.device) -> Tensor:
    """The images, uint8 [N, 1, size, size], on the device."""
    images = getattr(data.chest(dataset), part).images
    if images.shape[-1] != size:
        images = torch.cat(
            [v2.functional.resize(each, [size, size], antialias=True) for each in images.split(200)]
        )
    return images.to(device)


def deformed(images: Tensor) -> Tensor:
    """Float images 0..255 as another exposure might show them: turned by up to 7 degrees, moved by
    up to 5%, zoomed by up to 10%, contrast and brightness changed. Never mirrored: the heart lies
    on the left."""
    n = len(images)
    moved = affine(images, degrees=7, shift=0.05 * images.shape[-1], zoom=0.1)
    contrast, brightness = torch.rand(2, n, 1, 1, 1, device=images.device) * 2 - 1
    return (moved * (1 + 0.2 * contrast) + 25 * brightness).clamp(0, 255)


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


@dataclass(frozen=True)
class DomainShift(Experiment):
    """Can a linear classifier tell the test images of a class from its training images?

    Within one class the task is impossible where both parts come from one population: an area
    under the ROC curve of one half. The control draws as many training patients' images instead of
    test images. Features are those of the frozen backbone; five folds, by patient.
    """

    kind = "xray-shift"
    recipe = 1

    seed: int
    label: int
    """0 normal, 1 pneumonia."""
    control: bool
    source: Pretrained
    size: int = 224

    def __post_init__(self):
        config.one_of("label", self.label, (0, 1))
        config.whole("seed", self.seed, 0)

    def cell(self) -> dict[str, str | int]:
        cls = CLASSES[self.label]
        against = "held-out training images" if self.control else "test images"
        return {
            "dataset": self.dataset,
            "labels": "all",
            "method": f"{cls}: training against {against}",
            "backbone": "frozen",
            "protocol": "tuned",
        }

    def checksums(self) -> dict[str, str]:
        return super().checksums() | weights_checksum(self.source)

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        images = data.chest(self.dataset)
        train, test = (
            frozen_features(self.dataset, part, self.source, self.size, "whole", fabric.device)
            for part in ("train", "test")
        )
        here = (images.train.labels == self.label).nonzero().squeeze(1)
        there = (images.test.labels == self.label).nonzero().squeeze(1)
        files = images.train_files or tuple(str(i) for i in range(len(train)))
        test_files = images.test_files or tuple(f"test {i}" for i in range(len(test)))
        groups = [patient(files[i]) for i in here.tolist()]
        rng = np.random.default_rng(self.seed)
        if self.control:
            order = rng.permutation(sorted(set(groups))).tolist()
            other, count = set(), 0
            while count < min(len(there), len(here) // 4) or len(other) < 2:
                other.add(order.pop())
                count = sum(group in other for group in groups)
            truth = np.array([group in other for group in groups]).astype(int)
            known = train[here.to(train.device)]
        else:
            truth = np.array([0] * len(here) + [1] * len(there))
            groups += [f"test {patient(test_files[i])}" for i in there.tolist()]
            known = torch.cat([train[here.to(train.device)], test[there.to(test.device)]])
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=1e-3, max_iter=200, class_weight="balanced")
        )
        folds = GroupKFold(5, shuffle=True, random_state=self.seed)
        scored = cross_val_predict(
            model, known.cpu().numpy(), truth, groups=groups, cv=folds, method="decision_function"
        )
        return Outcome({"auc": float(roc_auc_score(truth, scored))})


@dataclass(frozen=True)
class Heatmaps(Experiment):
    """Where a trained head looks: Grad-CAM (Selvaraju et al. 2017) at the backbone's last maps.

    For as many test images of every true and predicted class as there are, up to ``each``; for the
    class that was predicted.
    """

    kind = "xray-heatmaps"
    recipe = 1

    head: HeadTraining
    each: int = 20
    shown: int = 3
    """Maps of every group that the record keeps."""
    layer: str = field(default="layer4", metadata=ADDED)
    """Module that puts out the maps, see `fewlabels.nets.pretrained.last_maps`."""

    def cell(self) -> dict[str, str | int]:
        return self.head.cell() | {"method": f"Grad-CAM of {self.head.source.architecture}"}

    def needs(self) -> Sequence[Experiment]:
        return (self.head,)

    def checksums(self) -> dict[str, str]:
        return self.head.checksums()

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.head
        torch.manual_seed(own.seed)
        images = xrays(own.dataset, own.classes).test
        state = store.weights(own, fabric)
        body = backbone(own.source)
        network = Scored(body, state).to(fabric.device).eval()
        scored = frozen_features(own.dataset, "test", own.source, own.size, "whole", fabric.device)
        with torch.no_grad():
            predicted = network.head((scored - network.mean) / network.deviation).argmax(dim=1)
        predicted = predicted.cpu()
        metrics, kept = {}, {"position": [], "map": [], "predicted": []}
        resize = whole(images.images, own.size).transform or (lambda batch: batch)
        for true in range(own.classes):
            for guess in range(own.classes):
                group = ((images.labels == true) & (predicted == guess)).nonzero().squeeze(1)
                group = group[torch.randperm(len(group))[: self.each]]
                if not len(group):
                    continue
                batch = resize(images.images[group]).to(fabric.device).float()
                maps = class_maps(network, self.layer, batch, guess)
                metrics[f"outside_{true}_{guess}"] = outside(maps)
                metrics[f"images_{true}_{guess}"] = float(len(group))
                scale = maps.flatten(1).max(dim=1).values.clamp(min=1e-12).view(-1, 1, 1, 1)
                kept["position"] += group[: self.shown].tolist()
                kept["predicted"] += [guess] * len(group[: self.shown])
                kept["map"].append((255 * maps / scale)[: self.shown, 0].to(torch.uint8).cpu())
        return Outcome(
            metrics,
            predictions={
                "position": np.array(kept["position"], dtype=np.int32),
                "predicted": np.array(kept["predicted"], dtype=np.uint8),
                "map": torch.cat(kept["map"]).numpy(),
            },
        )


class Scored(nn.Module):
    """A backbone with the head that was trained on its standardised features."""

    def __init__(self, body: nn.Module, state: dict[str, Tensor]):
        super().__init__()
        self.body = body
        self.head = nn.Linear(*reversed(state["weight"].shape))
        self.head.load_state_dict({name: state[name] for name in ("weight", "bias")})
        self.register_buffer("mean", state["mean"])
        self.register_buffer("deviation", state["deviation"])

    def forward(self, images: Tensor) -> Tensor:
        return self.head((self.body(images) - self.mean) / self.deviation)


def class_maps(network: Scored, layer: str, images: Tensor, target: int) -> Tensor:
    """Grad-CAM of a class: [N, 1, h, w], 0 or more, of images [N, 1, H, W] with values 0..255.

    Convention: the paper's. Each of the layer's maps weighs its gradient's mean over places, their
    sum is cut off at zero, and nothing is normalised or enlarged.
    """
    method = LayerGradCam(network, network.body.body.get_submodule(layer))
    return torch.cat(
        [method.attribute(part, target=target, relu_attributions=True) for part in images.split(10)]
    ).detach()


def outside(maps: Tensor) -> float:
    """Share of the attribution in the outer ring of [N, 1, H, W], mean over the images: a frame one
    seventh of the image wide, where there are shoulders, letters and the edge of the film, but no
    lungs."""
    height, width = maps.shape[-2:]
    ring = torch.ones(height, width, dtype=torch.bool, device=maps.device)
    top, left = max(1, round(height / 7)), max(1, round(width / 7))
    ring[top : height - top, left : width - left] = False
    total = maps.sum(dim=(1, 2, 3))
    share = (maps * ring).sum(dim=(1, 2, 3)) / total.clamp(min=1e-12)
    return float(share[total > 0].mean()) if (total > 0).any() else float("nan")


@dataclass(frozen=True)
class UnmatchedImages(Experiment):
    """Do the PneumoniaMNIST test images without a file show a file after all, turned or cut?

    Each of them is compared by correlation with every test file that has no image either, under
    many crops, mirrored, turned and inverted; ``matched`` images with their own files under the
    same treatment are the control.
    """

    kind = "xray-unmatched"
    recipe = 1

    matched: int = 100
    """Matched test images in the control, at most."""

    def cell(self) -> dict[str, str | int]:
        return {
            "dataset": self.dataset,
            "labels": 0,
            "method": "unmatched images of PneumoniaMNIST",
            "backbone": "",
            "protocol": "tuned",
        }

    def checksums(self) -> dict[str, str]:
        return super().checksums() | {
            # The table of matches names the images of this copy.
            "pneumoniamnist": pneumonia_mnist.MERGED,
            "matches": pneumonia_mnist.MATCHES_MD5,
        }

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        table = pneumonia_mnist.matches().query("split == 'test'")
        small, full = data.load("pneumonia").test, data.chest(self.dataset)
        place = {file: i for i, file in enumerate(full.test_files)}
        known, unknown = table[table["confident"] == 1], table[table["confident"] == 0]
        pairs = known.head(self.matched)
        if gone := [file for file in known["kermany_file"] if file not in place]:
            raise UserError(
                f"chest_xray has no {gone[0]}, which PneumoniaMNIST was made from: leave the "
                "comparison out with the parameter unmatched=false."
            )
        own = [place[file] for file in pairs["kermany_file"]]
        used = set(known["kermany_file"])
        left = [i for file, i in place.items() if file not in used]
        positions = unknown["index_in_merged_npz"].to_numpy().copy()
        control = correlations(
            small.images[pairs["index_in_merged_npz"].to_numpy().copy()], full.test.images[own]
        ).diag()
        found = correlations(small.images[positions], full.test.images[left])
        best = found.max(dim=1)
        labels = small.labels[positions]
        return Outcome(
            {
                "unmatched_images": float(len(unknown)),
                "unmatched_normal": float((labels == 0).sum()),
                "unmatched_files": float(len(left)),
                "control_lowest": control.min().item(),
                "control_median": control.median().item(),
                "unmatched_highest": best.values.max().item(),
                "unmatched_median": best.values.median().item(),
            },
            predictions={
                "image": positions.astype(np.int32),
                "file": np.array(left, dtype=np.int32)[best.indices.numpy()],
                "files": np.array(left, dtype=np.int32),
                "correlation": best.values.numpy().astype(np.float16),
            },
        )


def correlations(images: Tensor, files: Tensor) -> Tensor:
    """Highest correlation [N, M] of every image uint8 [N, 1, 28, 28] with every file uint8
    [M, 1, H, W], over centred cuts of half to all of its height or width, mirrored, turned by a
    quarter, and inverted."""
    target = _standard(images)
    best = torch.full((len(images), len(files)), -1.0)
    side = files.shape[-1]
    for share in torch.arange(0.5, 1.01, 0.04).tolist():
        size = round(side * share)
        at = (side - size) // 2
        for cut in (files[:, :, at : at + size], files[..., at : at + size]):
            shrunk = F.interpolate(cut.float(), size=images.shape[-2:], mode="area")
            for view in (
                shrunk,
                shrunk.flip(3),
                shrunk.flip(2),
                shrunk.rot90(1, (2, 3)),
                shrunk.rot90(3, (2, 3)),
                255 - shrunk,
            ):
                best = torch.maximum(best, target @ _standard(view).T)
    return best


def _standard(images: Tensor) -> Tensor:
    pixels = images.flatten(1).float()
    centred = pixels - pixels.mean(dim=1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-6)


def weights_checksum(source: Pretrained) -> dict[str, str]:
    """The weights a run reads, by a name that captions can show."""
    return {f"weights {source.weights} of {source.architecture}": source.checksum}


def _count(network: nn.Module) -> dict[str, int]:
    parameters = list(network.parameters())
    return {
        "total": sum(p.numel() for p in parameters),
        "trained": sum(p.numel() for p in parameters if p.requires_grad),
    }
