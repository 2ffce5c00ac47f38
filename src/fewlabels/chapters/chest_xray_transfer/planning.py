"""The parameters of chapter 3 and every run it needs.

Settings of protocol ``tuned`` were chosen on training images held out from training (runs with
``scored_on="validation"``), never on the test set.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from fewlabels import config, data
from fewlabels.errors import UserError
from fewlabels.experiments.chest_xray import (
    HELD_OUT,
    DomainShift,
    HeadTraining,
    Heatmaps,
    NetworkTraining,
    ReportFineTuning,
    UnmatchedImages,
)
from fewlabels.models.pretrained import NORMALISATIONS, Pretrained, at_hand
from fewlabels.runs import Experiment, Store
from fewlabels.training import Recipe

NAME = "chest-xray-transfer"
DATASETS = (
    "chest_xray",
    "pneumonia",
    "pneumonia_64",
    "pneumonia_128",
    "pneumonia_224",
    "generated_xrays",
)
NAMED = ("chest_xray", "generated_xrays")
"""Data sets whose files' names tell the patient and the kind of pneumonia."""
AUTO = "auto"
BATCH = 32
TUNED_BATCH = 128


@dataclass(frozen=True)
class Settings:
    """The notebook's parameters. The defaults are the profile ``full``."""

    dataset: Literal[DATASETS] = "chest_xray"
    store: Literal["results", "cache"] = "results"
    """Where the records are: the book's own, or the reader's."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    workers: int = 0
    """Runs at once; 0 means one per CPU core."""
    architecture: str = "resnet50"
    """The frozen backbone: any classifier of torchvision, by name."""
    weights: str = "resnet50_imagenet_pq.pth.xz"
    """Its weights: ``torchvision`` (downloaded), a file, ``random``, or ``auto``: a known file that
    is here, else torchvision's."""
    normalisation: Literal[tuple(NORMALISATIONS)] = "imagenet"
    """Input normalisation of a weight file of the reader's own."""
    size: int = 224
    """Pixels a side that it sees."""
    crops: int = 1
    """Random crops of every training image in protocol ``report``, shared by the epochs."""
    test_crops: int = 2
    """Random crops of every test image there; seeds take turns over them."""
    seeds: int = 10
    """Of runs on frozen features."""
    epochs: int = 3
    """Of the head in protocol ``report``."""
    tuned_epochs: int = 20
    """Of the head in protocol ``tuned``."""
    choice_draws: int = 3
    """Splits behind the choices of protocol ``tuned``, on held-out training images."""
    three_class_seeds: int = 5
    """Of the task normal, bacterial, viral; 0 leaves it out."""
    cnn_size: int = 32
    """Pixels a side of the report's network of ten convolutions; the report: 224."""
    cnn_epochs: int = 15
    cnn_seeds: int = 6
    cnn_weighted_seeds: int = 3
    """The same with class weights; 0 leaves it out."""
    fine_tuned: str = "resnet18"
    """The ResNet whose last block, or all layers, are trained."""
    fine_tuned_weights: str = "resnet18_imagenet_pq.pth.xz"
    fine_tuned_size: int = 112
    fine_tuned_epochs: int = 2
    fine_tuned_seeds: int = 5
    """Of its last block, on stored outputs of the layers before."""
    all_layers_seeds: int = 3
    """Of all its layers; 0 leaves it out."""
    report_all_seeds: int = 3
    """Of protocol ``report`` with all layers trained, on the smaller ResNet; 0 leaves it out."""
    report_all_size: int = 64
    """Pixels a side there."""
    small_size: int = 48
    """Pixels a side of our network from scratch."""
    small_steps: int = 300
    """Its steps with few labels; with all labels twice as many, of twice the images."""
    small_seeds: int = 5
    label_numbers: list[int] = field(default_factory=lambda: [20, 50, 100, 200, 500, 1000])
    """Labelled images on the learning curve, half of them normal, beside all of them."""
    curve_steps: int = 200
    """Steps of a head with few labels."""
    shift_seeds: int = 5
    unmatched: bool = True
    """Look for the PneumoniaMNIST test images that no file was matched to."""

    def __post_init__(self):
        config.literals(self)
        for key in (
            "workers",
            "three_class_seeds",
            "cnn_weighted_seeds",
            "all_layers_seeds",
            "report_all_seeds",
            "cnn_seeds",
            "fine_tuned_seeds",
        ):
            config.whole(key, getattr(self, key), 0)
        for key in ("size", "cnn_size", "fine_tuned_size", "report_all_size", "small_size"):
            config.whole(key, getattr(self, key), 32)
        for key in (
            "crops",
            "test_crops",
            "seeds",
            "epochs",
            "tuned_epochs",
            "choice_draws",
            "cnn_epochs",
            "fine_tuned_epochs",
            "small_steps",
            "small_seeds",
            "curve_steps",
            "shift_seeds",
        ):
            config.whole(key, getattr(self, key), 1)
        if not self.fine_tuned.startswith(("resnet", "resnext", "wide_resnet")):
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
        if not isinstance(self.label_numbers, list):
            raise UserError(f"label_numbers is {self.label_numbers!r}; allowed: a list of numbers")
        for number in self.label_numbers:
            config.whole("label_numbers", number, 2, 2000)
            if number % 2:
                raise UserError(f"label_numbers has {number}; allowed: even numbers")
        # Names the parameter at fault before anything is computed.
        frozen_source(self), fine_tuned_source(self)


def store(settings: Settings) -> Store:
    """The folder of the records that the settings name."""
    return Store.of_chapter(NAME, settings.store)


def frozen_source(settings: Settings) -> Pretrained:
    """Architecture and weights of the frozen backbone."""
    return _source(settings.architecture, settings.weights, settings.normalisation)


def fine_tuned_source(settings: Settings) -> Pretrained:
    """Architecture and weights of the ResNet that is fine-tuned."""
    return _source(settings.fine_tuned, settings.fine_tuned_weights, settings.normalisation)


def _source(architecture: str, weights: str, normalisation: str) -> Pretrained:
    weights = at_hand(architecture) if weights == AUTO else weights
    return Pretrained(architecture, weights, normalisation)


def plan(settings: Settings) -> list[Experiment]:
    """Every run of the chapter."""
    heads = tuned_heads(settings)
    runs = [
        *report_heads(settings),
        *heads,
        *small_heads(settings),
        *curve_heads(settings),
        *candidates(settings),
        *three_class_heads(settings),
        *shifts(settings),
        Heatmaps(settings.dataset, heads[0]),
        *([UnmatchedImages(settings.dataset)] if settings.unmatched else []),
        *report_networks(settings),
        *small_networks(settings),
        *report_fine_tuned(settings),
        *fine_tuned(settings),
    ]
    # With one ResNet for both, some runs would be there twice.
    return list(dict.fromkeys(runs))


def report_heads(settings: Settings) -> list[HeadTraining]:
    """The report's transfer: crops in evaluation as printed, without them, and balanced."""
    recipe = _report_recipe(settings)
    crops = {"crops": settings.crops, "test_crops": settings.test_crops}
    runs = []
    for seed in range(settings.seeds):
        common = {
            "dataset": settings.dataset,
            "protocol": "report",
            "seed": seed,
            "training": recipe,
            "by_patient": False,
            "source": frozen_source(settings),
            "size": settings.size,
        }
        printed = common | crops | {"train_view": "crop", "test_view": "crop"}
        runs += [
            HeadTraining(**printed),
            HeadTraining(**printed, balance="weights"),
            HeadTraining(**printed, balance="sampling"),
            HeadTraining(**common, crops=settings.crops, train_view="crop"),
            HeadTraining(**common),
        ]
    return runs


def tuned_heads(settings: Settings) -> list[HeadTraining]:
    """Our head on whole images: as it is, with weights, with sampling, and split by image."""
    runs = []
    for seed in range(settings.seeds):
        common = _tuned_head(settings, seed)
        runs += [
            HeadTraining(**common),
            HeadTraining(**common, balance="weights"),
            HeadTraining(**common, balance="sampling"),
            HeadTraining(**common, by_patient=False),
        ]
    return runs


def small_heads(settings: Settings) -> list[HeadTraining]:
    """Head only, on the backbone that is fine-tuned elsewhere, at the same size."""
    own = {"source": fine_tuned_source(settings), "size": settings.fine_tuned_size}
    return [
        HeadTraining(**_tuned_head(settings, seed) | own)
        for seed in range(settings.fine_tuned_seeds)
    ]


def curve_heads(settings: Settings) -> list[HeadTraining]:
    """Our head with few labels."""
    recipe = replace(_tuned_recipe(settings.curve_steps, BATCH), evaluations=1)
    return [
        HeadTraining(**_tuned_head(settings, seed) | {"training": recipe, "labels": labels})
        for labels in settings.label_numbers
        for seed in range(settings.seeds)
    ]


def candidates(settings: Settings) -> list[HeadTraining]:
    """What was compared on held-out training images to settle the head of protocol tuned."""
    runs = []
    for draw in range(settings.choice_draws):
        # Splits that no test run uses.
        common = _tuned_head(settings, 1000 + draw) | {"scored_on": "validation"}
        for rate in (0.0003, 0.001, 0.01):
            for decay in (0.01, 1.0):
                recipe = replace(common["training"], rate=rate, weight_decay=decay, evaluations=1)
                runs.append(HeadTraining(**common | {"training": recipe}))
    return runs


def three_class_heads(settings: Settings) -> list[HeadTraining]:
    """Normal, bacterial, viral."""
    return [
        HeadTraining(**_tuned_head(settings, seed), classes=3)
        for seed in range(settings.three_class_seeds)
    ]


def shifts(settings: Settings) -> list[DomainShift]:
    """Training against test images of one class, and the control."""
    return [
        DomainShift(settings.dataset, seed, label, control, frozen_source(settings), settings.size)
        for label in (0, 1)
        for control in (False, True)
        for seed in range(settings.shift_seeds)
    ]


def report_networks(settings: Settings) -> list[NetworkTraining]:
    """The report's ten convolutions, as printed and with class weights."""
    recipe = Recipe(
        settings.cnn_epochs * _batches(settings, BATCH),
        BATCH,
        rate=0.001,
        evaluations=settings.cnn_epochs,
    )
    return [
        NetworkTraining(
            settings.dataset,
            "report",
            seed,
            recipe,
            balance=balance,
            by_patient=False,
            network="ten convolutions",
            size=settings.cnn_size,
        )
        for balance, seeds in (
            ("none", settings.cnn_seeds),
            ("weights", settings.cnn_weighted_seeds),
        )
        for seed in range(seeds)
    ]


def small_networks(settings: Settings) -> list[NetworkTraining]:
    """Our network from scratch, by number of labels, and with all of them and class weights."""
    runs = []
    for labels in (*settings.label_numbers, 0):
        steps = settings.small_steps * (1 if labels else 2)
        recipe = _tuned_recipe(steps, BATCH if labels else 2 * BATCH, rate=0.003)
        recipe = replace(recipe, evaluations=min(3, steps))
        for seed in range(settings.small_seeds):
            run = NetworkTraining(
                settings.dataset,
                "tuned",
                seed,
                recipe,
                labels=labels,
                network="small",
                size=settings.small_size,
                augmented=True,
            )
            runs += [run] if labels else [run, replace(run, balance="weights")]
    return runs


def report_fine_tuned(settings: Settings) -> list[ReportFineTuning]:
    """The report's transfer with all layers trained, on the smaller ResNet."""
    return [
        ReportFineTuning(
            settings.dataset,
            "report",
            seed,
            _report_recipe(settings),
            by_patient=False,
            network="all layers",
            size=settings.report_all_size,
            source=fine_tuned_source(settings),
        )
        for seed in range(settings.report_all_seeds)
    ]


def fine_tuned(settings: Settings) -> list[NetworkTraining]:
    """The last block and all layers of the smaller ResNet, at a tenth of the head's rate."""
    steps = settings.fine_tuned_epochs * _batches(settings, BATCH)
    recipe = replace(
        _tuned_recipe(steps, BATCH), evaluations=min(settings.fine_tuned_epochs, steps)
    )
    return [
        NetworkTraining(
            settings.dataset,
            "tuned",
            seed,
            recipe,
            network=network,
            size=settings.fine_tuned_size,
            source=fine_tuned_source(settings),
            augmented=network == "all layers",
        )
        for network, seeds in (
            ("last block", settings.fine_tuned_seeds),
            ("all layers", settings.all_layers_seeds),
        )
        for seed in range(seeds)
    ]


def _report_recipe(settings: Settings) -> Recipe:
    return Recipe(
        settings.epochs * _batches(settings, BATCH),
        BATCH,
        rate=0.001,
        optimiser="plain sgd",
        evaluations=settings.epochs,
    )


def _tuned_head(settings: Settings, seed: int) -> dict:
    steps = settings.tuned_epochs * _batches(settings, TUNED_BATCH)
    recipe = replace(_tuned_recipe(steps, TUNED_BATCH), evaluations=min(10, steps))
    return {
        "dataset": settings.dataset,
        "protocol": "tuned",
        "seed": seed,
        "training": recipe,
        "source": frozen_source(settings),
        "size": settings.size,
    }


def _tuned_recipe(steps: int, batch_size: int, rate: float = 0.001) -> Recipe:
    return Recipe(
        steps,
        batch_size,
        rate=rate,
        optimiser="adamw",
        weight_decay=0.01,
        schedule="cosine",
        evaluations=0,
    )


def _batches(settings: Settings, batch_size: int) -> int:
    """Batches in an epoch of the images that are not held out."""
    kept = round((1 - HELD_OUT) * data.train_size(settings.dataset))
    return -(-kept // batch_size)
