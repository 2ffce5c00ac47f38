"""Runs of chapter 5 that name classes; see `fewlabels.kinds.ssl`."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels import config, data
from fewlabels.data import Split
from fewlabels.data.views import View, normalised
from fewlabels.errors import UserError
from fewlabels.kinds.measured import accuracy, placed, probed, scored_protocol, size, sizes
from fewlabels.kinds.ssl import (
    PROTOCOLS,
    Pretraining,
    Task,
    forget_peak,
    peak,
    round_products,
    task,
)
from fewlabels.kinds.transfer import TransferStart
from fewlabels.learn import evaluation
from fewlabels.learn.pretext import rotation
from fewlabels.learn.training import Course, NonFiniteLoss, fit, predict
from fewlabels.nets.backbones import NAMES, backbone
from fewlabels.nets.frozen import Frozen
from fewlabels.runs.records import ADDED, Experiment, Outcome, Store

BACKBONES = ("scratch", "frozen", "fine-tuned")
PROBES = ("linear probe", "kNN")
LARGE = ("large head", "standardised large head")
"""Readouts of all positions of AIM, see `fewlabels.nets.vit.LargeHead`."""
READOUTS = ("head", *PROBES, *LARGE)
HEAD_WIDTH = 2048
KEPT_FEATURES = 4
_FEATURES: dict[tuple, dict[str, Tensor]] = {}
"""Features of all splits by backbone, in this process."""


@dataclass(frozen=True)
class Classification(Experiment, kind="classes", recipe=1):
    """Name the classes, given the labels of a fraction of the training images.

    The draw of the labels, the initial weights of the head and the order of the batches all follow
    from ``draw``, and the pretraining of the same number stands behind it: every method meets the
    same draws, so that differences are paired.
    """

    protocol: str
    backbone: str
    """``scratch``, ``frozen`` or ``fine-tuned``."""
    network: str
    fraction: float
    """Of the training images, that have labels."""
    draw: int
    course: Course
    """Also of a head on frozen features; a linear probe and kNN do not use it."""
    pretraining: Pretraining | TransferStart | None = None
    readout: str = "head"
    moving: bool = False
    """Let the batch-norm statistics of a frozen backbone drift while the head is trained."""
    positions: bool = False
    """Features of AIM as in the source: all positions through random weights. Else their mean."""
    augmented: bool = False
    weighted: bool = True
    """Weigh each class by one minus its share."""
    probabilities: bool = False
    """Keep the probabilities of validation and test images, for fusion; else the test classes."""
    scored_on: str = "test"
    """``validation`` leaves the test images alone: every choice of a setting is made so."""
    variant: str = ""
    """What tables call a course that is not the protocol's own."""
    images: int = 0
    tiny: bool = False
    inverse: bool = field(default=False, metadata=ADDED)
    """Weigh each class by the inverse of its share instead."""

    def __post_init__(self):
        given = isinstance(self.pretraining, TransferStart)
        config.one_of("protocol", self.protocol, ("transfer",) if given else PROTOCOLS)
        config.one_of("backbone", self.backbone, BACKBONES)
        config.one_of("network", self.network, NAMES)
        config.one_of("readout", self.readout, READOUTS)
        config.one_of("scored_on", self.scored_on, ("validation", "test"))
        config.whole("draw", self.draw, 0)
        config.positive("fraction", self.fraction)
        if (self.backbone == "scratch") != (self.pretraining is None):
            raise UserError("backbone is scratch without pretraining, else frozen or fine-tuned")
        if self.backbone != "frozen" and (self.moving or self.readout != "head"):
            raise UserError("moving statistics, probes and a large head go with a frozen backbone")
        if (self.positions or self.large) and not self.network.startswith("aim"):
            raise UserError("positions and a large head go with the network aim")
        if self.large and (self.positions or self.moving or self.augmented):
            raise UserError("a large head goes without positions, moving and augmented")
        if self.pretraining is not None:
            for key in ("dataset", "network", "images", "tiny", "protocol"):
                wanted = [getattr(self.pretraining, key)]
                config.one_of(f"{key} (the pretraining's)", getattr(self, key), wanted)

    @property
    def large(self) -> bool:
        """Whether all positions of AIM go straight into a head."""
        return self.readout in LARGE

    @property
    def name(self) -> str:
        """What tables call the method with its variant."""
        start = self.pretraining
        whole = self.positions or self.large
        aim = self.network in ("aim", "aim-narrow") and not whole
        pooled = aim and (start is None or bool(start.course.epochs))
        variant = [
            "mean of positions" if pooled else "",
            "moving statistics" if self.moving else "",
            "" if self.readout == "head" else self.readout,
        ]
        if self.scored_on == "validation":
            # Candidates for one cell of ``tuned``: what tells them apart names them.
            variant += [f"rate {self.course.rate:g}", "augmented" if self.augmented else ""]
        method = "supervised" if start is None else start.name
        return ", ".join([method, *filter(None, [*variant, self.variant])])

    def cell(self) -> dict[str, str | int]:
        protocol = scored_protocol(self.protocol, self.scored_on)
        return self.row(f"{100 * self.fraction:g}%", self.name, self.backbone, protocol)

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        round_products(fabric)
        torch.manual_seed(self.draw)
        seen = task(self.dataset, self.images, fabric.device)
        drawn = data.draw_fraction(seen.train.labels, self.fraction, self.draw)
        trunk = self._backbone(seen, fabric, store)
        forget_peak(fabric)
        if self.backbone == "frozen" and not self.moving and not self.augmented:
            scores, curves, counts = self._on_features(trunk, seen, drawn, fabric)
        else:
            scores, curves, counts = self._on_images(trunk, seen, drawn, fabric)
        return self._outcome(scores, seen, curves, counts | {"backbone": size(trunk)}, fabric)

    def _backbone(self, seen: Task, fabric: Fabric, store: Store) -> nn.Module:
        trunk = backbone(self.network, seen.size, seen.channels, self.tiny)
        if self.pretraining is not None:
            trunk.load_state_dict(store.weights(self.pretraining, fabric))
        if self.positions:
            from fewlabels.nets.vit import RandomReadout

            trunk = RandomReadout(trunk)
        if self.large:
            from fewlabels.nets.vit import EveryPosition

            trunk = EveryPosition(trunk)
        return placed(trunk, fabric)

    def prepare(self, seen: Task, images: Tensor, side: int | None) -> Tensor:
        """uint8 images as the classifier sees them: in 0..1, standardised in ``tuned``, normalised
        as the weights expect in ``transfer``.

        Enlarged to ``side`` where the backbone takes images of that size only.
        """
        images = images.float() / 255
        if self.protocol == "tuned":
            images = normalised(images, seen.mean, seen.deviation)
        if self.protocol == "transfer":
            images = normalised(images, *self.pretraining.source.statistics)
        if side in (None, images.shape[-1]):
            return images
        return F.interpolate(images, size=side, mode="bilinear", align_corners=False)

    def _on_features(self, trunk: nn.Module, seen: Task, drawn: Tensor, fabric: Fabric):
        """A frozen backbone's features of an image never change: each is computed once."""
        features = self._features(trunk.eval(), seen)
        own, classes = features["train"][drawn], seen.train.labels[drawn]
        if self.readout in PROBES:
            # The part that is scored alone.
            part = self._scored()[-1]
            scores = {part: probed(self.readout, own, classes, features[part], seen.classes)}
            return scores, {}, {"total": size(trunk), "trained": 0}
        head = self._head(trunk, seen.classes).to(fabric.device)
        labelled = Split(own, classes)
        held = Split(features["valid"], seen.valid.labels)
        curves = self._fit(head, labelled, held, seen.classes, lambda x: x, lambda x: x, fabric)
        batch = 256 if self.large else 4096  # 49,000 numbers an image, or 512.
        scores = {p: predict(head, features[p], batch).softmax(dim=1) for p in self._scored()}
        counts = sizes(head)
        return scores, curves, counts | {"total": size(trunk) + counts["total"]}

    def _features(self, trunk: nn.Module, seen: Task) -> dict[str, Tensor]:
        # The random readout of positions is drawn anew in every run.
        drawn = self.draw if self.positions else None
        key = (self.pretraining.id, drawn, self.large, self.scored_on)
        if key not in _FEATURES:
            if len(_FEATURES) == KEPT_FEATURES:
                _FEATURES.pop(next(iter(_FEATURES)))
            _FEATURES[key] = {
                part: predict(
                    lambda images: trunk(self.prepare(seen, images, trunk.size)),
                    getattr(seen, part).images,
                )
                for part in ("train", *self._scored())
            }
            if not all(each.isfinite().all() for each in _FEATURES[key].values()):
                _FEATURES.pop(key)
                raise NonFiniteLoss(f"features are nan or inf ({self.pretraining}): it diverged")
        return _FEATURES[key]

    def _scored(self) -> tuple[str, ...]:
        return ("valid", "test") if self.scored_on == "test" else ("valid",)

    def _head(self, trunk: nn.Module, classes: int) -> nn.Module:
        if self.backbone == "scratch" or self.protocol == "tuned":
            return nn.Linear(trunk.features, classes)
        if self.large:
            from fewlabels.nets.vit import LargeHead

            shape = {"outputs": 10, "hidden": 32} if self.tiny else {}
            own = trunk.backbone
            scaled = self.readout.startswith("standardised")
            return LargeHead(own.patches, own.features, classes, scaled, **shape)
        width = 32 if self.tiny else HEAD_WIDTH
        return nn.Sequential(nn.Linear(trunk.features, width), nn.ReLU(), nn.Linear(width, classes))

    def _on_images(self, trunk: nn.Module, seen: Task, drawn: Tensor, fabric: Fabric):
        head = self._head(trunk, seen.classes)
        if self.backbone == "frozen":
            network = Frozen(trunk, head, self.moving)
        else:
            network = nn.Sequential(trunk, head)
        network = placed(network, fabric)
        view = View(
            trunk.size or seen.size,
            min_scale=0.5,
            vertical_flip=0.5,
            mean=seen.mean,
            deviation=seen.deviation,
        )

        def plain(images: Tensor) -> Tensor:
            return self.prepare(seen, images, trunk.size)

        def moved(images: Tensor) -> Tensor:
            # Cells and lesions have no way up: crops, mirror images and quarter turns.
            return rotation.one_turn(view(images))[0]

        shown = moved if self.augmented else plain
        labelled = seen.train.take(drawn)
        curves = self._fit(network, labelled, seen.valid, seen.classes, shown, plain, fabric)
        scores = {
            part: predict(lambda x: network(plain(x)), getattr(seen, part).images).softmax(dim=1)
            for part in self._scored()
        }
        counts = sizes(network)
        return scores, curves, counts

    def _fit(
        self,
        network: nn.Module,
        labelled: Split,
        held: Split,
        classes: int,
        shown: Callable[[Tensor], Tensor],
        plain: Callable[[Tensor], Tensor],
        fabric: Fabric,
    ):
        """Train on ``shown(images)``; the curves are of the held-out images, ``plain``."""
        weight = None
        if self.weighted:
            share = labelled.labels.bincount(minlength=classes) / len(labelled.labels)
            # A class without a label has no say in the loss, whatever its weight.
            weight = 1 / share.clamp(min=1e-6) if self.inverse else 1 - share

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            logits = module(shown(labelled.images[index]))
            return F.cross_entropy(logits, labelled.labels[index], weight=weight)

        def evaluate(module: nn.Module) -> dict[str, float]:
            logits = predict(lambda x: module(plain(x)), held.images)
            return {
                "valid_loss": F.cross_entropy(logits, held.labels, weight=weight).item(),
                "valid_accuracy": accuracy(logits, held.labels),
            }

        recipe = self.course.recipe(len(labelled.labels))
        count = len(labelled.labels)
        return fit(network, loss, count, recipe, fabric, evaluate, str(self), captured=True)

    def _outcome(
        self, scores: dict[str, Tensor], seen: Task, curves, counts: dict[str, int], fabric: Fabric
    ) -> Outcome:
        arrays = {part: scores[part].cpu().numpy() for part in scores}
        scored = arrays["test" if self.scored_on == "test" else "valid"]
        truth = (seen.test if self.scored_on == "test" else seen.valid).labels.cpu().numpy()
        metrics = evaluation.evaluate(scored, truth)
        for k in range(seen.classes):
            right = scored[truth == k].argmax(axis=1) == k
            metrics[f"recall_class_{k}"] = float(right.mean()) if len(right) else float("nan")
        if self.probabilities:
            predictions = {part: array.astype(np.float16) for part, array in arrays.items()}
        else:
            predictions = {"classes": scored.argmax(axis=1).astype(np.uint8)}
        return Outcome(metrics | peak(fabric), curves, predictions, counts)
