"""Runs of chapter 1: rotation pretraining, and digit classification with few labels.

Protocol ``report`` repeats the RotNet report: images binarised at the training mean, its two
networks, Adam at 0.01, four fifths of the labels for training and one fifth for validation, last
epoch kept. Protocol ``tuned`` is ours: standardised grey images, a small network with batch norm,
augmentation, and every label in training. For the pretext task there is also ``centred``: as
``tuned``, but with every image left in its place (see :class:`RotationPretraining`).

Deviations from the report: the learning curve of the rotation task is drawn on the first
``CURVE_IMAGES`` validation images instead of all 48,000, and its training loss is the mean over
training steps instead of a second pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from lightning.fabric import Fabric
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels import config, data
from fewlabels.data import Split
from fewlabels.data.augment import affine, quarter_turns, shifted
from fewlabels.errors import UserError
from fewlabels.learn import evaluation, probes
from fewlabels.learn.pretext import fixmatch, rotation
from fewlabels.learn.training import Recipe, fit, predict
from fewlabels.nets.compact import CompactNet
from fewlabels.nets.frozen import Frozen
from fewlabels.nets.joint import JointNet
from fewlabels.nets.report_rotnet import PlainCNN, RotNet
from fewlabels.runs.records import ADDED, Experiment, Outcome, Store

PROTOCOLS = ("report", "tuned")
PRETEXT_PROTOCOLS = ("report", "tuned", "centred")
METHODS = ("cnn", "rotnet", "s4l", "fixmatch")
BACKBONES = ("scratch", "frozen", "fine-tuned")
READOUTS = ("head", "linear probe", "kNN")
ARCHITECTURES = {"six convolutions": RotNet, "two convolutions": PlainCNN}
"""The report's two networks: it pretrains the first, and trains the second from scratch."""
CROSSED = "architectures crossed"
"""What tables call the protocol of runs that name their architecture: ``report`` in all else."""
CURVE_IMAGES = 2000
LABELLED_BATCH = 64
CONFIDENCE = 0.95
"""FixMatch's threshold for a pseudo-label."""
SHARE_RATE = 0.01
"""How fast the running share of predicted classes follows a batch."""
KEPT_FEATURES = 4
_FEATURES: dict[str, Tensor] = {}
"""Features of the scored images by the id of the pretraining, in this process."""


def binarised(images: Tensor, mean: float) -> Tensor:
    """The report's cleaning: 1 where a pixel is brighter than the training mean, else 0.

    Args:
        images: uint8 [N, 1, H, W].
        mean: mean of the training images, in 0..255.
    """
    return (images > mean).float()


def standardised(images: Tensor, mean: float, deviation: float) -> Tensor:
    """uint8 [N, 1, H, W] to float with zero mean and unit deviation over the training images."""
    return (images.float() - mean) / deviation


@dataclass(frozen=True)
class Task:
    """What a run may see: prepared training images, and the images it is scored on."""

    train: Split
    score: Split
    black: float
    """Value of the background after preparation: augmentation fills with it."""


@lru_cache(maxsize=4)
def task(dataset: str, protocol: str, scored_on: str, device: torch.device) -> Task:
    """Images on the device, prepared as the protocol says; see `fewlabels.data.parts`.

    Every choice of a setting is made with ``scored_on="validation"``.
    """
    train, score = data.parts(dataset, scored_on)
    pixels = train.images.float()
    mean, deviation = pixels.mean().item(), pixels.std().item()

    def prepare(split: Split) -> Split:
        if protocol == "report":
            prepared = binarised(split.images, mean)
        else:
            prepared = standardised(split.images, mean, deviation)
        return Split(prepared, split.labels).to(device)

    black = 0.0 if protocol == "report" else -mean / deviation
    return Task(prepare(train), prepare(score), black)


@dataclass(frozen=True)
class RotationPretraining(Experiment):
    """Learn to name the turn of an image, without labels.

    MNIST's digits are centred by their centre of mass, half a pixel off the middle of 28 x 28
    pixels, so that the place of an image alone gives its turn away. Protocol ``tuned`` moves every
    image by up to two pixels while it learns, which hides that; ``report`` and ``centred`` do not.
    """

    kind = "rotation"
    recipe = 1

    protocol: str
    seed: int
    unlabelled: int
    """At most this many training images are shown, the first ones."""
    training: Recipe
    scored_on: str = "test"
    architecture: str = field(default="", metadata=ADDED)
    """A key of ``ARCHITECTURES``, in protocol ``report``; empty: the protocol's own network."""

    def __post_init__(self):
        config.one_of("protocol", self.protocol, PRETEXT_PROTOCOLS)
        _known(self.architecture, self.protocol)
        config.one_of("scored_on", self.scored_on, ("validation", "test"))
        config.whole("seed", self.seed, 0)
        config.whole("unlabelled", self.unlabelled, 10)

    def cell(self) -> dict[str, str | int]:
        method = "rotation prediction" if self.training.steps else "random"
        return {
            "dataset": self.dataset,
            "labels": 0,
            "method": ", ".join(filter(None, [method, self.architecture])),
            "backbone": "scratch",
            "protocol": _protocol(CROSSED if self.architecture else self.protocol, self.scored_on),
        }

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.seed)
        seen = task(self.dataset, self.protocol, self.scored_on, fabric.device)
        images = seen.train.images[: self.unlabelled]
        network = placed(backboned(self.protocol, 4, self.architecture), fabric)
        if self.protocol == "report":
            curves = self._fit_report(network, images, fabric)
        else:
            curves = self._fit_tuned(network, images, seen.black, fabric)

        outcome = turns_outcome(network, seen.score.images)
        return replace(
            outcome,
            curves=curves,
            parameters=_count(network),
            weights=network.state_dict(),
        )

    def trained(self, fabric: Fabric, store: Store) -> nn.Module:
        """The network with the weights this run left, in evaluation mode."""
        network = placed(backboned(self.protocol, 4, self.architecture), fabric)
        network.load_state_dict(store.weights(self, fabric))
        return network.eval()

    def _fit_report(self, network: nn.Module, images: Tensor, fabric: Fabric):
        # Position p is turn p % 4 of image p // 4. As in the report the split is over turned
        # images, so turns of one image lie on both sides; only its validation curve depends on it.
        count = 4 * len(images)
        order = torch.randperm(count, device=images.device)
        train, valid = order[: count * 4 // 5], order[count * 4 // 5 :][:CURVE_IMAGES]

        def turned(positions: Tensor) -> tuple[Tensor, Tensor]:
            turns = positions % 4
            return quarter_turns(images[positions // 4], turns), turns

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            views, turns = turned(train[index])
            return rotation.loss(module(views), turns)

        def evaluate(module: nn.Module) -> dict[str, float]:
            views, turns = turned(valid)
            return _validation(predict(module, views), turns)

        return fit(network, loss, len(train), self.training, fabric, evaluate, label=str(self))

    def _fit_tuned(self, network: nn.Module, images: Tensor, black: float, fabric: Fabric):
        # By image, not by view: no turn of a validation image is ever trained on.
        valid = min(CURVE_IMAGES // 4, len(images) // 5)
        train, held = images[valid:], images[:valid]

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            views = train[index]
            if self.protocol == "tuned":
                views = weak_view(views, black)
            views, turns = rotation.one_turn(views)
            return rotation.loss(module(views), turns)

        def evaluate(module: nn.Module) -> dict[str, float]:
            views, turns = rotation.all_turns(held)
            return _validation(predict(module, views), turns)

        return fit(network, loss, len(train), self.training, fabric, evaluate, label=str(self))


@dataclass(frozen=True)
class DigitClassification(Experiment):
    """Name the digits, given ``labels`` labelled images.

    Run ``draw`` uses label draw ``draw``, and the same number seeds the initial weights and the
    order of the batches: all sources of variance move together (Bouthillier et al. 2021), and every
    method meets the same draws, so that differences are paired.
    """

    kind = "digits"
    recipe = 1

    protocol: str
    method: str
    """``cnn``: supervised only. ``rotnet``: from ``pretraining``; where that has no steps the
    tables call it ``random``, the floor that a frozen pretrained backbone has to clear. ``s4l``:
    rotation and digit loss together (Zhai et al. 2019). ``fixmatch``: Sohn et al. 2020."""
    backbone: str
    """``scratch``, ``frozen`` or ``fine-tuned``."""
    labels: int
    draw: int
    training: Recipe
    """Also names the steps and the rate of a head; a linear probe and kNN do not use it."""
    readout: str = "head"
    augmented: bool = False
    """Supervised training on deformed images, see :func:`deformed`."""
    pretraining: RotationPretraining | None = None
    unlabelled: int = 0
    scored_on: str = "test"
    architecture: str = field(default="", metadata=ADDED)
    """A key of ``ARCHITECTURES``, in protocol ``report``; empty: the method's own network."""

    def __post_init__(self):
        config.one_of("protocol", self.protocol, PROTOCOLS)
        _known(self.architecture, self.protocol)
        config.one_of("method", self.method, METHODS)
        config.one_of("backbone", self.backbone, BACKBONES)
        config.one_of("readout", self.readout, READOUTS)
        config.one_of("scored_on", self.scored_on, ("validation", "test"))
        config.whole("draw", self.draw, 0)
        if self.labels < 10 or self.labels % 10:
            raise UserError(f"labels is {self.labels}; allowed: a multiple of the ten classes")
        if (self.pretraining is not None) != (self.method == "rotnet"):
            raise UserError("pretraining goes with the method rotnet, and with no other")
        if (self.backbone == "scratch") != (self.pretraining is None):
            raise UserError("backbone is scratch without pretraining, else frozen or fine-tuned")
        if self.readout != "head" and (self.backbone != "frozen" or self.augmented):
            raise UserError(f"readout {self.readout} goes with a frozen backbone, not augmented")
        if (self.method in ("s4l", "fixmatch")) != (self.unlabelled > 0):
            raise UserError("unlabelled, 1 or more, goes with s4l and fixmatch, and no other")
        if self.unlabelled and self.protocol == "report":
            raise UserError(f"method {self.method} goes with the protocol tuned")
        if self.pretraining is not None:
            protocols = ("report",) if self.protocol == "report" else ("tuned", "centred")
            config.one_of("the pretraining's protocol", self.pretraining.protocol, protocols)
            config.one_of("the pretraining's dataset", self.pretraining.dataset, [self.dataset])
            config.one_of("its scored_on", self.pretraining.scored_on, [self.scored_on])
            config.one_of("its architecture", self.pretraining.architecture, [self.architecture])

    def cell(self) -> dict[str, str | int]:
        method = self.method
        if self.pretraining is not None and not self.pretraining.training.steps:
            method = "random"
        elif self.pretraining is not None and self.pretraining.protocol == "centred":
            method = "rotnet, centred"
        method += "" if self.readout == "head" else f", {self.readout}"
        if self.architecture:
            start = {"cnn": "", "random": ", untrained"}.get(method, ", pretrained")
            method = f"{self.architecture}, rate {self.training.rate:g}{start}"
        if self.protocol == "report":
            method += ", regularised" if self.augmented else ""
        if self.scored_on == "validation":
            # Candidates for one cell of ``tuned``: what tells them apart names them.
            method += f", rate {self.training.rate:g}" if self.readout == "head" else ""
            method += ", augmented" if self.augmented else ""
        return {
            "dataset": self.dataset,
            "labels": self.labels,
            "method": method,
            "backbone": self.backbone,
            "protocol": _protocol(CROSSED if self.architecture else self.protocol, self.scored_on),
        }

    def needs(self) -> Sequence[Experiment]:
        return () if self.pretraining is None else (self.pretraining,)

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        return self.seeded(self.draw, fabric, store)

    def seeded(self, seed: int, fabric: Fabric, store: Store) -> Outcome:
        """The run with its labels, and with this seed for all the rest."""
        torch.manual_seed(seed)
        seen = task(self.dataset, self.protocol, self.scored_on, fabric.device)
        drawn = data.draw_labels(seen.train.labels, self.labels // 10, self.draw)
        labelled = seen.train.take(drawn)
        if self.backbone == "frozen" and not self.augmented:
            return self._on_features(labelled, seen.score, fabric, store)

        network = placed(self._network(fabric, store), fabric)
        if self.protocol == "report":
            curves = self._fit_report(network, labelled, fabric)
        elif self.method == "s4l":
            curves = self._fit_s4l(network, labelled, seen, fabric)
        elif self.method == "fixmatch":
            curves = self._fit_fixmatch(network, labelled, seen, fabric)
        else:
            curves = self._fit_tuned(network, labelled, seen.black, fabric)
        probabilities = predict(network, seen.score.images).softmax(dim=1)
        return self._outcome(probabilities, seen.score.labels, curves, _count(network))

    def _network(self, fabric: Fabric, store: Store) -> nn.Module:
        if self.method == "s4l":
            return JointNet(10, auxiliary=4)
        own = "two convolutions" if self.method == "cnn" else "six convolutions"
        network = backboned(self.protocol, 10, self.architecture or own)
        if self.pretraining is not None:
            network = self._pretrained(network, fabric, store)
        if self.backbone == "frozen":
            return Frozen(network.backbone, network.head)
        return network

    def _pretrained(self, network: nn.Module, fabric: Fabric, store: Store) -> nn.Module:
        """Weights of the rotation task, but for the last layer, which starts anew."""
        weights = store.weights(self.pretraining, fabric)
        last = [name for name in weights if name.startswith("head.")][-2:]
        kept = {name: tensor for name, tensor in weights.items() if name not in last}
        network.load_state_dict(kept, strict=False)
        return network

    def _on_features(self, labelled: Split, score: Split, fabric: Fabric, store: Store) -> Outcome:
        """A frozen backbone's features of an image never change: each is computed once."""
        network = placed(self._network(fabric, store), fabric)
        backbone, head = network.backbone, network.head
        scored = self._scored_features(backbone, score.images)
        own = predict(backbone, labelled.images)
        if self.readout == "head":
            curves = self._fit_report(head, Split(own, labelled.labels), fabric)
            probabilities = predict(head, scored).softmax(dim=1)
            return self._outcome(probabilities, score.labels, curves, _count(network))
        probe = probes.knn if self.readout == "kNN" else probes.linear_probe
        arrays = [tensor.cpu().numpy() for tensor in (own, labelled.labels, scored)]
        probabilities = torch.from_numpy(probe(*arrays, num_classes=10))
        return self._outcome(probabilities, score.labels, {}, {"total": _count(backbone)["total"]})

    def _scored_features(self, backbone: nn.Module, images: Tensor) -> Tensor:
        """Features of the scored images, kept for the next runs on the same pretraining."""
        if self.pretraining.id not in _FEATURES:
            if len(_FEATURES) == KEPT_FEATURES:
                _FEATURES.popitem()
            _FEATURES[self.pretraining.id] = predict(backbone, images)
        return _FEATURES[self.pretraining.id]

    def _fit_report(self, network: nn.Module, labelled: Split, fabric: Fabric):
        # Stratified as in the report: two of a class's ten labels validate.
        kept, out = data.hold_out(labelled.labels, max(1, self.labels // 50), seed=self.draw)
        train, valid = labelled.take(kept), labelled.take(out)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            images = train.images[index]
            if self.augmented:
                images = deformed(images, black=0.0)
            return F.cross_entropy(module(images), train.labels[index])

        def evaluate(module: nn.Module) -> dict[str, float]:
            own = module(train.images).argmax(dim=1)
            return {"train_accuracy": _mean(own == train.labels)} | _validation(
                module(valid.images), valid.labels
            )

        return fit(network, loss, len(train.labels), self.training, fabric, evaluate, str(self))

    def _fit_tuned(self, network: nn.Module, labelled: Split, black: float, fabric: Fabric):
        def loss(module: nn.Module, index: Tensor) -> Tensor:
            images = labelled.images[index]
            if self.augmented:
                images = deformed(images, black)
            return F.cross_entropy(module(images), labelled.labels[index])

        return fit(network, loss, len(labelled.labels), self.training, fabric, label=str(self))

    def _fit_s4l(self, network: nn.Module, labelled: Split, seen: Task, fabric: Fabric):
        images = seen.train.images[: self.unlabelled]

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            known, classes = _sample(labelled, LABELLED_BATCH)
            views, turns = rotation.one_turn(weak_view(images[index], seen.black))
            digits, turned = module(deformed(known, seen.black), views)
            return F.cross_entropy(digits, classes) + rotation.loss(turned, turns)

        return fit(network, loss, len(images), self.training, fabric, label=str(self))

    def _fit_fixmatch(self, network: nn.Module, labelled: Split, seen: Task, fabric: Fabric):
        images = seen.train.images[: self.unlabelled]
        share = torch.full((10,), 0.1, device=images.device)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            known, classes = _sample(labelled, LABELLED_BATCH)
            with torch.no_grad():
                weak = module(weak_view(images[index], seen.black))
                # Distribution alignment (Berthelot et al. 2020, section 3.1): the labels are
                # stratified, so a class that is predicted too often is predicted with less trust.
                share.lerp_(weak.softmax(dim=1).mean(dim=0), SHARE_RATE)
                weak = weak - share.log()
            logits = module(deformed(torch.cat([known, images[index]]), seen.black))
            supervised = F.cross_entropy(logits[: len(known)], classes)
            unsupervised, _ = fixmatch.loss(weak, logits[len(known) :], CONFIDENCE)
            return supervised + unsupervised

        return fit(network, loss, len(images), self.training, fabric, label=str(self))

    def _outcome(self, probabilities: Tensor, labels: Tensor, curves, parameters) -> Outcome:
        predicted = probabilities.argmax(dim=1).cpu().numpy().astype(np.uint8)
        return Outcome(
            metrics=evaluation.evaluate(probabilities.cpu().numpy(), labels.cpu().numpy()),
            curves=curves,
            predictions={"classes": predicted},
            parameters=parameters,
        )


def turns_outcome(
    network: nn.Module, images: Tensor, view: Callable[[Tensor], Tensor] | None = None
) -> Outcome:
    """Accuracy and recall of each turn over all four turns of every image.

    ``view`` is applied to the turned images. The predictions [4N] have the four turns of an image
    next to each other.
    """
    predicted, truth = [], []
    for part in images.split(500):
        views, turns = rotation.all_turns(part)
        views = views if view is None else view(views)
        predicted.append(predict(network, views).argmax(dim=1))
        truth.append(turns)
    predicted, turns = torch.cat(predicted), torch.cat(truth)
    metrics = {"accuracy": _mean(predicted == turns)}
    for k, name in enumerate(rotation.TURNS):
        metrics[f"recall_{name}"] = _mean(predicted[turns == k] == k)
    return Outcome(metrics, predictions={"turns": predicted.cpu().numpy().astype(np.uint8)})


def backboned(protocol: str, outputs: int, architecture: str = "") -> nn.Module:
    """The network with ``outputs`` logits, in protocol ``report`` of an architecture: without one,
    of the network that the report pretrains on rotations."""
    if protocol != "report":
        return CompactNet(outputs)
    return ARCHITECTURES[architecture or "six convolutions"](outputs)


def placed(network: nn.Module, fabric: Fabric) -> nn.Module:
    """On the device, in the memory layout that convolutions are fastest in."""
    return network.to(fabric.device, memory_format=torch.channels_last)


def weak_view(images: Tensor, black: float) -> Tensor:
    """A slightly moved image: shifts of two pixels, turns of five degrees."""
    return affine(images - black, degrees=5, shift=2) + black


def deformed(images: Tensor, black: float) -> Tensor:
    """A clearly deformed image that is still the same digit; also FixMatch's strong view.

    Sohn et al. hide a square of the strong view as well. On held-out training images that made
    FixMatch worse: with a part hidden, a 3, a 5 or a 9 may be an 8.
    """
    return affine(images - black, degrees=20, shift=3, zoom=0.2, shear=0.3) + black


def _sample(labelled: Split, count: int) -> tuple[Tensor, Tensor]:
    """``count`` labelled images with replacement, and their classes."""
    chosen = torch.randint(len(labelled.labels), (count,), device=labelled.labels.device)
    return labelled.take(chosen)


def _validation(logits: Tensor, classes: Tensor) -> dict[str, float]:
    return {
        "valid_loss": F.cross_entropy(logits, classes).item(),
        "valid_accuracy": _mean(logits.argmax(dim=1) == classes),
    }


def _mean(correct: Tensor) -> float:
    return correct.float().mean().item()


def _count(network: nn.Module) -> dict[str, int]:
    parameters = list(network.parameters())
    return {
        "total": sum(p.numel() for p in parameters),
        "trained": sum(p.numel() for p in parameters if p.requires_grad),
    }


def _known(architecture: str, protocol: str) -> None:
    config.one_of("architecture", architecture, ("", *ARCHITECTURES))
    if architecture and protocol != "report":
        raise UserError("architecture goes with the protocol report")


def _protocol(protocol: str, scored_on: str) -> str:
    return protocol if scored_on == "test" else f"{protocol}, scored on validation images"


@dataclass(frozen=True)
class RotationStart(Experiment):
    """The first steps of a pretraining in protocol ``report``: does it leave chance at all?

    Adam at 0.01 on six convolutions without batch norm can end at once where every output is
    constant, and stay there. The steps are those of the :class:`RotationPretraining` with the same
    seed.
    """

    kind = "start"
    recipe = 1

    pretraining: RotationPretraining
    """Its recipe has as many steps as are to be looked at."""

    def cell(self) -> dict[str, str | int]:
        return self.pretraining.cell() | {"method": "first steps of rotation prediction"}

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.pretraining
        torch.manual_seed(own.seed)
        seen = task(own.dataset, own.protocol, own.scored_on, fabric.device)
        network = placed(backboned(own.protocol, outputs=4), fabric)
        curves = own._fit_report(network, seen.train.images[: own.unlabelled], fabric)
        return Outcome({"valid_accuracy": curves["valid_accuracy"][-1]}, curves)


@dataclass(frozen=True)
class MovedTurns(Experiment):
    """The rotation task on test images that were moved, where their place says nothing."""

    kind = "moved"
    recipe = 1

    pretraining: RotationPretraining
    pixels: int = 2
    """Every turned image is moved by -pixels..pixels, at random, along each axis."""

    def cell(self) -> dict[str, str | int]:
        own = self.pretraining.cell()
        return own | {"method": f"{own['method']}, images moved by {self.pixels} pixels"}

    def needs(self) -> Sequence[Experiment]:
        return (self.pretraining,)

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.pretraining
        torch.manual_seed(own.seed)
        seen = task(own.dataset, own.protocol, own.scored_on, fabric.device)
        network = own.trained(fabric, store)

        def moved(views: Tensor) -> Tensor:
            span = (len(views),)
            rows, columns = (
                torch.randint(-self.pixels, self.pixels + 1, span, device=views.device)
                for _ in range(2)
            )
            return shifted(views - seen.black, rows, columns) + seen.black

        return turns_outcome(network, seen.score.images, moved)


@dataclass(frozen=True)
class CrossedSeed(Experiment):
    """A run whose label draw and seed do not move together: where does the spread come from?"""

    kind = "crossed"
    recipe = 1

    run: DigitClassification
    seed: int
    """Of the initial weights and the order of the batches."""

    def cell(self) -> dict[str, str | int]:
        own = self.run.cell()
        return own | {"protocol": f"{own['protocol']}, draws and seeds crossed"}

    def needs(self) -> Sequence[Experiment]:
        return self.run.needs()

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        found = self.run.seeded(self.seed, fabric, store)
        return Outcome({"accuracy": found.metrics["accuracy"]}, parameters=found.parameters)


@dataclass(frozen=True)
class FeatureMap(Experiment):
    """A two-dimensional map of a frozen backbone's features, by t-SNE."""

    kind = "map"
    recipe = 1

    pretraining: RotationPretraining
    images: int = 1000
    """The first test images; they are drawn, not scored."""

    def cell(self) -> dict[str, str | int]:
        return self.pretraining.cell() | {"method": f"map of {self.pretraining.cell()['method']}"}

    def needs(self) -> Sequence[Experiment]:
        return (self.pretraining,)

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.pretraining
        seen = task(self.dataset, own.protocol, own.scored_on, fabric.device)
        network = own.trained(fabric, store)
        features = predict(network.backbone, seen.score.images[: self.images])
        reduced = PCA(50, random_state=own.seed).fit_transform(features.cpu().numpy())
        points = TSNE(random_state=own.seed, init="pca", n_jobs=1).fit_transform(reduced)
        return Outcome(metrics={}, predictions={"points": points.astype(np.float16)})
