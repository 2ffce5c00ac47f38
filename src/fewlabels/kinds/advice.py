"""Runs on a reader's own images, short enough that two CPU cores make a page of them in minutes.

One small network (`fewlabels.nets.pocket`) serves all methods, so that what differs is the method:
untrained, trained from scratch, pretrained by SimCLR, and taught by FixMatch. The features of a
ResNet-18 trained on ImageNet stand beside it where its weights are at hand.

Settings are first guesses: one draw of each method was looked at on validation images of a part of
BloodMNIST, no test set. Nothing is chosen on a reader's validation images: they stay aside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels import config, data
from fewlabels.data import Split
from fewlabels.data.views import View, normalised
from fewlabels.errors import UserError
from fewlabels.kinds.measured import placed
from fewlabels.learn import evaluation, features, probes
from fewlabels.learn.pretext import fixmatch, rotation
from fewlabels.learn.pretext.simclr import SimCLR
from fewlabels.learn.training import Recipe, fit, predict
from fewlabels.nets.pocket import PocketNet
from fewlabels.nets.pretrained import Pretrained, backbone
from fewlabels.runs.records import Experiment, Outcome, Store

METHODS = ("untrained", "imagenet", "scratch", "simclr", "simclr fine-tuned", "fixmatch")
"""``untrained``, ``imagenet`` and ``simclr`` are a linear probe on frozen features."""
SYMMETRIES = ("none", "mirror", "any")
"""What leaves the meaning of an image as it is: nothing (letters), mirroring left and right
(photographs), or any turn and mirroring (cells, images from above)."""
TEMPERATURE = 0.2
ENLARGED = 112
"""Pixels a side at which the ImageNet network sees the images."""
CONFIDENCE = 0.95
"""Of a pseudo-label that counts."""
LABELLED = 32
"""Images with labels in a step of FixMatch."""
SHARE_RATE = 0.05
"""How fast FixMatch's running share of predicted classes follows a batch."""


@dataclass(frozen=True)
class Task:
    """Images on the device, in colour, with what the training images say of their channels."""

    train: Split
    test: Split
    classes: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @property
    def side(self) -> int:
        return self.train.images.shape[-1]

    def plain(self, images: Tensor) -> Tensor:
        """uint8 [N, 3, S, S] to normalised floats."""
        return normalised(images.float() / 255, self.mean, self.deviation)

    def view(self, symmetry: str, smallest: float, jitter: float = 0.0) -> Callable:
        """Random views: crops of a share of the area from ``smallest`` on, symmetries, colours."""
        flips = {"flip": 0.5 * (symmetry != "none"), "vertical_flip": 0.5 * (symmetry == "any")}
        colours = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
        colours |= {"jitter": jitter, "grey": 0.25 * jitter}
        view = View(
            self.side, smallest, **flips, **colours, mean=self.mean, deviation=self.deviation
        )
        return (lambda images: rotation.one_turn(view(images))[0]) if symmetry == "any" else view


@lru_cache(maxsize=2)
def task(dataset: str, device: torch.device) -> Task:
    whole = data.coloured(dataset)
    mean, deviation = data.channel_statistics(whole.train.images)
    # A channel that is the same everywhere divides by nothing.
    deviation = deviation.clamp(min=1 / 255)
    statistics = (tuple(mean.tolist()), tuple(deviation.tolist()))
    return Task(whole.train.to(device), whole.test.to(device), len(whole.classes), *statistics)


@dataclass(frozen=True)
class OwnPretraining(Experiment, kind="own-pretraining", recipe=1):
    """SimCLR on the training images, without their labels. The weights are the backbone's."""

    seed: int
    training: Recipe
    symmetry: str = "mirror"

    def __post_init__(self):
        config.one_of("symmetry", self.symmetry, SYMMETRIES)

    def cell(self) -> dict[str, str | int]:
        return self.row(0, "pretraining of simclr", "scratch", "advice")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.seed)
        seen = task(self.dataset, fabric.device)
        view = seen.view(self.symmetry, 0.3, jitter=0.8)
        trunk = PocketNet(seen.side)
        network = placed(SimCLR(trunk, view, TEMPERATURE, 2 * trunk.features), fabric)
        images = seen.train.images

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            first, second = view(torch.cat([images[index]] * 2)).chunk(2)
            return network.loss(*module(first, second))

        curves = fit(network, loss, len(images), self.training, fabric, label=str(self))
        return Outcome({"train_loss": curves["train_loss"][-1]}, curves, weights=trunk.state_dict())


@dataclass(frozen=True)
class OwnClassifier(Experiment, kind="own-classes", recipe=1):
    """Name the classes, given the labels of a share of the training images.

    Draw d of the labels goes with seed d of everything else, for every method.
    """

    method: str
    share: float
    """Of every class's training images, that have labels."""
    draw: int
    training: Recipe | None = None
    """None for a linear probe."""
    symmetry: str = "mirror"
    pretraining: OwnPretraining | None = None
    weights: str = ""
    """Of the ImageNet network, see `fewlabels.nets.pretrained`."""

    def __post_init__(self):
        config.one_of("method", self.method, METHODS)
        config.one_of("symmetry", self.symmetry, SYMMETRIES)
        if (self.training is None) != (self.method in ("untrained", "imagenet", "simclr")):
            raise UserError(f"method {self.method}: only probes go without a recipe")
        if (self.pretraining is None) == self.method.startswith("simclr"):
            raise UserError("pretraining goes with the methods of simclr, and with no other")

    def cell(self) -> dict[str, str | int]:
        start = "scratch" if self.method in ("scratch", "fixmatch") else "frozen"
        return self.row(f"{self.share:.0%}", self.method, start, "advice")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.draw)
        seen = task(self.dataset, fabric.device)
        drawn = data.draw_fraction(seen.train.labels, self.share, self.draw)
        curves = {}
        if self.training is None:
            probabilities = self._probed(seen, drawn, fabric, store)
        else:
            network = placed(
                nn.Sequential(
                    trunk := self._trunk(seen, fabric, store),
                    nn.Linear(trunk.features, seen.classes),
                ),
                fabric,
            )
            fitted = self._fixmatch if self.method == "fixmatch" else self._supervised
            curves = fitted(network, seen, drawn, fabric)
            logits = predict(lambda images: network(seen.plain(images)), seen.test.images)
            probabilities = logits.softmax(dim=1).cpu().numpy()
        truth = seen.test.labels.cpu().numpy()
        return Outcome(
            evaluation.evaluate(probabilities, truth),
            curves,
            {"classes": probabilities.argmax(axis=1).astype(np.uint8)},
        )

    def _trunk(self, seen: Task, fabric: Fabric, store: Store) -> PocketNet:
        trunk = PocketNet(seen.side)
        if self.pretraining is not None:
            trunk.load_state_dict(store.weights(self.pretraining, fabric))
        return trunk

    def _probed(self, seen: Task, drawn: Tensor, fabric: Fabric, store: Store) -> np.ndarray:
        if self.method == "imagenet":
            source = Pretrained("resnet18", self.weights)
            parts = [
                features.frozen(source, lambda: backbone(source), images, fabric.device, ENLARGE)
                for images in (seen.train.images, seen.test.images)
            ]
        else:
            trunk = placed(self._trunk(seen, fabric, store), fabric).eval()
            parts = [
                predict(lambda images: trunk(seen.plain(images)), part.images)
                for part in (seen.train, seen.test)
            ]
        own, scored = parts[0][drawn].cpu().numpy(), parts[1].cpu().numpy()
        return probes.linear_probe(
            own, seen.train.labels[drawn].cpu().numpy(), scored, seen.classes, c=0.1
        )

    def _supervised(self, network: nn.Module, seen: Task, drawn: Tensor, fabric: Fabric):
        labelled, view = seen.train.take(drawn), seen.view(self.symmetry, 0.5)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            return F.cross_entropy(module(view(labelled.images[index])), labelled.labels[index])

        return fit(network, loss, len(drawn), self.training, fabric, label=str(self))

    def _fixmatch(self, network: nn.Module, seen: Task, drawn: Tensor, fabric: Fabric):
        labelled, images = seen.train.take(drawn), seen.train.images
        weak, strong = seen.view(self.symmetry, 0.8), seen.view(self.symmetry, 0.4, jitter=0.8)
        prior = labelled.labels.bincount(minlength=seen.classes) / len(drawn)
        # A buffer, so that a run that is stopped goes on with it.
        network.register_buffer("share", prior.clone(), persistent=False)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            known = torch.randint(len(drawn), (LABELLED,), device=index.device)
            unlabelled = images[index]
            with torch.no_grad():
                guessed = module(weak(unlabelled))
                guessed = fixmatch.aligned(guessed, network.share, prior, SHARE_RATE)
            seen_views = torch.cat([weak(labelled.images[known]), strong(unlabelled)])
            logits = module(seen_views)
            supervised = F.cross_entropy(logits[:LABELLED], labelled.labels[known])
            return supervised + fixmatch.loss(guessed, logits[LABELLED:], CONFIDENCE)

        return fit(network, loss, len(images), self.training, fabric, label=str(self))


ENLARGE = features.View(
    f"enlarged to {ENLARGED} pixels",
    lambda images: F.interpolate(
        images.float(), (ENLARGED, ENLARGED), mode="bilinear", antialias=True
    ),
)
