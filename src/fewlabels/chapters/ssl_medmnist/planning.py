"""The parameters of chapter 5 and every run it needs, at two budgets.

``source`` is the source's own, for a graphics card; ``reduced`` is what two CPU cores finish in
some fifteen hours: fewer epochs, and transformers with the same 49 patches but fewer and narrower
blocks. What is smaller is said here (`REDUCED_EPOCHS`, `FINE_TUNING_EPOCHS`) and in
`fewlabels.pretext.methods.NARROW`. Supervised networks, and heads on frozen backbones, take the
source's epochs in both.

A pretraining is one run whose weights stay in the cache; every classifier that starts from it needs
it. Draw d of the labels goes with the pretraining of seed d: all methods are paired by draw.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fewlabels import config, data
from fewlabels.data import medmnist
from fewlabels.errors import UserError
from fewlabels.experiments.ssl import Classification, DuplicateSearch, Pretraining
from fewlabels.pretext.methods import METHODS, backbone_name
from fewlabels.runs import Experiment, Store
from fewlabels.training import Course

NAME = "ssl-medmnist"
DATASETS = (*medmnist.SINGLE_LABEL, "cells")
SOURCE_METHODS = ("simclr", "moco", "aim", "mae")
QUARTER = 0.25
FRACTIONS = (1.0, QUARTER)
SOURCE_EPOCHS = 100
REDUCED_EPOCHS = 25
FINE_TUNING_EPOCHS = {1.0: 15, QUARTER: 30}
"""In protocol ``reduced``, by the share of labels, beside 25 of pretraining."""
LONGER = (10, 50, 100)
"""Epochs beside 25 at which one method and its control show what the smaller budget costs."""
RANDOM = {
    "resnet18": "simclr",
    "vit-b32": "mae",
    "vit-narrow": "mae",
    "aim": "aim",
    "aim-narrow": "aim",
}
"""Untrained backbones, the controls of the pretrained ones, and a method that has them."""
STATIC_RATES = (1e-3, 1e-4)
CHOICE_DRAW = 1000
TWICE = "twice the epochs"


@dataclass(frozen=True)
class Settings:
    """The notebook's parameters. The defaults are the profile ``full``."""

    blood: str = "bloodmnist"
    """The balanced data set of the source; any single-label MedMNIST set may take its place,
    or the generated ``cells``."""
    derma: str = "dermamnist"
    """The unbalanced one."""
    store: Literal["results", "cache"] = "results"
    """Where the records are: the book's own, or the reader's."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """32 bits as in the source, which lets the products of its card be rounded; so do we."""
    workers: int = 0
    """Runs at once, also on one graphics card; 0 means one per CPU core."""
    minutes: float = 0.0
    """No run is started later than this after the first one; 0 starts none and shows what is
    there, a negative number is no limit."""
    budget: Literal["reduced", "source"] = "reduced"
    """Which of the two budgets the runs are made with, and the tables read."""
    seeds: int = 3
    """Draws of every method in the source's grid."""
    side_seeds: int = 3
    """Draws of the small comparisons: blur, epochs, rates, ResNet-34, extra cells, imbalance."""
    tuned_seeds: int = 3
    choice_seeds: int = 2
    """Draws behind the choices of protocol ``tuned``, scored on validation images."""
    methods: list[str] = field(
        default_factory=lambda: ["simclr", "moco", "aim", "mae", "rotation", "vicreg"]
    )
    fractions: list[float] = field(default_factory=lambda: [0.01, 0.05, 0.1, 0.25, 1.0])
    """Shares of the training labels in the curves of protocol ``tuned``."""
    epochs: int = 100
    """Of supervised networks, of heads on frozen backbones and, with ``budget`` source, of
    pretraining and fine-tuning; MAE takes half of them."""
    reduced_epochs: int = 25
    """Of pretraining with ``budget`` reduced; fine-tuning takes three fifths of them with all
    labels and twice that with a quarter."""
    tuned_epochs: int = 200
    """Of pretraining in protocol ``tuned``; MAE and AIM take twice as many, rotation half."""
    tuned_class_epochs: int = 100
    images: int = 0
    """At most this many training images, the first ones; 0 takes all."""
    tiny: bool = False
    """Networks that a test can train."""

    def __post_init__(self):
        for key in ("blood", "derma"):
            name = getattr(self, key)
            if name in list(medmnist.SETS):
                data.train_size(name)  # says why one with several labels per image is refused
            config.one_of(key, name, DATASETS)
        config.literals(self)
        config.finite("minutes", self.minutes, "a number, negative for no limit")
        for key in ("workers", "seeds", "side_seeds", "tuned_seeds", "choice_seeds", "images"):
            config.whole(key, getattr(self, key), 0)
        for key in ("epochs", "reduced_epochs", "tuned_epochs", "tuned_class_epochs"):
            config.whole(key, getattr(self, key), 1)
        for key in ("methods", "fractions"):
            if not isinstance(getattr(self, key), list):
                raise UserError(f"{key} is {getattr(self, key)!r}; allowed: a list")
        if not self.methods:
            raise UserError(f"methods is []; allowed: one or more of {', '.join(METHODS)}")
        for method in self.methods:
            config.one_of("methods", method, METHODS)
        for fraction in self.fractions:
            config.positive("fractions", fraction)
            if fraction > 1:
                raise UserError(f"fractions holds {fraction}; allowed: above 0 and at most 1")

    @property
    def grid(self) -> str:
        """The protocol of the source's grid at this budget."""
        return "reduced" if self.budget == "reduced" else "report"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The names of both data sets, or of the one that plays both parts."""
        return tuple(dict.fromkeys((self.blood, self.derma)))


def store(settings: Settings) -> Store:
    """The folder of the records that the settings name."""
    return Store.of_chapter(NAME, settings.store)


def plan(settings: Settings) -> list[Experiment]:
    """Every run of the chapter at its budget, each once, in the order in which they are made.

    A pretraining is followed by its classifiers: its weights lie in the cache, which may not
    outlive the machine.
    """
    searches: list[Experiment] = [DuplicateSearch(dataset) for dataset in settings.datasets]
    own = reduced_plan(settings) if settings.budget == "reduced" else source_plan(settings)
    return list(dict.fromkeys([*searches, *_with_needs(own)]))


def beyond(settings: Settings) -> list[Experiment]:
    """What the source's own budget still asks for where the plan is the reduced one."""
    if settings.budget == "source":
        return []
    planned = {*plan(settings)}
    return [run for run in plan(replace(settings, budget="source")) if run not in planned]


def _with_needs(runs: Sequence[Experiment]) -> list[Experiment]:
    return [each for run in runs for each in (*run.needs(), run)]


def reduced_plan(settings: Settings) -> list[Experiment]:
    """All draws of a method and its control before the next method: a stop leaves whole claims."""
    runs: list[Experiment] = []
    draws = range(settings.seeds)
    parts = [("moco", "simclr"), ("mae",), ("aim",), ("rotation", "vicreg")]
    for methods in parts:
        methods = [method for method in methods if method in settings.methods]
        for dataset in settings.datasets:
            for draw in draws:
                runs += [supervised(settings, dataset, fraction, draw) for fraction in FRACTIONS]
            for method in methods:
                network = backbone_name(method, "reduced")
                for draw in draws:
                    runs += classifiers(settings, pretraining(settings, dataset, method, draw))
                for draw in draws:
                    runs += classifiers(settings, untrained(settings, dataset, network, draw))
    if "moco" in settings.methods:
        runs += budget_runs(settings)
    for draw in draws:
        for dataset in settings.datasets:
            starts = [pretraining(settings, dataset, m, draw) for m in settings.methods]
            starts += [untrained(settings, dataset, each, draw) for each in floored(settings)]
            runs += [
                run for start in starts for f in FRACTIONS for run in readouts(settings, start, f)
            ]
    for draw in range(settings.side_seeds):
        runs += side_runs(settings, draw)
    return runs


def source_plan(settings: Settings) -> list[Experiment]:
    """The source's own grid draw by draw, then what it lacks."""
    own = [method for method in settings.methods if method in SOURCE_METHODS]
    others = [method for method in settings.methods if method not in SOURCE_METHODS]
    parts: list[tuple[int, Callable[[int], list[Experiment]]]] = [
        (settings.seeds, lambda draw: report_runs(settings, draw, own)),
        (settings.seeds, lambda draw: report_runs(settings, draw, others)),
        (settings.seeds, lambda draw: floor_runs(settings, draw)),
        (settings.side_seeds, lambda draw: side_runs(settings, draw)),
        (settings.choice_seeds, lambda draw: candidates(settings, draw)),
        (settings.tuned_seeds, lambda draw: tuned_runs(settings, draw)),
    ]
    return [run for count, part in parts for draw in range(count) for run in part(draw)]


def classifiers(settings: Settings, start: Pretraining) -> list[Experiment]:
    """The source's classifier on one backbone, frozen and fine-tuned, at both shares of labels."""
    return [
        classifier(settings, start, backbone, fraction)
        for fraction in FRACTIONS
        for backbone in FROZEN_AND_TUNED
    ]


def budget_runs(settings: Settings) -> list[Experiment]:
    """MoCo and its control on the balanced set, one draw, at other numbers of epochs."""
    runs: list[Experiment] = []
    for epochs in LONGER:
        longer = replace(settings, reduced_epochs=max(1, settings.reduced_epochs * epochs // 25))
        said = f"{epochs} epochs"
        runs += classifiers(longer, pretraining(longer, settings.blood, "moco", 0, variant=said))
        control = classifiers(longer, untrained(settings, settings.blood, "resnet18", 0))
        runs += [replace(run, variant=said) for run in control]
    return runs


def pretraining(
    settings: Settings,
    dataset: str,
    method: str,
    seed: int,
    protocol: str = "",
    **changes: Any,
) -> Pretraining:
    """A method's pretraining, in a protocol's own network and course unless ``changes`` differ.

    Without a ``protocol`` it is the grid's.
    """
    protocol = protocol or settings.grid
    course = METHODS[method].COURSES["tuned" if protocol == "tuned" else "report"]
    epochs = {
        "report": _share(settings.epochs, course.epochs),
        "reduced": settings.reduced_epochs,
        "tuned": _share(settings.tuned_epochs, course.epochs, 200),
    }[protocol]
    network = backbone_name(method, protocol)
    given = {"network": network, "course": replace(course, epochs=epochs)} | changes
    return Pretraining(
        dataset, protocol, method, seed=seed, images=settings.images, tiny=settings.tiny, **given
    )


def _share(epochs: int, own: int, usual: int = SOURCE_EPOCHS) -> int:
    """``epochs`` for a course that takes ``own`` where others take ``usual``."""
    return max(1, epochs * own // usual)


def untrained(settings: Settings, dataset: str, network: str, seed: int) -> Pretraining:
    """The floor: a backbone with its initial weights."""
    return pretraining(
        settings,
        dataset,
        RANDOM[network],
        seed,
        network=network,
        course=Course(epochs=0, rate=0.1, evaluations=0),
    )


def floored(settings: Settings) -> list[str]:
    """The backbones of the grid that some of the methods have."""
    used = {backbone_name(method, settings.grid) for method in settings.methods}
    return [network for network in RANDOM if network in used]


def classifier(
    settings: Settings,
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
    mae = start.method == "mae" and start.course.epochs > 0
    epochs = _share(settings.epochs, 50 if mae else 100)
    if start.protocol == "reduced" and backbone == "fine-tuned":
        epochs = _share(settings.reduced_epochs, FINE_TUNING_EPOCHS[fraction], REDUCED_EPOCHS)
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
        images=settings.images,
        tiny=settings.tiny,
    )


def supervised(
    settings: Settings, dataset: str, fraction: float, draw: int, variant: str = "", **changes: Any
) -> Classification:
    """The source's supervised model: a ResNet-18, its rate halved every twenty epochs.

    ``changes`` of its course make a ``variant``.
    """
    course = Course(settings.epochs, rate=0.05, schedule="halved", drop_last=False)
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
        images=settings.images,
        tiny=settings.tiny,
    )


def report_runs(settings: Settings, draw: int, methods: Sequence[str]) -> list[Experiment]:
    """The source's grid for some methods: both data sets, all labels and a quarter of them."""
    runs: list[Experiment] = []
    for dataset in settings.datasets:
        runs += [supervised(settings, dataset, fraction, draw) for fraction in FRACTIONS]
        for method in methods:
            start = pretraining(settings, dataset, method, draw)
            for fraction in FRACTIONS:
                runs += [
                    classifier(settings, start, "frozen", fraction),
                    classifier(settings, start, "fine-tuned", fraction),
                    *readouts(settings, start, fraction),
                ]
                if method in ("simclr", "moco"):
                    runs.append(classifier(settings, start, "frozen", fraction, moving=True))
                if start.network == "aim":
                    runs += [
                        classifier(settings, start, backbone, fraction, positions=False)
                        for backbone in ("frozen", "fine-tuned")
                    ]
    return runs


def floor_runs(settings: Settings, draw: int) -> list[Experiment]:
    """What the frozen backbones of the grid do before any training."""
    runs: list[Experiment] = []
    for dataset in settings.datasets:
        for network in floored(settings):
            start = untrained(settings, dataset, network, draw)
            for fraction in FRACTIONS:
                runs.append(classifier(settings, start, "frozen", fraction))
                runs += readouts(settings, start, fraction)
    return runs


def readouts(settings: Settings, start: Pretraining, fraction: float) -> list[Experiment]:
    """A linear probe and nearest neighbours in place of the source's head."""
    return [
        classifier(settings, start, "frozen", fraction, readout=readout, positions=False)
        for readout in ("linear probe", "kNN")
    ]


def side_runs(settings: Settings, draw: int) -> list[Experiment]:
    """What claims S13 to S15 and S17 to S19 need beyond the grid, on the balanced data set."""
    dataset = settings.blood
    runs: list[Experiment] = [
        supervised(settings, dataset, 1.0, draw, TWICE, epochs=2 * settings.epochs),
        *(
            supervised(
                settings,
                dataset,
                1.0,
                draw,
                f"static rate {rate:g}",
                rate=rate,
                schedule="constant",
            )
            for rate in STATIC_RATES
        ),
    ]
    contrastive = [method for method in ("simclr", "moco") if method in settings.methods]
    for method in contrastive:
        blurred = pretraining(settings, dataset, method, draw, blur=True)
        runs += [classifier(settings, blurred, backbone, 1.0) for backbone in FROZEN_AND_TUNED]
    if "moco" in settings.methods:
        deeper = pretraining(settings, dataset, "moco", draw, network="resnet34")
        runs += [
            classifier(settings, deeper, backbone, fraction)
            for fraction in (1.0, QUARTER)
            for backbone in FROZEN_AND_TUNED
        ]
        if dataset == "bloodmnist":
            more = pretraining(settings, dataset, "moco", draw, extra="bccd")
            runs += [
                classifier(settings, more, "fine-tuned", fraction) for fraction in (1.0, QUARTER)
            ]
    for method in contrastive:
        for kind in ("balanced", "unbalanced"):
            start = pretraining(settings, dataset, method, draw, subset=kind)
            runs += [
                classifier(settings, start, backbone, QUARTER) for backbone in FROZEN_AND_TUNED
            ]
    return runs


FROZEN_AND_TUNED = ("frozen", "fine-tuned")


def tuned_runs(settings: Settings, draw: int) -> list[Experiment]:
    """Our protocol over the fractions of labels: from scratch, fine-tuned, and linear probes."""
    runs: list[Experiment] = []
    for dataset in settings.datasets:
        starts = [
            pretraining(settings, dataset, method, draw, "tuned") for method in settings.methods
        ]
        for fraction in sorted({*settings.fractions}):
            runs.append(tuned(settings, dataset, None, fraction, draw))
            for start in starts:
                runs += [
                    tuned(settings, dataset, start, fraction, draw),
                    probe(settings, start, fraction, draw),
                ]
    return runs


TUNED_RATE = {"resnet18-small": 0.05, "vit-28": 3e-4, "aim-tuned": 3e-4}
"""Learning rates of protocol ``tuned``: SGD for the convolutions, AdamW for the transformers."""


def tuned(
    settings: Settings,
    dataset: str,
    start: Pretraining | None,
    fraction: float,
    draw: int,
    rate: float | None = None,
    augmented: bool = True,
    scored_on: str = "test",
) -> Classification:
    """Our classifier, from scratch or fine-tuned."""
    network = "resnet18-small" if start is None else start.network
    rate = rate or TUNED_RATE[network]
    course = Course(settings.tuned_class_epochs, rate, nesterov=True, weight_decay=5e-4)
    if network != "resnet18-small":
        course = replace(course, optimiser="adamw", weight_decay=0.05)
    return Classification(
        dataset,
        "tuned",
        "scratch" if start is None else "fine-tuned",
        network,
        fraction,
        draw,
        replace(course, schedule="cosine"),
        pretraining=start,
        augmented=augmented,
        weighted=False,
        scored_on=scored_on,
        images=settings.images,
        tiny=settings.tiny,
    )


def probe(settings: Settings, start: Pretraining, fraction: float, draw: int) -> Classification:
    """A linear probe on the frozen backbone."""
    return Classification(
        start.dataset,
        "tuned",
        "frozen",
        start.network,
        fraction,
        draw,
        Course(0, rate=0.1, evaluations=0),
        pretraining=start,
        readout="linear probe",
        images=settings.images,
        tiny=settings.tiny,
    )


def candidates(settings: Settings, draw: int) -> list[Experiment]:
    """What is compared on validation images before protocol ``tuned`` is scored on test images."""
    runs: list[Experiment] = []
    draw += CHOICE_DRAW
    for dataset in settings.datasets:
        for augmented in (False, True):
            for rate in (0.02, 0.05, 0.1):
                runs.append(
                    tuned(settings, dataset, None, QUARTER, draw, rate, augmented, "validation")
                )
        for method in settings.methods:
            start = pretraining(settings, dataset, method, draw, "tuned")
            usual = TUNED_RATE[start.network]
            runs += [
                tuned(settings, dataset, start, QUARTER, draw, rate, True, "validation")
                for rate in (usual / 3, usual)
            ]
    return runs
