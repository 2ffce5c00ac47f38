"""Chapter 3: what it may be told, and what it trains.

Settings of protocol ``tuned`` were chosen on training images held out from training (runs with
``scored_on="validation"``), never on the test set.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fewlabels import data
from fewlabels.data.chest_xray import OFFICIAL
from fewlabels.data.xrays import CLASSES, tell_kinds
from fewlabels.errors import UserError
from fewlabels.kinds.chest_xray import HELD_OUT, HeadTraining
from fewlabels.kinds.xray_networks import NetworkTraining, ReportFineTuning
from fewlabels.kinds.xray_questions import DomainShift, Heatmaps, UnmatchedImages
from fewlabels.learn.training import Recipe
from fewlabels.nets.maps import last_maps
from fewlabels.nets.pretrained import NORMALISATIONS, RESNETS, Pretrained, at_hand
from fewlabels.runs.parameters import OwnImages, Parameters, Range, Repeats, Some, SomeRepeats
from fewlabels.runs.records import Experiment, Store

NAME = "chest-xray-transfer"
DATASETS = (
    *("chest_xray", "pneumonia", "pneumonia_64", "pneumonia_128", "pneumonia_224"),
    "generated_xrays",
)
NAMED = ("chest_xray", "generated_xrays")
"""Data sets whose files' names tell the patient and the kind of pneumonia."""
KAGGLE_TEST = OFFICIAL[0][1]
BATCH = 32
TUNED_BATCH = 128

Side = Annotated[int, Range(32, 1024)]
"""Pixels a side of an image."""


@dataclass(frozen=True, kw_only=True)
class Settings(Parameters):
    """The notebook's parameters. Numbers of seeds that may be 0 leave their runs out then."""

    dataset: Literal[DATASETS] | OwnImages
    """The X-rays: the report's, PneumoniaMNIST at a size, generated ones, or the path of your own
    images of two classes (path@224 brings a folder's to 224 pixels)."""
    architecture: str
    """The frozen backbone: any classifier of torchvision, by name."""
    weights: str
    """Its weights: ``torchvision`` (downloaded), a file, ``random``, or ``auto``: a known file that
    is here, else torchvision's."""
    normalisation: Literal[tuple(NORMALISATIONS)]
    """Input normalisation of a weight file of the reader's own."""
    size: Side
    """Pixels a side that the frozen backbone sees."""
    crops: Some
    """Random crops of every training image in protocol ``report``, shared by the epochs."""
    test_crops: Some
    """Random crops of every test image there; seeds take turns over them."""
    seeds: SomeRepeats
    """Of runs on frozen features."""
    epochs: Some
    """Of the head in protocol ``report``."""
    tuned_epochs: Some
    """Of the head in protocol ``tuned``."""
    choice_draws: SomeRepeats
    """Splits behind the choices of protocol ``tuned``, on held-out training images."""
    three_class_seeds: Repeats
    """Of the task normal, bacterial, viral."""
    cnn_size: Side
    """Pixels a side of the report's network of ten convolutions; the report: 224."""
    cnn_epochs: Some
    """Of the network of ten convolutions; the report: 15."""
    cnn_seeds: Repeats
    """Of the network of ten convolutions."""
    cnn_weighted_seeds: Repeats
    """Of the same with class weights."""
    fine_tuned: str
    """The ResNet whose last block, or all layers, are trained."""
    fine_tuned_weights: str
    """Its weights, named as those of the frozen backbone are."""
    fine_tuned_size: Side
    """Pixels a side that it sees."""
    fine_tuned_epochs: Some
    """Of its last block, and of all its layers."""
    fine_tuned_seeds: Repeats
    """Of its last block, on stored outputs of the layers before, and of a head on it."""
    all_layers_seeds: Repeats
    """Of all its layers."""
    report_all_seeds: Repeats
    """Of protocol ``report`` with all layers of the smaller ResNet trained, in either mode of
    batch norm."""
    report_all_size: Side
    """Pixels a side there."""
    small_size: Side
    """Pixels a side of our network from scratch."""
    small_steps: Some
    """Its steps with few labels; with all labels twice as many, of twice the images."""
    small_seeds: SomeRepeats
    """Of our network from scratch."""
    label_numbers: list[Annotated[int, Range(2, 2000)]]
    """Labelled images on the learning curve, half of them normal, beside all of them."""
    curve_steps: Some
    """Steps of a head with few labels."""
    shift_seeds: SomeRepeats
    """Of the folds that tell training from test images."""
    unmatched: bool
    """Look for the PneumoniaMNIST test images that no file was matched to."""

    def __post_init__(self):
        super().__post_init__()
        if not self.fine_tuned.startswith(RESNETS):
            raise UserError(
                f"fine_tuned is {self.fine_tuned!r}; allowed: a ResNet of torchvision, as resnet18"
            )
        if self.three_class_seeds and self.dataset not in NAMED:
            raise UserError(
                f"three_class_seeds is {self.three_class_seeds}, but {self.dataset} does not say "
                "which pneumonia; allowed: 0"
            )
        if self.unmatched and self.dataset != "chest_xray":
            raise UserError(f"unmatched goes with dataset=chest_xray, not with {self.dataset}")
        if odd := [number for number in self.label_numbers if number % 2]:
            raise UserError(f"label_numbers has {odd[0]}; allowed: even numbers")
        # Names the parameter at fault before anything is computed.
        frozen_source(self), fine_tuned_source(self)
        last_maps(self.architecture, self.size)


def store(s: Settings) -> Store:
    return Store.of_chapter(NAME, s.store)


def frozen_source(s: Settings) -> Pretrained:
    """Architecture and weights of the frozen backbone."""
    return _source(s, s.architecture, s.weights)


def fine_tuned_source(s: Settings) -> Pretrained:
    """Architecture and weights of the ResNet that is fine-tuned."""
    return _source(s, s.fine_tuned, s.fine_tuned_weights)


def _source(s: Settings, architecture: str, weights: str) -> Pretrained:
    known = at_hand(architecture) if weights == "auto" else weights
    return Pretrained(architecture, known, s.normalisation)


def plan(s: Settings) -> list[Experiment]:
    """Every run of the chapter. UserError for what the images of a reader's own folder lack."""
    if found := data.file_names(s.dataset):
        _check_folder(s, found)
    first = tuned_head(s)
    found = [
        *report_heads(s),
        *tuned_heads(s),
        *few_labels(s),
        *candidates(s),
        *(replace(first, seed=seed, classes=3) for seed in range(s.three_class_seeds)),
        *shifts(s),
        Heatmaps(s.dataset, first, layer=last_maps(s.architecture, s.size)),
        *([UnmatchedImages(s.dataset)] if s.unmatched else []),
        *ten_convolutions(s),
        *small_networks(s),
        *fine_tuned(s),
    ]
    # With one ResNet for both, some runs would be there twice.
    return list(dict.fromkeys(found))


def _check_folder(s: Settings, found: dict[str, tuple[str, ...]]) -> None:
    labels = {part: [int(not f.startswith(CLASSES[0])) for f in found[part]] for part in found}
    if s.three_class_seeds and not all(tell_kinds(found[p], labels[p]) for p in found):
        raise UserError(
            f"three_class_seeds is {s.three_class_seeds}, but the names of the files do not say "
            "which pneumonia; allowed: 0"
        )
    if s.unmatched and len(found["test"]) != KAGGLE_TEST:
        raise UserError("unmatched is true, but these are not Kaggle's images; allowed: false")
    ill = sum(labels["train"])
    most = 2 * int((1 - HELD_OUT) * min(ill, len(labels["train"]) - ill))
    if max(s.label_numbers, default=0) > most:
        raise UserError(
            f"label_numbers is {s.label_numbers}; allowed with these images: at most {most}"
        )


def report_heads(s: Settings) -> Iterator[HeadTraining]:
    """The report's transfer: crops in evaluation as printed, balanced, and without crops."""
    whole = HeadTraining(
        *(s.dataset, "report", 0, report_recipe(s)),
        by_patient=False,
        source=frozen_source(s),
        size=s.size,
    )
    cropped = replace(whole, train_view="crop", crops=s.crops)
    printed = replace(cropped, test_view="crop", test_crops=s.test_crops)
    for seed in range(s.seeds):
        for balance in ("none", "weights", "sampling"):
            yield replace(printed, seed=seed, balance=balance)
        yield from (replace(cropped, seed=seed), replace(whole, seed=seed))


def tuned_heads(s: Settings) -> Iterator[HeadTraining]:
    """Our head on whole images: as it is, balanced, split by image, and on the smaller ResNet."""
    first = tuned_head(s)
    for seed in range(s.seeds):
        for balance in ("none", "weights", "sampling"):
            yield replace(first, seed=seed, balance=balance)
        yield replace(first, seed=seed, by_patient=False)
    smaller = {"source": fine_tuned_source(s), "size": s.fine_tuned_size}
    for seed in range(s.fine_tuned_seeds):
        yield replace(first, seed=seed, **smaller)


def few_labels(s: Settings) -> Iterator[HeadTraining]:
    """Our head with few labels."""
    recipe = replace(tuned_recipe(s.curve_steps, BATCH), evaluations=1)
    for labels in s.label_numbers:
        for seed in range(s.seeds):
            yield replace(tuned_head(s), seed=seed, training=recipe, labels=labels)


def candidates(s: Settings) -> Iterator[HeadTraining]:
    """What was compared to settle the head of protocol tuned, on splits that no test run uses."""
    first = replace(tuned_head(s), scored_on="validation")
    for seed in range(1000, 1000 + s.choice_draws):
        for rate in (0.0003, 0.001, 0.01):
            for decay in (0.01, 1.0):
                recipe = replace(first.training, rate=rate, weight_decay=decay, evaluations=1)
                yield replace(first, seed=seed, training=recipe)


def shifts(s: Settings) -> Iterator[DomainShift]:
    """Training against test images of one class, and the control."""
    for label in (0, 1):
        for control in (False, True):
            for seed in range(s.shift_seeds):
                yield DomainShift(s.dataset, seed, label, control, frozen_source(s), s.size)


def ten_convolutions(s: Settings) -> Iterator[NetworkTraining]:
    """The report's network from scratch, as printed and with class weights."""
    steps = s.cnn_epochs * batches(s, BATCH)
    recipe = Recipe(steps, BATCH, rate=0.001, evaluations=s.cnn_epochs)
    own = {"by_patient": False, "network": "ten convolutions", "size": s.cnn_size}
    for balance, seeds in (("none", s.cnn_seeds), ("weights", s.cnn_weighted_seeds)):
        for seed in range(seeds):
            yield NetworkTraining(s.dataset, "report", seed, recipe, balance, **own)


def small_networks(s: Settings) -> Iterator[NetworkTraining]:
    """Our network from scratch, by number of labels, and with all of them and class weights."""
    own = {"network": "small", "size": s.small_size, "augmented": True}
    for labels in (*s.label_numbers, 0):
        steps, batch = (s.small_steps, BATCH) if labels else (2 * s.small_steps, 2 * BATCH)
        recipe = replace(tuned_recipe(steps, batch), rate=0.003, evaluations=min(3, steps))
        for seed in range(s.small_seeds):
            run = NetworkTraining(s.dataset, "tuned", seed, recipe, labels=labels, **own)
            yield from [run] if labels else [run, replace(run, balance="weights")]


def fine_tuned(s: Settings) -> Iterator[NetworkTraining]:
    """Trained layers of the smaller ResNet: all in protocol report, with batch norm in both modes;
    the last block, and all, at a tenth of the head's rate in protocol tuned."""
    own = {"source": fine_tuned_source(s), "network": "all layers"}
    for seed in range(s.report_all_seeds):
        whole = ReportFineTuning(
            *(s.dataset, "report", seed, report_recipe(s)),
            by_patient=False,
            size=s.report_all_size,
            **own,
        )
        yield from (whole, replace(whole, moving=True))
    steps = s.fine_tuned_epochs * batches(s, BATCH)
    recipe = replace(tuned_recipe(steps, BATCH), evaluations=min(s.fine_tuned_epochs, steps))
    for network, seeds in (("last block", s.fine_tuned_seeds), ("all layers", s.all_layers_seeds)):
        own |= {"network": network, "augmented": network == "all layers"}
        for seed in range(seeds):
            yield NetworkTraining(s.dataset, "tuned", seed, recipe, size=s.fine_tuned_size, **own)


def tuned_head(s: Settings) -> HeadTraining:
    """The head of protocol tuned with all labels, of the first seed."""
    steps = s.tuned_epochs * batches(s, TUNED_BATCH)
    recipe = replace(tuned_recipe(steps, TUNED_BATCH), evaluations=min(10, steps))
    return HeadTraining(s.dataset, "tuned", 0, recipe, source=frozen_source(s), size=s.size)


def report_recipe(s: Settings) -> Recipe:
    steps = s.epochs * batches(s, BATCH)
    return Recipe(steps, BATCH, rate=0.001, optimiser="plain sgd", evaluations=s.epochs)


def tuned_recipe(steps: int, batch: int) -> Recipe:
    own = {"optimiser": "adamw", "weight_decay": 0.01, "schedule": "cosine"}
    return Recipe(steps, batch, rate=0.001, evaluations=0, **own)


def batches(s: Settings, batch: int) -> int:
    """Batches in an epoch of the images that are not held out."""
    return -(-round((1 - HELD_OUT) * data.train_size(s.dataset)) // batch)
