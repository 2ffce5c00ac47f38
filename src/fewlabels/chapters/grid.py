"""The source's grid of methods, shares of labels and draws, which chapters 5 and 6 plan.

Protocol ``reduced`` is what two CPU cores finish: fewer epochs (`FINE_TUNING_EPOCHS`, and
``reduced_epochs`` of pretraining), and the narrower transformers of
`fewlabels.learn.pretext.methods.NARROW`. Supervised networks, and heads on frozen backbones, take
the source's epochs at both budgets.

A pretraining is one run whose weights stay in the cache. Draw d of the labels goes with the
pretraining of seed d: all methods are paired by draw.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from fewlabels import data
from fewlabels.data import medmnist
from fewlabels.errors import UserError
from fewlabels.kinds.classes import Classification
from fewlabels.kinds.ssl import Pretraining
from fewlabels.learn.pretext.methods import METHODS, backbone_name
from fewlabels.learn.training import Course
from fewlabels.runs.parameters import Count, Parameters, Repeats, Some

DATASETS = (*medmnist.SINGLE_LABEL, "cells")
SOURCE_METHODS = ("simclr", "moco", "aim", "mae")
QUARTER = 0.25
FRACTIONS = (1.0, QUARTER)
SOURCE_EPOCHS = 100
FINE_TUNING_EPOCHS = {1.0: 15, QUARTER: 30}
"""In protocol ``reduced``, by the share of labels, beside 25 of pretraining."""
FROZEN_AND_TUNED = ("frozen", "fine-tuned")
CONTROLS = {
    "resnet18": "simclr",
    "vit-b32": "mae",
    "vit-narrow": "mae",
    "aim": "aim",
    "aim-narrow": "aim",
}
"""Backbones whose untrained state is the control of pretrained ones, and a method that has each."""
FEWEST = 100
"""Images of which a quarter still shows every class."""


@dataclass(frozen=True, kw_only=True)
class Grid(Parameters):
    """The parameters of the source's grid, which chapter 6 has as well."""

    blood: str
    """The balanced data set of the source; any single-label MedMNIST set may take its place,
    the generated cells, or the path of your own images."""
    derma: str
    """The unbalanced one."""
    minutes: float
    """For the runs that are missing, which go on the next time; 0 starts none and shows what is
    there, a negative number is no limit."""
    budget: Literal["reduced", "source"]
    """What the runs may take: two CPU cores' reduced one, or the source's, for a graphics card."""
    seeds: Repeats
    """Draws of every method in the source's grid."""
    methods: list[Literal[(*METHODS,)]]
    """Pretext tasks of the grid."""
    epochs: Some
    """Of supervised networks, of heads on frozen backbones and, with budget source, of pretraining
    and fine-tuning; MAE takes half of them."""
    reduced_epochs: Some
    """Of pretraining with budget reduced; fine-tuning takes three fifths of them with all labels
    and twice that with a quarter."""
    images: Count
    """At most this many training images, the first ones, a hundred or more; 0 takes all."""
    tiny: bool
    """Networks that a test can train."""

    def __post_init__(self):
        super().__post_init__()
        for key in ("blood", "derma"):
            name = getattr(self, key)
            if name in list(medmnist.SETS):
                data.train_size(name)  # says why one with several labels per image is refused
            data.check(key, name, DATASETS)
        if 0 < self.images < FEWEST:
            raise UserError(f"images is {self.images}; allowed: 0 for all, or {FEWEST} and more")
        if not self.methods:
            raise UserError(f"methods is []; allowed: one or more of {', '.join(METHODS)}")

    @property
    def grid(self) -> str:
        """The protocol of the source's grid at this budget."""
        return "reduced" if self.budget == "reduced" else "report"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The names of both data sets, or of the one that plays both parts."""
        return tuple(dict.fromkeys((self.blood, self.derma)))


def pretraining(
    s: Grid, dataset: str, method: str, seed: int, protocol: str = "", **changes: Any
) -> Pretraining:
    """A method's pretraining, in a protocol's own network and course unless ``changes`` differ.

    Without a ``protocol`` it is the grid's; ``tuned`` needs `Settings`.
    """
    protocol = protocol or s.grid
    course = METHODS[method].COURSES["tuned" if protocol == "tuned" else "report"]
    if protocol == "tuned":
        epochs = share_of(s.tuned_epochs, course.epochs, 200)
    else:
        epochs = s.reduced_epochs if protocol == "reduced" else share_of(s.epochs, course.epochs)
    network = backbone_name(method, protocol)
    if network == "resnet18-small" and s.budget == "reduced":
        network = "resnet18"
    given = {"network": network, "course": replace(course, epochs=epochs)} | changes
    return Pretraining(dataset, protocol, method, seed=seed, images=s.images, tiny=s.tiny, **given)


def share_of(epochs: int, own: int, usual: int = SOURCE_EPOCHS) -> int:
    """``epochs`` for a course that takes ``own`` where others take ``usual``."""
    return max(1, epochs * own // usual)


def untrained(s: Grid, dataset: str, network: str, seed: int) -> Pretraining:
    """The control: a backbone with its initial weights."""
    nothing = Course(epochs=0, rate=0.1, evaluations=0)
    return pretraining(s, dataset, CONTROLS[network], seed, network=network, course=nothing)


def controls(s: Grid) -> list[str]:
    """The backbones of the grid that some of the methods have."""
    used = {backbone_name(method, s.grid) for method in s.methods}
    return [network for network in CONTROLS if network in used]


def classifier(
    s: Grid,
    start: Pretraining,
    backbone: str,
    fraction: float,
    *,
    readout: str = "head",
    moving: bool = False,
    positions: bool | None = None,
) -> Classification:
    """The source's classifier on a pretrained backbone; ``positions`` is its choice for AIM."""
    if positions is None:
        positions = start.network.startswith("aim")
    # The source's classifiers on MAE take half the epochs; so does their control.
    epochs = share_of(s.epochs, 50 if start.method == "mae" else 100)
    if start.protocol == "reduced" and backbone == "fine-tuned":
        epochs = share_of(s.reduced_epochs, FINE_TUNING_EPOCHS[fraction], 25)
    return Classification(
        start.dataset,
        start.protocol,
        backbone,
        start.network,
        fraction,
        start.seed,
        Course(epochs=epochs, rate=0.01),
        pretraining=start,
        readout=readout,
        moving=moving,
        positions=positions,
        probabilities=backbone == "fine-tuned" and start.name in SOURCE_METHODS,
        images=s.images,
        tiny=s.tiny,
    )


def classifiers(s: Grid, start: Pretraining) -> list[Classification]:
    """The classifier on one backbone, frozen and fine-tuned, at both shares of the labels."""
    return [classifier(s, start, b, fraction) for fraction in FRACTIONS for b in FROZEN_AND_TUNED]


def supervised(
    s: Grid, dataset: str, fraction: float, draw: int, variant: str = "", **changes: Any
) -> Classification:
    """The source's supervised model: a ResNet-18, its rate halved every twenty epochs.

    ``changes`` of its course make a ``variant``.
    """
    course = Course(s.epochs, rate=0.05, schedule="halved", drop_last=False)
    return Classification(
        dataset,
        "report",
        "scratch",
        "resnet18",
        fraction,
        draw,
        replace(course, **changes),
        probabilities=not variant,
        variant=variant,
        images=s.images,
        tiny=s.tiny,
    )
