"""Runs of chapter 5: self-supervised pretraining, and classifiers on what it has learned.

Protocol ``report`` repeats the source: Lightly's examples for the pretraining, and over the
backbone two linear layers (2,048 wide) trained with SGD at 0.01 and a cosine over the epochs;
images as they come, in 0..1; classes weighted by one minus their share; the last epoch scored.
Protocol ``reduced`` is the same procedure with fewer epochs and narrower transformers, for two CPU
cores (`fewlabels.learn.pretext.methods.NARROW`, `fewlabels.chapters.grid`).
Protocol ``tuned`` is ours: networks for small images, standardised channels, augmented labelled
images. Protocol ``transfer`` starts from ImageNet (`fewlabels.kinds.transfer`).

Deviations of ``report`` from the source: its momentum starts anew whenever the supervised rate is
halved, here it is carried on; PIL rounds views to whole grey levels, here they stay fractions.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels import config, data
from fewlabels.data import Split, bccd, duplicates
from fewlabels.errors import UserError
from fewlabels.kinds.measured import placed, size, sizes
from fewlabels.learn.pretext.mae import MAE, repainted
from fewlabels.learn.pretext.methods import METHODS, backbone_name
from fewlabels.learn.training import Course, fit
from fewlabels.nets.backbones import NAMES, backbone
from fewlabels.runs.records import ADDED, Experiment, Outcome, Store

PROTOCOLS = ("report", "reduced", "tuned")
SUBSETS = ("all", "balanced", "unbalanced")
EXTRAS = ("", "bccd")
LONG_TAIL = (0.67, 0.11, 0.11, 0.05, 0.03, 0.015, 0.015)
"""Shares of DermaMNIST's classes, the largest first, rounded."""
PAINTED = 5


@dataclass(frozen=True)
class Task:
    """A data set on the device, uint8, with what the training split says of its channels."""

    train: Split
    valid: Split
    test: Split
    classes: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @property
    def size(self) -> int:
        return self.train.images.shape[-1]

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]


@lru_cache(maxsize=4)
def task(dataset: str, images: int, device: torch.device) -> Task:
    """The data set with its first ``images`` training images, at most (0: all of them).

    Raises UserError where these lack a class.
    """
    whole = data.coloured(dataset)
    if whole.valid is None:
        raise UserError(f"{dataset} has no validation split: choose a MedMNIST set, or cells")
    train = whole.train.take(torch.arange(len(whole.train.labels))[: images or None])
    if lacking := {*range(len(whole.classes))} - {*train.labels.tolist()}:
        first = max(whole.train.labels.tolist().index(k) for k in range(len(whole.classes)))
        raise UserError(
            f"images is {images}, and the first {len(train.labels)} of {dataset} show no "
            f"{whole.classes[min(lacking)]}; allowed: {first + 1} or more, or 0 for all"
        )
    mean, deviation = data.channel_statistics(train.images)
    return Task(
        train.to(device),
        whole.valid.to(device),
        whole.test.to(device),
        len(whole.classes),
        tuple(mean.tolist()),
        tuple(deviation.tolist()),
    )


@lru_cache(maxsize=4)
def new_images(dataset: str) -> np.ndarray:
    """Which test images show nothing of the training split: bool [N].

    Those are left out that equal a training image in every pixel, or show a lesion that is shown in
    training as well, where lesions are known.
    """
    whole = data.load(dataset)
    new = np.ones(len(whole.test.labels), dtype=bool)
    twins = duplicates.exact({"train": whole.train.images, "test": whole.test.images})
    across = twins[(twins["split"] == "train") & (twins["other_split"] == "test")]
    new[across["other_index"].to_numpy(dtype=int)] = False
    if lesions := data.lesions(dataset):
        new &= ~np.isin(lesions["test"], lesions["train"])
    return new


def on_new_images(dataset: str, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy and mean class accuracy (0..1) on the test images of :func:`new_images` alone.

    predicted: classes [N] of all test images. Computed when a record is read: the table of lesions
    decides it, which is no part of a run's identity. Empty where every test image is new.

    Convention: only classes with a new image are averaged over.
    """
    new = new_images(dataset)
    if new.all():
        return {}
    truth = data.load(dataset).test.labels.numpy()[new]
    right = predicted[new] == truth
    recalls = [right[truth == k].mean() for k in np.unique(truth)]
    return {"accuracy_new": float(right.mean()), "mean_class_accuracy_new": float(np.mean(recalls))}


@dataclass(frozen=True)
class DuplicateSearch(Experiment, kind="duplicates", recipe=1):
    """Images that occur twice in a data set, over all three splits."""

    limit: float = 8.0
    """Root mean square difference, in grey levels, up to which two images are nearly the same."""

    def cell(self) -> dict[str, str | int]:
        return self.row("", "search for duplicates", "", "")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        whole = data.load(self.dataset)
        splits = {"train": whole.train, "valid": whole.valid, "test": whole.test}
        found = duplicates.near({name: part.images for name, part in splits.items()}, self.limit)
        labels = {name: part.labels.numpy() for name, part in splits.items()}
        agree = [
            labels[one][i] == labels[other][j]
            for one, i, other, j in found[duplicates.COLUMNS[:4]].itertuples(index=False)
        ]
        names = list(splits)
        metrics = {"exact": float((found["distance"] == 0).sum()), "near": float(len(found))}
        for k, one in enumerate(names):
            for other in names[k:]:
                here = (found["split"] == one) & (found["other_split"] == other)
                metrics[f"near_{one}_{other}"] = float(here.sum())
                metrics[f"exact_{one}_{other}"] = float((here & (found["distance"] == 0)).sum())
        pairs = found[["index", "other_index"]].to_numpy(dtype=np.int32)
        codes = np.array(
            [
                [names.index(a), names.index(b)]
                for a, b in zip(found["split"], found["other_split"], strict=True)
            ]
        )
        return Outcome(
            metrics,
            predictions={
                "pairs": np.concatenate([codes.reshape(-1, 2), pairs], axis=1).astype(np.int32),
                "distances": found["distance"].to_numpy(dtype=np.float16),
                "same_class": np.array(agree, dtype=np.uint8),
            },
        )


@dataclass(frozen=True)
class Pretraining(Experiment, kind="pretraining", recipe=1):
    """Train a backbone on a pretext task, without labels. The weights are the backbone's."""

    protocol: str
    method: str
    network: str
    seed: int
    course: Course
    blur: bool = False
    """Blur the views of the methods that compare views."""
    extra: str = ""
    """``bccd`` adds blood cells of another source."""
    subset: str = "all"
    """Of the training images: ``all``, or 3,200 of them (fewer in small sets), ``balanced`` over
    the classes or ``unbalanced`` with the shares of ``LONG_TAIL``."""
    images: int = 0
    """At most this many training images, the first ones; 0 takes all."""
    tiny: bool = False
    """A small network of the same kind, for tests."""
    variant: str = field(default="", metadata=ADDED)
    """What tables call a course that is not the protocol's own."""

    def __post_init__(self):
        config.one_of("protocol", self.protocol, PROTOCOLS)
        config.one_of("method", self.method, METHODS)
        config.one_of("network", self.network, NAMES)
        config.one_of("extra", self.extra, EXTRAS)
        config.one_of("subset", self.subset, SUBSETS)
        config.whole("seed", self.seed, 0)
        config.whole("images", self.images, 0)

    def cell(self) -> dict[str, str | int]:
        return self.row("", f"pretraining of {self.name}", "scratch", self.protocol)

    @property
    def name(self) -> str:
        """What tables call the method with its variant."""
        if not self.course.epochs:
            return f"random {self.network}"
        own = backbone_name(self.method, self.protocol)
        usual = METHODS[self.method].COURSES["tuned" if self.protocol == "tuned" else "report"]
        momentum = self.course.momentum
        variant = [
            "" if self.network == own else self.network,
            "" if momentum == usual.momentum else f"momentum {momentum:g}",
            "blur" if self.blur else "",
            "extra cells" if self.extra else "",
            f"{self.subset} images" if self.subset != "all" else "",
            self.variant,
        ]
        return ", ".join([self.method, *filter(None, variant)])

    def checksums(self) -> dict[str, str]:
        more = {"bccd_cells": bccd.md5()} if self.extra else {}
        return super().checksums() | more

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        round_products(fabric)
        torch.manual_seed(self.seed)
        seen = task(self.dataset, self.images, fabric.device)
        images = self._images(seen)
        recipe = self.course.recipe(len(images))
        network = placed(self.build(seen.size, seen.channels, len(images)), fabric)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            # Views and loss stay outside the wrapped module, and so outside autocast.
            return network.loss(*module(*network.views(images[index])))

        forget_peak(fabric)
        curves = fit(network, loss, len(images), recipe, fabric, label=str(self), captured=True)
        return Outcome(
            metrics=peak(fabric) | _last_loss(curves),
            curves=curves,
            predictions=_paintings(network, seen) if self.method == "mae" else {},
            parameters=sizes(network) | {"backbone": size(network.backbone)},
            weights=network.backbone.state_dict(),
        )

    def build(self, size: int, channels: int, count: int) -> nn.Module:
        """The method's network with new weights, for ``count`` images of ``size`` pixels."""
        trunk = backbone(self.network, size, channels, self.tiny)
        recipe = self.course.recipe(count)
        procedure = "report" if self.protocol == "reduced" else self.protocol
        return METHODS[self.method].build(procedure, trunk, size, recipe, self.blur)

    def _images(self, seen: Task) -> Tensor:
        images = seen.train.images
        if self.subset != "all":
            images = images[subset(seen.train.labels, self.subset, self.seed)]
        if self.extra:
            images = torch.cat([images, bccd.images().to(images.device)])
        return images


def subset(labels: Tensor, kind: str, seed: int, count: int = 3200) -> Tensor:
    """Positions of ``count`` images, the same number of every class or with a long tail.

    Where the set is too small for that, of as many as it allows; both kinds then have nearly the
    same number. Which class gets which share of the tail depends on the seed, the largest share
    going to a class that has so many images.

    Args:
        labels: int64 [N].
        kind: ``balanced`` or ``unbalanced``.
    """
    generator = torch.Generator().manual_seed(seed)
    have = labels.bincount().cpu()
    shares = torch.tensor(LONG_TAIL[: len(have)])
    shares = torch.cat([shares, shares[-1:].repeat(len(have) - len(shares))])
    shares = shares / shares.sum()
    count = min(count, int(len(have) * have.min()), int(have.max() / shares[0]))
    if kind == "balanced":
        wanted = torch.full((len(have),), count // len(have))
    else:
        large = (have >= (shares[0] * count).long()).nonzero().squeeze(1)
        first = large[torch.randint(len(large), (1,), generator=generator)]
        rest = torch.randperm(len(have), generator=generator)
        order = torch.cat([first, rest[rest != first]])
        wanted = torch.empty(len(have), dtype=torch.long)
        wanted[order] = (shares * count).round().long().clamp(min=1)
    chosen = []
    for cls, number in enumerate(wanted.tolist()):
        members = (labels == cls).nonzero().squeeze(1)
        order = torch.randperm(len(members), generator=generator)[:number]
        chosen.append(members[order.to(members.device)])
    return torch.cat(chosen)


def round_products(fabric: Fabric) -> None:
    """On a card, products of 32-bit matrices are rounded as the source lets them be."""
    if fabric.device.type == "cuda":
        torch.set_float32_matmul_precision("medium")


@torch.no_grad()
def _paintings(network: MAE, seen: Task) -> dict[str, np.ndarray]:
    """The first validation images, as the encoder sees them and as the decoder paints them.

    uint8 [n, C, H, W] at the data set's own size. Nothing where pixels are normalised by patch.
    """
    if network.normalise:
        return {}
    network.eval()
    plain = replace(network._view, min_scale=1.0, flip=0.0, vertical_flip=0.0)
    _, kept, hidden = network.views(seen.valid.images[:PAINTED])
    views = plain(seen.valid.images[:PAINTED])
    arrays = {}
    scales = (plain.mean, plain.deviation)
    mean, deviation = (torch.tensor(each).view(1, -1, 1, 1) for each in scales)
    if seen.channels == 1:  # See `views.normalised`.
        mean, deviation = mean.mean(), deviation.mean()
    for name, each in zip(
        ("seen", "painted"), repainted(network, views, kept, hidden), strict=True
    ):
        small = F.interpolate(each.float(), size=seen.size, mode="area").cpu()
        colours = small * deviation + mean
        arrays[name] = colours.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    return arrays


def _last_loss(curves: dict[str, list[float]]) -> dict[str, float]:
    return {"train_loss": curves["train_loss"][-1]} if curves["train_loss"] else {}


def forget_peak(fabric: Fabric) -> None:
    if fabric.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(fabric.device)


def peak(fabric: Fabric) -> dict[str, float]:
    """The most memory the run has held on a GPU, in MB."""
    if fabric.device.type != "cuda":
        return {}
    return {"peak_memory_mb": torch.cuda.max_memory_allocated(fabric.device) / 2**20}
