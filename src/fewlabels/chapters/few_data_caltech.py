"""Chapter 4: what it may be told, and what it trains.

The settings of the small network and of fine-tuning are chosen anew on every split, inside its
training part. The others were chosen on validation images inside the training parts of splits that
no test run uses (runs with ``scored_on="validation"``). With 177 photographs an image that
validates in one split is tested in another: only the test part of the same split is kept apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from fewlabels import config
from fewlabels.data import photographs
from fewlabels.errors import UserError
from fewlabels.kinds.chosen_photographs import ChosenTuning, Search, Searched
from fewlabels.kinds.few_photographs import (
    AUGMENTATIONS,
    BATCH,
    CornerColours,
    ScratchClassification,
)
from fewlabels.kinds.photograph_features import PIXELS, READOUTS, FeatureClassification, FineTuning
from fewlabels.kinds.recognition import Recognition
from fewlabels.learn.training import Recipe
from fewlabels.nets.pretrained import RANDOM, RESNETS, TORCHVISION, Pretrained, at_hand
from fewlabels.runs.parameters import Parameters, Range, Repeats, Some, SomeRepeats
from fewlabels.runs.records import Experiment, Store

NAME = "few-data-caltech"
CHOICE = 1000
"""The first split of the choices."""
SHEET_NETWORK = "vgg16"
AT_HAND = "at hand"
FEW = 5
"""Images per class at which augmented features are compared as well: with all, few errors are
left."""
HEAD_RATE, TUNING_RATE, SCRATCH_RATE = 0.001, 1e-5, 0.001
CARELESS_RATE = 1e-4
"""Of fine-tuning, where ten times too much is shown."""
CHOSEN_RATES = (TUNING_RATE, CARELESS_RATE)
"""Of fine-tuning, to choose from on every split."""
CANDIDATES = (
    (SCRATCH_RATE, (32, 64), 0.0),
    (3e-4, (32, 64), 0.0),
    (3e-3, (32, 64), 0.0),
    (SCRATCH_RATE, (16, 32), 0.0),
    (SCRATCH_RATE, (32, 64, 64), 0.0),
    (SCRATCH_RATE, (32, 64), 0.5),
    (SCRATCH_RATE, (32, 64, 64), 0.5),
    (3e-3, (16, 32), 0.5),
)
"""Rate, filters and dropout of the small network: the sheet's, one of them changed, and two with
more than one. The number of steps is searched too."""
FOLDS = 3
LONGER = 3
"""Times the chosen number of steps, where the best configuration is trained on."""
HALVES = ("outside", "inside")
"""What is covered, of an image that is not shown whole."""

Side = Annotated[int, Range(16, 1024)]
"""Pixels a side, a multiple of 8."""


@dataclass(frozen=True, kw_only=True)
class Settings(Parameters):
    """The notebook's parameters."""

    dataset: Literal[photographs.SOURCES]
    """The photographs: Caltech-101's, or shapes drawn by the computer."""
    classes: list[str]
    """Which of the data set's classes, two or more."""
    networks: list[str]
    """Pretrained networks, ``architecture:weights``; the first one is used throughout. Without
    weights: torchvision's. ``at hand``: the book's ResNet-18 where its weight file is here, else
    VGG-16, the sheet's."""
    size: Side
    """Pixels a side, of the sheet."""
    tuning_size: Side
    """Pixels a side where a pretrained network is trained on."""
    scratch_size: Side
    """Pixels a side where the small network is trained on many splits."""
    splits: SomeRepeats
    """Random splits of the main comparisons; the numbers of splits below are at most as many."""
    native_splits: Repeats
    """Splits of the small network at ``size``, which takes long."""
    augmentations: list[Literal[(*AUGMENTATIONS,)[1:]]]
    """Tried on the small network, beside none."""
    augmentation_splits: Repeats
    """Splits of the small network under each augmentation."""
    feature_augmentations: list[Literal[(*AUGMENTATIONS,)[1:]]]
    """Tried on frozen features, beside none."""
    covered_splits: Repeats
    """Splits of the small network on covered images."""
    curve_splits: Repeats
    """Splits of the small network and of fine-tuning at each number of images per class."""
    feature_curve_splits: Repeats
    """Splits of frozen features at each number of images per class."""
    concatenated_splits: Repeats
    """Splits of the concatenation that is not trained."""
    tuning_splits: Repeats
    """Splits where the last block is trained on."""
    deep_splits: Repeats
    """Splits where more than one block is trained on."""
    careless_splits: Repeats
    """Splits of fine-tuning at a rate too high, from the trained head and from a new one."""
    search_splits: Repeats
    """Splits whose training part is searched for settings of the small network."""
    chosen_splits: Repeats
    """Splits on which rate and steps of fine-tuning are chosen."""
    choice_splits: SomeRepeats
    """Splits of the choices, whose validation images are scored."""
    recognition_splits: Repeats
    """Splits whose network names test photographs as image files."""
    labels_per_class: list[Some]
    """Numbers of training images per class, beside the whole training part."""
    blocks: list[Annotated[int, Range(0, 5)]]
    """Numbers of last blocks of the pretrained network that are trained on."""
    chosen_blocks: list[Annotated[int, Range(0, 5)]]
    """The same where rate and steps are chosen; of networks after the first one, at most one."""
    scratch_steps: Some
    """Batches that the small network learns from."""
    native_steps: Some
    """Batches that it learns from at ``size``."""
    long_steps: Some
    """Batches that it learns from where it is trained on and on."""
    head_steps: Some
    """Batches that an MLP on features learns from."""
    tuning_steps: Some
    """Batches of fine-tuning where nothing is chosen."""
    search_steps: Some
    """The most batches to choose from for the small network."""
    chosen_steps: Some
    """The most batches to choose from for fine-tuning."""

    def __post_init__(self):
        super().__post_init__()
        photographs.check_classes(self.dataset, tuple(self.classes))
        if not self.networks:
            raise UserError("networks is []; allowed: one or more, as ['vgg16']")
        for name in self.networks:
            if not _source(name).architecture.startswith((*RESNETS, "vgg")):
                raise UserError(f"networks has {name!r}; allowed: ResNets and VGGs, as resnet18")
        for key in ("size", "tuning_size", "scratch_size"):
            if getattr(self, key) % 8:
                raise UserError(f"{key} is {getattr(self, key)}; allowed: a multiple of 8")
        for key in vars(self):
            if key.endswith("_splits") and key != "choice_splits":
                config.whole(key, getattr(self, key), 0, self.splits)


def store(s: Settings) -> Store:
    """The folder of the records that the settings name."""
    return Store.of_chapter(NAME, s.store)


def networks(s: Settings) -> list[Pretrained]:
    """The pretrained networks that the settings name."""
    return [_source(name) for name in s.networks]


def _source(name: str) -> Pretrained:
    if name == AT_HAND:
        weights = at_hand("resnet18")
        name = SHEET_NETWORK if weights == TORCHVISION else f"resnet18:{weights}"
    architecture, _, weights = name.partition(":")
    return Pretrained(architecture, weights or TORCHVISION)


def plan(s: Settings) -> list[Experiment]:
    """Every run of the chapter; those that others start from come before them."""
    runs = [*on_features(s), *from_scratch(s), *choices(s), *fine_tuned(s)]
    runs += [*native(s), *searched(s), *chosen(s)]
    # Some of them stand in several comparisons.
    return list(dict.fromkeys(each for run in runs for each in (*run.needs(), run)))


def on_features(s: Settings) -> Iterator[Experiment]:
    """Classifiers on frozen features, and the corners' colours without any network.

    Every network's features under an MLP and under two probes, and the sheet's way of feeding it;
    of the first one also the whole map, a floor with random weights, features of augmented views
    with all images and with few, covered images, and a curve over the images per class.
    """
    floor = Pretrained(networks(s)[0].architecture, RANDOM)
    for split in range(s.splits):
        own = partial(features, s, split)
        yield CornerColours(**_common(s, split), size=s.size)
        for source in networks(s):
            yield from (own(source=source, readout=readout) for readout in READOUTS)
            yield own(source=source, pixels="unit")
        yield from (own(feature="map", pixels=pixels) for pixels in PIXELS)
        yield from (own(source=floor, readout=readout) for readout in ("mlp", "linear probe"))
        yield from (own(cover=cover) for cover in HALVES)
        for name in ("none", *s.feature_augmentations) if s.feature_augmentations else ():
            yield from (own(augmentation=name, labels=labels) for labels in (0, FEW))
    for split in range(s.feature_curve_splits):
        for labels in s.labels_per_class:
            yield features(s, split, labels=labels)
            yield features(s, split, labels=labels, readout="kNN")


def from_scratch(s: Settings) -> Iterator[ScratchClassification]:
    """The sheet's network on small images: whole, augmented, covered, and with few of them."""
    yield from (small(s, split) for split in range(s.splits))
    for split in range(s.augmentation_splits):
        yield from (small(s, split, augmentation=name) for name in s.augmentations)
    for split in range(s.covered_splits):
        yield from (small(s, split, cover=cover) for cover in HALVES)
    for split in range(s.curve_splits):
        yield from (small(s, split, labels=labels) for labels in s.labels_per_class)


def native(s: Settings) -> Iterator[ScratchClassification]:
    """The sheet's network on images of the sheet's size."""
    recipe = _adam(s.native_steps, SCRATCH_RATE, points=5)
    for split in range(s.native_splits):
        yield small(s, split, size=s.size, training=recipe)


def searched(s: Settings) -> Iterator[Search | Searched]:
    """The sheet's network with settings that every split chooses for itself (section 1.3), trained
    on, and with every augmentation (section 1.4)."""
    for split in range(s.search_splits):
        common = _common(s, split) | {"size": s.scratch_size, "scored_on": "validation"}
        points = min(5, s.search_steps)
        found = Search(
            **common, candidates=CANDIDATES, steps=s.search_steps, points=points, folds=FOLDS
        )
        yield found
        own = partial(Searched, s.dataset, found)
        yield from (own(), own(longer=LONGER))
        yield from (own(augmentation=name) for name in s.augmentations)


def chosen(s: Settings) -> Iterator[ChosenTuning]:
    """Fine-tuning with rate and steps that every split chooses for itself (section 1.6), of every
    network, by number of unfrozen blocks."""
    budget = {"rates": CHOSEN_RATES, "steps": s.chosen_steps, "points": min(10, s.chosen_steps)}
    for split in range(s.chosen_splits):
        for source in networks(s):
            head = features(s, split, size=s.tuning_size, source=source)
            for blocks in s.chosen_blocks:
                if blocks <= 1 or source == networks(s)[0]:
                    yield ChosenTuning(s.dataset, head, blocks, **budget)


def fine_tuned(s: Settings) -> Iterator[Experiment]:
    """The network and its MLP as one: untrained, by number of unfrozen blocks, at a careless rate,
    with few images, and as it answers for image files."""
    for split in range(s.concatenated_splits):
        yield from (tuned(s, split, 0, 0, **change) for change in ({}, {"training": NEW_HEAD}))
    for blocks in s.blocks:
        for split in range((s.splits, s.tuning_splits, s.deep_splits)[min(blocks, 2)]):
            yield tuned(s, split, blocks, s.tuning_steps)
    one = partial(tuned, s, blocks=1, steps=s.tuning_steps)
    for split in range(s.careless_splits):
        yield one(split=split, rate=CARELESS_RATE)
        yield one(split=split, rate=CARELESS_RATE, training=NEW_HEAD)
    for split in range(s.curve_splits):
        yield from (one(split=split, labels=labels) for labels in s.labels_per_class)
    for split in range(s.recognition_splits):
        yield Recognition(s.dataset, features(s, split))


def choices(s: Settings) -> Iterator[Experiment]:
    """What was compared on validation images: the sheet's network trained on and on, the rates of
    the MLP and of fine-tuning for a few steps."""
    held = {"scored_on": "validation"}
    for split in range(CHOICE, CHOICE + s.choice_splits):
        yield small(s, split, training=_adam(s.long_steps, SCRATCH_RATE, points=20), **held)
        for rate in (3e-4, HEAD_RATE, 3e-3):
            yield features(s, split, training=_adam(s.head_steps, rate, points=5), **held)
        for change in ({}, {"training": NEW_HEAD}):
            for rate in (TUNING_RATE, CARELESS_RATE):
                yield tuned(s, split, 1, s.tuning_steps, rate, **change, **held)


def small(s: Settings, split: int, **changed: Any) -> ScratchClassification:
    """The sheet's network on small images, or what differs from that."""
    own = _common(s, split) | {"size": s.scratch_size}
    own["training"] = _adam(s.scratch_steps, SCRATCH_RATE)
    return ScratchClassification(**own | changed)


def features(s: Settings, split: int, **changed: Any) -> FeatureClassification:
    """An MLP on pooled features of the first network, or what differs from that.

    As it is, the run whose MLP names new photographs (``fewlabels classify``).
    """
    own = _common(s, split) | {"size": s.size, "source": networks(s)[0]}
    own["training"] = _adam(s.head_steps, HEAD_RATE)
    return FeatureClassification(**own | changed)


def tuned(
    s: Settings, split: int, blocks: int, steps: int, rate: float = TUNING_RATE, **changed: Any
) -> FineTuning:
    """The first network with its trained MLP, the last ``blocks`` of it trained on."""
    head = features(s, split, size=s.tuning_size, **changed)
    return FineTuning(s.dataset, head, blocks, _adam(steps, rate))


def _common(s: Settings, split: int) -> dict[str, Any]:
    return {"dataset": s.dataset, "classes": tuple(s.classes), "split": split}


def _adam(steps: int, rate: float, points: int = 1) -> Recipe:
    return Recipe(steps, BATCH, rate, evaluations=min(points, steps))


NEW_HEAD = _adam(0, HEAD_RATE)
"""Of an MLP that is not trained."""
