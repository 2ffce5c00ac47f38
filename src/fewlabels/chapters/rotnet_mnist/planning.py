"""The parameters of chapter 1 and every run it needs.

Settings of protocol ``tuned`` were chosen on training images held out from training (runs with
``scored_on="validation"``), never on the test set.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from fewlabels import config, data
from fewlabels.errors import UserError
from fewlabels.experiments.rotnet import (
    PRETEXT_PROTOCOLS,
    CrossedSeed,
    DigitClassification,
    FeatureMap,
    MovedTurns,
    RotationPretraining,
    RotationStart,
)
from fewlabels.runs import Experiment, Store
from fewlabels.training import Recipe

NAME = "rotnet-mnist"
LABELS = 100
"""The report's number of labels: ten of every digit."""
UNLABELLED_BATCH = 128


@dataclass(frozen=True)
class Settings:
    """The notebook's parameters. The defaults are the profile ``full``."""

    dataset: Literal["mnist", "digits"] = "mnist"
    store: Literal["results", "cache"] = "results"
    """Where the records are: the book's own, or the reader's."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    workers: int = 0
    """Runs at once; 0 means one per CPU core."""
    label_draws: int = 20
    curve_draws: int = 3
    """Label draws at the other numbers of labels."""
    crossed_draws: int = 10
    """Label draws of the plain network that are each run with several seeds, to tell apart what
    is due to either."""
    crossed_seeds: int = 5
    longer_draws: int = 10
    """Label draws at 100 labels of S4L, FixMatch and the centred RotNet."""
    fixmatch_curve_draws: int = 0
    """Label draws of FixMatch at the other numbers of labels."""
    choice_draws: int = 3
    """Label draws behind the choices of protocol ``tuned``, on held-out training images."""
    tuned_draws: int = 10
    """Label draws at 100 labels in protocol ``tuned``."""
    start_seeds: int = 10
    """Seeds of which protocol ``report`` takes the first steps, to see how often it learns."""
    start_steps: int = 40
    pretraining_seeds: int = 3
    report_seeds: list[int] = field(default_factory=lambda: [0, 4, 5])
    """Pretraining seeds behind the digits of protocol ``report``: those that learned, judged by
    the validation accuracy of their first steps."""
    label_numbers: list[int] = field(default_factory=lambda: [10, 20, 50, 100, 200, 500, 1000])
    unlabelled: int = 60_000
    """Training images shown without their labels, at most."""
    pretraining_epochs: int = 1
    """Passes over the turned images in protocol ``report``; the source made 20."""
    epochs: int = 20
    """Passes over the labelled images in protocol ``report``."""
    tuned_pretraining_epochs: int = 5
    tuned_steps: int = 300
    fixmatch_steps: int = 1000

    def __post_init__(self):
        config.literals(self)
        config.whole("workers", self.workers, 0)
        config.whole("unlabelled", self.unlabelled, 100)
        config.whole("fixmatch_curve_draws", self.fixmatch_curve_draws, 0)
        for key in (
            "label_draws",
            "curve_draws",
            "longer_draws",
            "crossed_draws",
            "crossed_seeds",
            "choice_draws",
            "tuned_draws",
            "start_seeds",
            "start_steps",
            "pretraining_seeds",
            "pretraining_epochs",
            "epochs",
            "tuned_pretraining_epochs",
            "tuned_steps",
            "fixmatch_steps",
        ):
            config.whole(key, getattr(self, key), 1)
        config.distinct("report_seeds", self.report_seeds, empty=False)
        if not isinstance(self.label_numbers, list):
            raise UserError(f"label_numbers is {self.label_numbers!r}; allowed: a list of numbers")
        for seed in self.report_seeds:
            config.whole("report_seeds", seed, 0)
        for number in self.label_numbers:
            config.one_of("label_numbers", number, [*range(10, 101, 10), 200, 500, 1000])


def store(settings: Settings) -> Store:
    """The folder of the records that the settings name."""
    return Store.of_chapter(NAME, settings.store)


def plan(settings: Settings) -> list[Experiment]:
    """Every run of the chapter, the pretraining first."""
    return [
        *(run for protocol in PRETEXT_PROTOCOLS for run in pretraining(settings, protocol)),
        *starts(settings),
        *untrained(settings, "report"),
        *untrained(settings, "tuned"),
        *moved(settings),
        *maps(settings),
        *candidates(settings),
        *report_runs(settings),
        *tuned_runs(settings),
        *crossed(settings),
    ]


def pretraining(
    settings: Settings, protocol: str, scored_on: str = "test"
) -> list[RotationPretraining]:
    """One rotation pretraining per seed; in protocol ``report`` of ``report_seeds`` as well."""
    seeds = range(settings.pretraining_seeds)
    if protocol == "report":
        seeds = sorted({*seeds, *settings.report_seeds})
    images = min(settings.unlabelled, data.train_size(settings.dataset))
    if protocol == "report":
        batch = 256
        steps = settings.pretraining_epochs * -(-images * 4 * 4 // 5 // batch)
        recipe = Recipe(steps, batch, rate=0.01, evaluations=min(20, steps))
    else:
        steps = settings.tuned_pretraining_epochs * -(-images // UNLABELLED_BATCH)
        recipe = Recipe(
            steps,
            UNLABELLED_BATCH,
            rate=0.003,
            optimiser="adamw",
            weight_decay=0.01,
            schedule="cosine",
            evaluations=min(20, steps),
        )
    return [
        RotationPretraining(
            settings.dataset, protocol, seed, settings.unlabelled, recipe, scored_on
        )
        for seed in seeds
    ]


def starts(settings: Settings) -> list[RotationStart]:
    """The first steps of many seeds of protocol ``report``: how often does it learn at all?"""
    steps = settings.start_steps
    short = Recipe(steps, batch_size=256, rate=0.01, evaluations=min(4, steps))
    return [
        RotationStart(
            settings.dataset,
            RotationPretraining(settings.dataset, "report", seed, settings.unlabelled, short),
        )
        for seed in range(settings.start_seeds)
    ]


def untrained(settings: Settings, protocol: str) -> list[RotationPretraining]:
    """The floor: as many networks with their initial weights."""
    nothing = Recipe(steps=0, batch_size=1, rate=0.01, evaluations=0)
    return [
        RotationPretraining(settings.dataset, protocol, seed, settings.unlabelled, nothing)
        for seed in range(settings.pretraining_seeds)
    ]


def maps(settings: Settings) -> list[FeatureMap]:
    """Features after pretraining and before it, drawn in the plane; the first seed of each."""
    starts = [pretraining(settings, "tuned")[0], untrained(settings, "tuned")[0]]
    return [FeatureMap(settings.dataset, start) for start in starts]


def moved(settings: Settings) -> list[MovedTurns]:
    """Every pretrained network on images whose place says nothing of their turn."""
    return [
        MovedTurns(settings.dataset, run)
        for protocol in PRETEXT_PROTOCOLS
        for run in pretraining(settings, protocol)
        if protocol != "report" or run.seed in settings.report_seeds
    ]


def report_runs(settings: Settings) -> list[DigitClassification]:
    """The report's comparison at 100 labels, its floor, and what the report suggests (R8)."""
    turned = [run for run in pretraining(settings, "report") if run.seed in settings.report_seeds]
    floor = untrained(settings, "report")
    recipe = Recipe(settings.epochs, batch_size=80, rate=0.01, evaluations=settings.epochs)
    decayed = Recipe(settings.epochs, 80, rate=0.01, weight_decay=1e-3, evaluations=settings.epochs)
    runs = []
    for draw in range(settings.label_draws):
        common = {
            "dataset": settings.dataset,
            "protocol": "report",
            "labels": LABELS,
            "draw": draw,
            "training": recipe,
        }
        frozen = common | {"method": "rotnet", "backbone": "frozen"}
        own = turned[draw % len(turned)]
        runs += [
            DigitClassification(**common, method="cnn", backbone="scratch"),
            DigitClassification(**frozen, pretraining=own),
            DigitClassification(**frozen, pretraining=floor[draw % len(floor)]),
            *(
                DigitClassification(**frozen, pretraining=start[draw % len(start)], readout=readout)
                for start in (turned, floor)
                for readout in ("linear probe", "kNN")
            ),
            DigitClassification(
                **common | {"training": decayed},
                method="cnn",
                backbone="scratch",
                augmented=True,
            ),
            DigitClassification(**frozen | {"training": decayed}, pretraining=own, augmented=True),
        ]
    return runs


def crossed(settings: Settings) -> list[CrossedSeed]:
    """The report's plain network, every label draw with every seed."""
    plain = [run for run in report_runs(settings) if run.method == "cnn" and not run.augmented]
    return [
        CrossedSeed(settings.dataset, run, seed)
        for run in plain[: settings.crossed_draws]
        for seed in range(settings.crossed_seeds)
    ]


def tuned_runs(settings: Settings) -> list[DigitClassification]:
    """Our methods at 100 labels, and the curves of the main ones over the number of labels."""
    runs = []
    for labels in sorted({LABELS, *settings.label_numbers}):
        at_100 = labels == LABELS
        for draw in range(settings.tuned_draws if at_100 else settings.curve_draws):
            runs += supervised(settings, labels, draw)
        for draw in range(settings.longer_draws if at_100 else 0):
            runs += [*from_centred(settings, draw), s4l(settings, draw)]
        for draw in range(settings.longer_draws if at_100 else settings.fixmatch_curve_draws):
            runs.append(fixmatch(settings, labels, draw))
    return runs


def supervised(settings: Settings, labels: int, draw: int) -> list[DigitClassification]:
    """From scratch, from rotations (fine-tuned, and frozen under probes), and the frozen floor."""
    common = _common(settings, labels, draw) | {"training": _tuned(settings.tuned_steps, labels)}
    turned, floor = (
        starts[draw % len(starts)]
        for starts in (pretraining(settings, "tuned"), untrained(settings, "tuned"))
    )
    rotnet = common | {"method": "rotnet"}
    return [
        DigitClassification(**common, method="cnn", backbone="scratch", augmented=True),
        DigitClassification(**rotnet, backbone="fine-tuned", pretraining=turned, augmented=True),
        *(
            DigitClassification(**rotnet, backbone="frozen", pretraining=start, readout=readout)
            for start in (turned, floor)
            for readout in ("linear probe", "kNN")
        ),
    ]


def from_centred(settings: Settings, draw: int) -> list[DigitClassification]:
    """From a network that could read the turn off the place of the image."""
    starts = pretraining(settings, "centred")
    own = _common(settings, LABELS, draw) | {
        "method": "rotnet",
        "training": _tuned(settings.tuned_steps, LABELS),
        "pretraining": starts[draw % len(starts)],
    }
    return [
        DigitClassification(**own, backbone="fine-tuned", augmented=True),
        DigitClassification(**own, backbone="frozen", readout="linear probe"),
    ]


def s4l(settings: Settings, draw: int) -> DigitClassification:
    """Rotation loss and digit loss together, at 100 labels."""
    return DigitClassification(
        **_common(settings, LABELS, draw),
        method="s4l",
        backbone="scratch",
        unlabelled=settings.unlabelled,
        training=_tuned(settings.tuned_steps, UNLABELLED_BATCH),
    )


def fixmatch(settings: Settings, labels: int, draw: int) -> DigitClassification:
    """The semi-supervised baseline."""
    return DigitClassification(
        **_common(settings, labels, draw),
        method="fixmatch",
        backbone="scratch",
        unlabelled=settings.unlabelled,
        training=_tuned(settings.fixmatch_steps, UNLABELLED_BATCH),
    )


def candidates(settings: Settings) -> list[Experiment]:
    """What was compared on held-out training images to settle protocol ``tuned``: augmentation,
    learning rate, and freezing against fine-tuning; after the pretraining they start from."""
    turned, centred = (
        pretraining(settings, protocol, "validation")[0] for protocol in ("tuned", "centred")
    )
    runs: list[Experiment] = [turned, centred]
    for draw in range(settings.choice_draws):
        # Draws that no test run uses.
        common = _common(settings, LABELS, 1000 + draw) | {"scored_on": "validation"}
        for rate in (0.003, 0.001):
            recipe = replace(_tuned(settings.tuned_steps, LABELS), rate=rate)
            own = common | {"training": recipe, "augmented": True}
            runs += [
                DigitClassification(**own, method="cnn", backbone="scratch"),
                DigitClassification(
                    **own, method="rotnet", backbone="fine-tuned", pretraining=turned
                ),
            ]
        plain = common | {"training": _tuned(settings.tuned_steps, LABELS)}
        runs.append(DigitClassification(**plain, method="cnn", backbone="scratch"))
        runs += [
            DigitClassification(
                **plain,
                method="rotnet",
                backbone="frozen",
                pretraining=start,
                readout="linear probe",
            )
            for start in (turned, centred)
        ]
    return runs


def _common(settings: Settings, labels: int, draw: int) -> dict:
    return {"dataset": settings.dataset, "protocol": "tuned", "labels": labels, "draw": draw}


def _tuned(steps: int, batch_size: int) -> Recipe:
    return Recipe(
        steps,
        min(batch_size, UNLABELLED_BATCH),
        rate=0.003,
        optimiser="adamw",
        weight_decay=0.01,
        schedule="cosine",
        evaluations=min(20, steps),
    )
