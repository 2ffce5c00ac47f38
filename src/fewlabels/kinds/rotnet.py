"""Runs of chapter 1 on the rotation task; `fewlabels.kinds.digits` has its classifiers.

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

from fewlabels import config, data
from fewlabels.data import Split
from fewlabels.data.augment import affine, quarter_turns, shifted
from fewlabels.errors import UserError
from fewlabels.kinds.measured import placed, scored_protocol, sizes, validation
from fewlabels.learn.pretext import rotation
from fewlabels.learn.training import Recipe, fit, predict
from fewlabels.nets.compact import CompactNet
from fewlabels.nets.report_rotnet import PlainCNN, RotNet
from fewlabels.runs.records import ADDED, Experiment, Outcome, Store

PRETEXT_PROTOCOLS = ("report", "tuned", "centred")
ARCHITECTURES = {"six convolutions": RotNet, "two convolutions": PlainCNN}
"""The report's two networks: it pretrains the first, and trains the second from scratch."""
CROSSED = "architectures crossed"
"""What tables call the protocol of runs that name their architecture: ``report`` in all else."""
CURVE_IMAGES = 2000


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
class RotationPretraining(Experiment, kind="rotation", recipe=1):
    """Learn to name the turn of an image, without labels.

    MNIST's digits are centred by their centre of mass, half a pixel off the middle of 28 x 28
    pixels, so that the place of an image alone gives its turn away. Protocol ``tuned`` moves every
    image by up to two pixels while it learns, which hides that; ``report`` and ``centred`` do not.
    """

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
        check_architecture(self.architecture, self.protocol)
        config.one_of("scored_on", self.scored_on, ("validation", "test"))
        config.whole("seed", self.seed, 0)
        config.whole("unlabelled", self.unlabelled, 10)

    def cell(self) -> dict[str, str | int]:
        method = "rotation prediction" if self.training.steps else "random"
        method = ", ".join(filter(None, [method, self.architecture]))
        protocol = protocol_name(self.protocol, self.scored_on, self.architecture)
        return self.row(0, method, "scratch", protocol)

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.seed)
        seen = task(self.dataset, self.protocol, self.scored_on, fabric.device)
        images = seen.train.images[: self.unlabelled]
        network = self._network(fabric)
        if self.protocol == "report":
            curves = self._fit_report(network, images, fabric)
        else:
            curves = self._fit_tuned(network, images, seen.black, fabric)

        outcome = turns_outcome(network, seen.score.images)
        return replace(
            outcome,
            curves=curves,
            parameters=sizes(network),
            weights=network.state_dict(),
        )

    def trained(self, fabric: Fabric, store: Store) -> nn.Module:
        """The network with the weights this run left, in evaluation mode."""
        network = self._network(fabric)
        network.load_state_dict(store.weights(self, fabric))
        return network.eval()

    def _network(self, fabric: Fabric) -> nn.Module:
        return placed(backboned(self.protocol, 4, self.architecture), fabric)

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
            return validation(predict(module, views), turns)

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
            return validation(predict(module, views), turns)

        return fit(network, loss, len(train), self.training, fabric, evaluate, label=str(self))


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
    """The network with ``outputs`` logits: in protocol ``report`` of an architecture, and without
    one the network that the report pretrains on rotations."""
    if protocol != "report":
        return CompactNet(outputs)
    return ARCHITECTURES[architecture or "six convolutions"](outputs)


def check_architecture(architecture: str, protocol: str) -> None:
    config.one_of("architecture", architecture, ("", *ARCHITECTURES))
    if architecture and protocol != "report":
        raise UserError("architecture goes with the protocol report")


def weak_view(images: Tensor, black: float) -> Tensor:
    """A slightly moved image: shifts of two pixels, turns of five degrees."""
    return affine(images - black, degrees=5, shift=2) + black


def _mean(correct: Tensor) -> float:
    return correct.float().mean().item()


def protocol_name(protocol: str, scored_on: str, architecture: str = "") -> str:
    """What tables call a protocol."""
    return scored_protocol(CROSSED if architecture else protocol, scored_on)


@dataclass(frozen=True)
class RotationStart(Experiment, kind="start", recipe=1):
    """The first steps of a pretraining in protocol ``report``: does it leave chance at all?

    Adam at 0.01 on six convolutions without batch norm can end at once where every output is
    constant, and stay there. The steps are those of the :class:`RotationPretraining` with the same
    seed.
    """

    pretraining: RotationPretraining
    """Its recipe has as many steps as are to be looked at."""

    def cell(self) -> dict[str, str | int]:
        return self.pretraining.cell() | {"method": "first steps of rotation prediction"}

    def needs(self) -> Sequence[Experiment]:
        return ()  # It takes these steps itself.

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.pretraining
        torch.manual_seed(own.seed)
        seen = task(own.dataset, own.protocol, own.scored_on, fabric.device)
        network = own._network(fabric)
        curves = own._fit_report(network, seen.train.images[: own.unlabelled], fabric)
        return Outcome({"valid_accuracy": curves["valid_accuracy"][-1]}, curves)


@dataclass(frozen=True)
class MovedTurns(Experiment, kind="moved", recipe=1):
    """The rotation task on test images that were moved, where their place says nothing."""

    pretraining: RotationPretraining
    pixels: int = 2
    """Every turned image is moved by -pixels..pixels, at random, along each axis."""

    def cell(self) -> dict[str, str | int]:
        own = self.pretraining.cell()
        return own | {"method": f"{own['method']}, images moved by {self.pixels} pixels"}

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
class FeatureMap(Experiment, kind="map", recipe=1):
    """A two-dimensional map of a frozen backbone's features, by t-SNE."""

    pretraining: RotationPretraining
    images: int = 1000
    """The first test images; they are drawn, not scored."""

    def cell(self) -> dict[str, str | int]:
        return self.pretraining.cell() | {"method": f"map of {self.pretraining.cell()['method']}"}

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.pretraining
        seen = task(own.dataset, own.protocol, own.scored_on, fabric.device)
        network = own.trained(fabric, store)
        features = predict(network.backbone, seen.score.images[: self.images])
        reduced = PCA(50, random_state=own.seed).fit_transform(features.cpu().numpy())
        points = TSNE(random_state=own.seed, init="pca", n_jobs=1).fit_transform(reduced)
        return Outcome(metrics={}, predictions={"points": points.astype(np.float16)})
