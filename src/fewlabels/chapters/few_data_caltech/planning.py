"""The parameters of chapter 4 and every run it needs.

Settings were chosen on validation images inside the training parts of splits that no test run uses
(runs with ``scored_on="validation"``). With 177 photographs an image that validates in one split is
tested in another: only the test part of the same split is kept apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from fewlabels import config
from fewlabels.data import photographs
from fewlabels.errors import UserError
from fewlabels.experiments.few_photographs import (
    AUGMENTATIONS,
    BATCH,
    TEST_SHARE,
    CornerColours,
    FeatureClassification,
    FineTuning,
    Recognition,
    ScratchClassification,
)
from fewlabels.models.pretrained import RANDOM, TORCHVISION, Pretrained, at_hand
from fewlabels.runs import Experiment, Store
from fewlabels.statistics import Interval, fraction_interval
from fewlabels.training import Recipe

NAME = "few-data-caltech"
TEST_TO_TRAIN = TEST_SHARE / (1 - TEST_SHARE)
"""Images tested per image trained on: what the intervals over overlapping splits need."""
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


@dataclass(frozen=True)
class Settings:
    """The notebook's parameters. The defaults are the profile ``full``."""

    dataset: Literal[photographs.SOURCES] = "caltech101"
    store: Literal["results", "cache"] = "results"
    """Where the records are: the book's own, or the reader's."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    workers: int = 0
    """Runs at once; 0 means one per CPU core."""
    classes: list[str] = field(
        default_factory=lambda: ["accordion", "anchor", "barrel", "binocular"]
    )
    networks: list[str] = field(
        default_factory=lambda: [
            "resnet18:resnet18_imagenet_pq.pth.xz",
            "resnet50:resnet50_imagenet_pq.pth.xz",
        ]
    )
    """Pretrained networks, ``architecture:weights``; the first one is used throughout. Without
    weights: torchvision's. ``at hand``: the book's ResNet-18 where its weight file is here, else
    VGG-16, the sheet's."""
    size: int = 224
    """Pixels a side, of the sheet."""
    tuning_size: int = 128
    """Pixels a side where a pretrained network is trained on."""
    scratch_size: int = 48
    """Pixels a side where the small network is trained on many splits."""
    splits: int = 20
    native_splits: int = 2
    """Splits of the small network at ``size``, which takes long."""
    augmentations: list[str] = field(
        default_factory=lambda: [
            *("vertical flip", "horizontal flip", "affine", "crops", "all but vertical"),
        ]
    )
    """Tried on the small network, beside none."""
    augmentation_splits: int = 8
    feature_augmentations: list[str] = field(
        default_factory=lambda: ["vertical flip", "horizontal flip", "affine"]
    )
    """Tried on frozen features, beside none."""
    covered_splits: int = 8
    """Splits of the small network on covered images."""
    curve_splits: int = 5
    """Splits of the small network and of fine-tuning at each number of images per class."""
    feature_curve_splits: int = 5
    """Splits of frozen features at each number of images per class."""
    concatenated_splits: int = 3
    """Splits of the concatenation that is not trained."""
    tuning_splits: int = 12
    """Splits where the last block is trained on."""
    deep_splits: int = 8
    """Splits where more than one block is trained on."""
    careless_splits: int = 8
    """Splits of fine-tuning at a rate too high, from the trained head and from a new one."""
    choice_splits: int = 1
    recognition_splits: int = 3
    labels_per_class: list[int] = field(default_factory=lambda: [1, 2, 5, 10, 20])
    blocks: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4, 5])
    """Numbers of last blocks of the pretrained network that are trained on."""
    scratch_steps: int = 80
    native_steps: int = 16
    long_steps: int = 240
    head_steps: int = 100
    tuning_steps: int = 8

    def __post_init__(self):
        config.literals(self)
        config.whole("workers", self.workers, 0)
        for key in (
            *("classes", "networks", "labels_per_class", "blocks"),
            *("augmentations", "feature_augmentations"),
        ):
            if not isinstance(getattr(self, key), list):
                raise UserError(f"{key} is {getattr(self, key)!r}; allowed: a list")
        photographs.check_classes(self.dataset, tuple(self.classes))
        if not self.networks or not all(isinstance(name, str) for name in self.networks):
            raise UserError(f"networks is {self.networks!r}; allowed: one or more, as ['vgg16']")
        for name in self.networks:
            _source(name)
        for key in ("size", "tuning_size", "scratch_size"):
            config.whole(key, getattr(self, key), 16)
            if getattr(self, key) % 8:
                raise UserError(f"{key} is {getattr(self, key)}; allowed: a multiple of 8")
        for key in (
            *("splits", "choice_splits", "scratch_steps", "native_steps", "long_steps"),
            *("head_steps", "tuning_steps"),
        ):
            config.whole(key, getattr(self, key), 1)
        for key in (
            *("native_splits", "augmentation_splits", "covered_splits", "curve_splits"),
            *("concatenated_splits", "deep_splits", "careless_splits", "recognition_splits"),
            *("feature_curve_splits", "tuning_splits"),
        ):
            config.whole(key, getattr(self, key), 0, self.splits)
        for key in ("augmentations", "feature_augmentations"):
            for name in getattr(self, key):
                config.one_of(key, name, [each for each in AUGMENTATIONS if each != "none"])
        for number in self.labels_per_class:
            config.whole("labels_per_class", number, 1)
        for number in self.blocks:
            config.whole("blocks", number, 0, 5)


def store(settings: Settings) -> Store:
    """The folder of the records that the settings name."""
    return Store.of_chapter(NAME, settings.store)


def networks(settings: Settings) -> list[Pretrained]:
    """The pretrained networks that the settings name."""
    return [_source(name) for name in settings.networks]


def _source(name: str) -> Pretrained:
    if name == AT_HAND:
        weights = at_hand("resnet18")
        return (
            Pretrained(SHEET_NETWORK) if weights == TORCHVISION else Pretrained("resnet18", weights)
        )
    architecture, _, weights = name.partition(":")
    return Pretrained(architecture, weights or TORCHVISION)


def share(values: Sequence[float]) -> Interval:
    """Mean and interval of fractions over splits, which overlap."""
    return fraction_interval(values, test_to_train=TEST_TO_TRAIN)


def plan(settings: Settings) -> list[Experiment]:
    """Every run of the chapter; those that others start from come before them."""
    runs = [
        *corners(settings),
        *frozen(settings),
        *augmented_features(settings),
        *covered_features(settings),
        *feature_curve(settings),
        *scratch(settings),
        *augmented_scratch(settings),
        *covered_scratch(settings),
        *scratch_curve(settings),
        *candidates(settings),
        *concatenated(settings),
        *fine_tuned(settings),
        *recognition(settings),
        *native(settings),
    ]
    # Some of them stand in several comparisons.
    return list(dict.fromkeys(each for run in runs for each in (*run.needs(), run)))


def corners(settings: Settings) -> list[CornerColours]:
    """The class from the colours of the corners alone."""
    return [
        CornerColours(**_common(settings, split), size=settings.size)
        for split in range(settings.splits)
    ]


def features(settings: Settings, split: int, **changed) -> FeatureClassification:
    """A classifier on features of the first network, or of another one named ``source``."""
    own = _common(settings, split) | {
        "size": settings.size,
        "source": networks(settings)[0],
        "training": _adam(settings.head_steps, HEAD_RATE),
    }
    return FeatureClassification(**own | changed)


def frozen(settings: Settings) -> list[FeatureClassification]:
    """Every network's features under an MLP and under two probes; the sheet's way of feeding it;
    and as the floor the first network with random weights."""
    first = networks(settings)[0]
    floor = Pretrained(first.architecture, RANDOM)
    runs = []
    for split in range(settings.splits):
        for source in networks(settings):
            own = {"source": source}
            runs += [
                features(settings, split, **own),
                features(settings, split, **own, readout="linear probe"),
                features(settings, split, **own, readout="kNN"),
                features(settings, split, **own, pixels="unit"),
            ]
        runs += [
            features(settings, split, feature="map"),
            features(settings, split, feature="map", pixels="unit"),
            features(settings, split, source=floor),
            features(settings, split, source=floor, readout="linear probe"),
        ]
    return runs


def augmented_features(settings: Settings) -> list[FeatureClassification]:
    """The first network's features of augmented views, with all images and with few."""
    return [
        features(settings, split, augmentation=name, labels=labels)
        for labels in ((0, FEW) if settings.feature_augmentations else ())
        for name in ("none", *settings.feature_augmentations)
        for split in range(settings.splits)
    ]


def covered_features(settings: Settings) -> list[FeatureClassification]:
    """The first network where only the middle of every image is seen, or only the corners."""
    return [
        features(settings, split, cover=cover)
        for cover in ("outside", "inside")
        for split in range(settings.splits)
    ]


def feature_curve(settings: Settings) -> list[FeatureClassification]:
    """Accuracy on frozen features against images per class."""
    return [
        features(settings, split, labels=labels, **change)
        for labels in settings.labels_per_class
        for change in ({}, {"readout": "kNN"})
        for split in range(settings.feature_curve_splits)
    ]


def small(settings: Settings, split: int, **changed) -> ScratchClassification:
    """The sheet's network on small images."""
    own = _common(settings, split) | {
        "size": settings.scratch_size,
        "training": _adam(settings.scratch_steps, SCRATCH_RATE),
    }
    return ScratchClassification(**own | changed)


def scratch(settings: Settings) -> list[ScratchClassification]:
    """The sheet's network on small images, on every split."""
    return [small(settings, split) for split in range(settings.splits)]


def native(settings: Settings) -> list[ScratchClassification]:
    """The sheet's network on images of the sheet's size."""
    recipe = _adam(settings.native_steps, SCRATCH_RATE)
    return [
        small(settings, split, size=settings.size, training=recipe)
        for split in range(settings.native_splits)
    ]


def augmented_scratch(settings: Settings) -> list[ScratchClassification]:
    """The sheet's network under each augmentation."""
    return [
        small(settings, split, augmentation=name)
        for name in settings.augmentations
        for split in range(settings.augmentation_splits)
    ]


def covered_scratch(settings: Settings) -> list[ScratchClassification]:
    """The sheet's network where only the middle is seen, or only the corners."""
    return [
        small(settings, split, cover=cover)
        for cover in ("outside", "inside")
        for split in range(settings.covered_splits)
    ]


def scratch_curve(settings: Settings) -> list[ScratchClassification]:
    """The sheet's network against images per class, with the number of steps kept."""
    return [
        small(settings, split, labels=labels)
        for labels in settings.labels_per_class
        for split in range(settings.curve_splits)
    ]


def tuned(settings: Settings, split: int, blocks: int, steps: int, **changed) -> FineTuning:
    """The first network with its trained MLP, ``blocks`` of it trained on."""
    rate = changed.pop("rate", TUNING_RATE)
    head = features(settings, split, size=settings.tuning_size, **changed)
    return FineTuning(settings.dataset, head, blocks, _adam(steps, rate))


def concatenated(settings: Settings) -> list[FineTuning]:
    """The sheet's test "without training again": under a trained MLP, and under a new one."""
    new = _adam(0, HEAD_RATE)
    return [
        tuned(settings, split, 0, 0, **change)
        for change in ({}, {"training": new})
        for split in range(settings.concatenated_splits)
    ]


def fine_tuned(settings: Settings) -> list[FineTuning]:
    """By number of unfrozen blocks; with few images; from a new head; at a careless rate."""
    steps = settings.tuning_steps
    number = (settings.splits, settings.tuning_splits, settings.deep_splits)
    runs = [
        tuned(settings, split, blocks, steps)
        for blocks in settings.blocks
        for split in range(number[min(blocks, 2)])
    ]
    runs += [
        tuned(settings, split, 1, steps, **change)
        for change in (
            {"rate": CARELESS_RATE},
            {"rate": CARELESS_RATE, "training": _adam(0, HEAD_RATE)},
        )
        for split in range(settings.careless_splits)
    ]
    return runs + [
        tuned(settings, split, 1, steps, labels=labels)
        for labels in settings.labels_per_class
        for split in range(settings.curve_splits)
    ]


def recognition(settings: Settings) -> list[Recognition]:
    """New photographs as files, on the network that ``fewlabels classify`` uses."""
    return [
        Recognition(settings.dataset, recogniser(settings, split))
        for split in range(settings.recognition_splits)
    ]


def recogniser(settings: Settings, split: int = 0) -> FeatureClassification:
    """The run whose MLP names new photographs."""
    return features(settings, split)


SCRATCH_CANDIDATES = {
    "as in the sheet": {},
    "rate 0.0003": {"rate": 3e-4},
    "rate 0.003": {"rate": 3e-3},
    "three convolutions": {"filters": (32, 64, 64)},
    "half the filters": {"filters": (16, 32)},
    "dropout 0.5": {"dropout": 0.5},
}


def candidates(settings: Settings) -> list[Experiment]:
    """What was compared on validation images: the sheet's network and its training (section 1.3),
    the rates of the MLP and of fine-tuning."""
    runs: list[Experiment] = []
    for split in range(CHOICE, CHOICE + settings.choice_splits):
        held = {"scored_on": "validation"}
        for change in SCRATCH_CANDIDATES.values():
            own = dict(change)
            recipe = _adam(settings.scratch_steps, own.pop("rate", SCRATCH_RATE), points=5)
            runs.append(small(settings, split, training=recipe, **own, **held))
        longer = _adam(settings.long_steps, SCRATCH_RATE, points=20)
        runs.append(small(settings, split, training=longer, **held))
        for rate in (3e-4, 1e-3, 3e-3):
            recipe = _adam(settings.head_steps, rate, points=5)
            runs.append(features(settings, split, training=recipe, **held))
        runs += [
            tuned(settings, split, 1, settings.tuning_steps, rate=rate, **change, **held)
            for change in ({}, {"training": _adam(0, HEAD_RATE)})
            for rate in (TUNING_RATE, CARELESS_RATE)
        ]
    return runs


def _common(settings: Settings, split: int) -> dict:
    return {"dataset": settings.dataset, "classes": tuple(settings.classes), "split": split}


def _adam(steps: int, rate: float, points: int = 1) -> Recipe:
    return Recipe(steps, BATCH, rate, evaluations=min(points, steps))
