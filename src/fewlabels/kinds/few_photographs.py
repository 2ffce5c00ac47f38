"""Runs of chapter 4: four classes of photographs, a few dozen images of each.

Caltech-101 has no test set. Split ``s`` divides the images 70 to 30 by class at random, and its
number seeds weights and batches as well; every method meets the same splits. A run
scored on validation images never sees the test part: a fifth of the training part is held out.

Deviations from the sheet: its split is over all images at once, not by class; it reads images with
Keras's nearest-neighbour scaling, these are read with antialiased bilinear scaling; its network
is a VGG-16.
"""

import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.fabric import Fabric
from PIL import Image, ImageDraw, ImageOps
from sklearn.datasets import load_sample_image
from sklearn.model_selection import StratifiedShuffleSplit
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels import config
from fewlabels.data import augment, draw_labels, photographs
from fewlabels.data.corners import COVERS, corner_colours, covered
from fewlabels.errors import UserError
from fewlabels.learn import evaluation, features, probes
from fewlabels.learn.features import View
from fewlabels.learn.training import Recipe, fit, predict
from fewlabels.nets.blocks import Concatenated, blocks, mlp
from fewlabels.nets.pretrained import Pretrained, backbone
from fewlabels.nets.recogniser import Recogniser
from fewlabels.nets.sheet_cnn import SheetCNN
from fewlabels.runs.records import Experiment, Outcome, Store

TEST_SHARE = 0.3
VALIDATION_SHARE = 0.2
OVERLAP = TEST_SHARE / (1 - TEST_SHARE)
"""Test images per training image: what intervals over splits of the same images need."""
BATCH = 32
"""Keras's default, which the sheet leaves as it is."""
COPIES = 2
"""Views of every image where an augmentation is random and features are computed once."""

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
READOUTS = ("mlp", "linear probe", "kNN")
FEATURES = ("pooled", "map")
PIXELS = ("own", "unit")


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

    def _cell(self, method: list[str], backbone: str, protocol: str) -> dict[str, str | int]:
        hidden = [] if self.cover == "nothing" else [f"{self.cover} covered"]
        return {
            "dataset": self.dataset,
            "labels": self.labels * len(self.classes) if self.labels else "all",
            "method": ", ".join(method + hidden),
            "backbone": backbone,
            "protocol": protocol
            if self.scored_on == "test"
            else f"{protocol}, scored on validation images",
        }


@dataclass(frozen=True, kw_only=True)
class ScratchClassification(PhotographRun):
    """The sheet's network, trained from its initial weights (sections 1.2 to 1.4)."""

    kind = "scratch"
    recipe = 1

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
        torch.manual_seed(self.split)
        photos = photographs.load(self.dataset, self.classes, self.size)
        pixels = covered(photos.images, self.cover).to(fabric.device).float() / 255
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        truth = photos.labels.to(fabric.device)
        train, score = (each.to(fabric.device) for each in self.positions())
        network = SheetCNN(self.size, len(self.classes), self.filters, dropout=self.dropout)
        network.to(fabric.device, memory_format=torch.channels_last)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            images = AUGMENTATIONS[self.augmentation](pixels[train[index]])
            images = images.contiguous(memory_format=torch.channels_last)
            return F.cross_entropy(module(images), truth[train[index]])

        def evaluate(module: nn.Module) -> dict[str, float]:
            own = predict(module, pixels[train], BATCH)
            return {
                "train_accuracy": _accuracy(own, truth[train]),
                **_validation(predict(module, pixels[score], BATCH), truth[score]),
            }

        choosing = self.scored_on == "validation"
        curves = fit(
            network,
            loss,
            len(train),
            self.training,
            fabric,
            evaluate if choosing else None,
            label=str(self),
        )
        logits = predict(network, pixels[score], BATCH)
        upside_down = predict(network, pixels[score].flip(2), BATCH)
        extra = {
            "train_accuracy": _accuracy(predict(network, pixels[train], BATCH), truth[train]),
            "accuracy_upside_down": _accuracy(upside_down, truth[score]),
        }
        return outcome(logits.softmax(dim=1), truth[score], curves, count(network), extra)


@dataclass(frozen=True, kw_only=True)
class FeatureClassification(PhotographRun):
    """A classifier on the features of a pretrained network that stays as it is (section 1.5)."""

    kind = "features"
    recipe = 1

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
        truth = photographs.load(self.dataset, self.classes, self.size).labels.to(fabric.device)
        train, score = (each.to(fabric.device) for each in self.positions())
        whole = self._features("none", 0, fabric)
        copies = range(len(views(self.augmentation)))
        own = [whole, *(self._features(self.augmentation, copy, fabric) for copy in copies)]
        x = torch.cat([each[train] for each in own])
        y = truth[train].repeat(len(own))
        if self.readout != "mlp":
            return self._probed(x, y, whole[score], truth[score])

        head = mlp(x.shape[1], self.hidden, len(self.classes)).to(fabric.device)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            return F.cross_entropy(module(x[index]), y[index])

        def evaluate(module: nn.Module) -> dict[str, float]:
            return {"train_accuracy": _accuracy(module(x), y)} | _validation(
                module(whole[score]), truth[score]
            )

        choosing = self.scored_on == "validation"
        curves = fit(
            head, loss, len(x), self.training, fabric, evaluate if choosing else None, str(self)
        )
        extra = {"train_accuracy": _accuracy(predict(head, x), y)}
        logits = predict(head, whole[score])
        measured = outcome(logits.softmax(dim=1), truth[score], curves, self._count(head), extra)
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

    def _probed(self, x: Tensor, y: Tensor, scored: Tensor, truth: Tensor) -> Outcome:
        probe = probes.knn if self.readout == "kNN" else probes.linear_probe
        arrays = [each.cpu().numpy() for each in (x, y, scored)]
        probabilities = torch.from_numpy(probe(*arrays, num_classes=len(self.classes)))
        return outcome(probabilities, truth.cpu(), {}, {})

    def _count(self, head: nn.Module) -> dict[str, int]:
        trained = sum(p.numel() for p in head.parameters())
        fixed = sum(
            p.numel() for part in _blocks(self.source, self.pixels) for p in part.parameters()
        )
        return {"total": trained + fixed, "trained": trained}


PLAIN = ("pooled", "own", "nothing", "none")
"""Feature, pixels, cover and augmentation of a run whose MLP is kept."""


def _require_plain(head: FeatureClassification) -> None:
    own = (head.feature, head.pixels, head.cover, head.augmentation)
    if head.readout != "mlp" or own != PLAIN:
        raise UserError("head goes with readout mlp on pooled features of whole, plain images")


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
class FineTuning(Experiment):
    """The pretrained network and a trained MLP as one network, the last blocks trained on.

    Sections 1.6 of the sheet: with no steps, its test "without training again".
    """

    kind = "finetuning"
    recipe = 1
    overlap: ClassVar = OVERLAP

    head: FeatureClassification
    """The MLP that is put on the network; also names the images and the network."""
    blocks: int
    """How many of the last blocks are trained with the head."""
    training: Recipe

    def __post_init__(self):
        config.one_of("dataset", self.dataset, [self.head.dataset])
        config.whole("blocks", self.blocks, 0)
        _require_plain(self.head)

    def checksums(self) -> dict[str, str]:
        return self.head.checksums()

    def needs(self) -> Sequence[Experiment]:
        return (self.head,)

    def cell(self) -> dict[str, str | int]:
        own = self.head.cell()
        blocks = f"{self.blocks} block{'' if self.blocks == 1 else 's'} unfrozen"
        done = f"{blocks} at {self.training.rate:g}" if self.training.steps else "concatenated"
        method = [own["method"], done]
        return own | {"method": ", ".join(method), "backbone": "fine-tuned"}

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.head
        torch.manual_seed(own.split)
        parts_ = own.network()
        if self.blocks > len(parts_):
            raise UserError(f"blocks is {self.blocks}; allowed: 0 to {len(parts_)}")
        # Without training, the whole network from the pixels on: nothing taken from the cache.
        fixed = len(parts_) - self.blocks if self.training.steps else 0
        maps = _kept_maps(own, fixed, fabric.device)
        truth = photographs.load(own.dataset, own.classes, own.size).labels.to(fabric.device)
        train, score = (each.to(fabric.device) for each in own.positions())
        network = Concatenated(parts_[fixed:], own.head(store.weights(own, fabric)))
        network.to(fabric.device, memory_format=torch.channels_last)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            batch = maps[train[index]].contiguous(memory_format=torch.channels_last)
            return F.cross_entropy(module(batch), truth[train[index]])

        def evaluate(module: nn.Module) -> dict[str, float]:
            return _validation(predict(module, maps[score], BATCH), truth[score])

        choosing = own.scored_on == "validation"
        curves = fit(
            network,
            loss,
            len(train),
            self.training,
            fabric,
            evaluate if choosing else None,
            label=str(self),
        )
        logits = predict(network, maps[score], BATCH)
        counts = {
            "total": sum(p.numel() for part in [*parts_, network.head] for p in part.parameters()),
            "trained": sum(p.numel() for p in network.parameters()) if self.training.steps else 0,
        }
        return outcome(logits.softmax(dim=1), truth[score], curves, counts)


@dataclass(frozen=True, kw_only=True)
class CornerColours(PhotographRun):
    """No network at all: the class from the colours in the four corners.

    The features are mean and deviation of every colour in the four parts outside the ellipse that
    touches the image's sides; a linear probe reads them.
    """

    kind = "corners"
    recipe = 1

    def cell(self) -> dict[str, str | int]:
        return self._cell(["colours of the corners, linear probe"], "none", "tuned")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        photos = photographs.load(self.dataset, self.classes, self.size)
        train, score = self.positions()
        found = corner_colours(photos.images).numpy()
        probabilities = probes.linear_probe(
            found[train], photos.labels[train].numpy(), found[score], len(self.classes)
        )
        return outcome(torch.from_numpy(probabilities), photos.labels[score], {}, {})


@dataclass(frozen=True)
class Recognition(Experiment):
    """Photographs the network never saw, as files of many kinds (section 1.7).

    The test photographs are written to files and read back by the `Recogniser` that
    ``fewlabels classify`` uses; so are two photographs that show none of the classes.
    """

    kind = "recognition"
    recipe = 1
    overlap: ClassVar = OVERLAP

    head: FeatureClassification

    def __post_init__(self):
        config.one_of("dataset", self.dataset, [self.head.dataset])
        _require_plain(self.head)

    def checksums(self) -> dict[str, str]:
        return self.head.checksums()

    def needs(self) -> Sequence[Experiment]:
        return (self.head,)

    def cell(self) -> dict[str, str | int]:
        own = self.head.cell()
        return own | {"method": f"{own['method']}, image files"}

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.head
        recogniser = recogniser_of(own, fabric, store)
        everyone = photographs.decoded(own.dataset, own.classes)
        _, score = own.positions()
        metrics, kept = {}, {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            for kind, write in FILES.items():
                found = []
                for position in score.tolist():
                    _, label, picture = everyone[position]
                    answer = recogniser(write(picture.image, path))
                    found.append((answer.ranking[0][0] == own.classes[label], answer.ranking[0][1]))
                right, confidence = np.array(found, dtype=float).T
                metrics[f"accuracy, {kind}"] = float(right.mean())
                metrics[f"confidence, {kind}"] = float(confidence.mean())
                kept[f"right, {kind}"] = right.astype(np.uint8)
                kept[f"confidence, {kind}"] = confidence.astype(np.float16)
            for name in STRANGERS:
                shown = Image.fromarray(load_sample_image(name))
                answer = recogniser(_saved(shown, path / name))
                found = dict(answer.ranking)
                kept[f"probabilities, {name}"] = np.array(
                    [found[each] for each in own.classes], dtype=np.float16
                )
        return Outcome(metrics, predictions=kept)


def recogniser_of(head: FeatureClassification, fabric: Fabric, store: Store) -> Recogniser:
    """The network and the trained MLP as one, for image files; trained first if need be."""
    network = Concatenated(head.network(), head.head(store.weights(head, fabric)))
    network.to(fabric.device, memory_format=torch.channels_last)
    return Recogniser(network, head.classes, head.size, fabric.device)


def _saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def _sideways(image: Image.Image, path: Path, noted: bool) -> Path:
    exif = Image.Exif()
    if noted:
        exif[0x0112] = 6  # "turn me a quarter clockwise"
    turned = image.transpose(Image.Transpose.ROTATE_90)
    return _saved(turned, path / "x.jpg", quality=95, exif=exif)


def _cut_out(image: Image.Image, path: Path) -> Path:
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).ellipse([0, 0, *image.size], fill=255)
    image = image.copy()
    image.putalpha(mask)
    return _saved(image, path / "x.png")


STRANGERS = ("china.jpg", "flower.jpg")
"""Photographs that come with scikit-learn: a temple and a flower."""
FILES: dict[str, Callable[[Image.Image, Path], Path]] = {
    "as it is": lambda image, path: _saved(image, path / "x.png"),
    "grey": lambda image, path: _saved(image.convert("L"), path / "x.png"),
    "sideways, noted in the file": lambda image, path: _sideways(image, path, noted=True),
    "sideways, not noted": lambda image, path: _sideways(image, path, noted=False),
    "upside down": lambda image, path: _saved(ImageOps.flip(image), path / "x.png"),
    "mirrored": lambda image, path: _saved(ImageOps.mirror(image), path / "x.png"),
    "JPEG of quality 10": lambda image, path: _saved(image, path / "x.jpg", quality=10),
    "64 pixels wide": lambda image, path: _saved(
        image.resize((64, max(16, 64 * image.height // image.width))), path / "x.png"
    ),
    "corners transparent": _cut_out,
}
"""How a test photograph is written to a file before it is recognised."""


def outcome(
    probabilities: Tensor,
    truth: Tensor,
    curves: dict[str, list[float]],
    parameters: dict[str, int],
    extra: dict[str, float] | None = None,
) -> Outcome:
    """All metrics of the scored images, and the classes predicted for them."""
    p = probabilities.detach().cpu().numpy()
    return Outcome(
        metrics=evaluation.evaluate(p, truth.cpu().numpy()) | (extra or {}),
        curves=curves,
        predictions={"classes": p.argmax(axis=1).astype(np.uint8)},
        parameters=parameters,
    )


def count(network: nn.Module) -> dict[str, int]:
    """All of the parameters are trained."""
    number = sum(p.numel() for p in network.parameters())
    return {"total": number, "trained": number}


def _validation(logits: Tensor, truth: Tensor) -> dict[str, float]:
    return {
        "valid_loss": F.cross_entropy(logits, truth).item(),
        "valid_accuracy": _accuracy(logits, truth),
    }


def _accuracy(logits: Tensor, truth: Tensor) -> float:
    return (logits.argmax(dim=1) == truth).float().mean().item()
