"""Chapter 1: does predicting rotations help to read digits with few labels?

What the notebook may be told, and every run it needs. Settings of protocol ``tuned`` were chosen on
training images held out from training (runs with ``scored_on="validation"``), never on the test
set.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

from fewlabels import data
from fewlabels.kinds.digits import CrossedSeed, DigitClassification
from fewlabels.kinds.rotnet import (
    ARCHITECTURES,
    PRETEXT_PROTOCOLS,
    FeatureMap,
    MovedTurns,
    RotationPretraining,
    RotationStart,
)
from fewlabels.learn.training import Recipe
from fewlabels.runs.parameters import (
    Count,
    Items,
    OwnDigits,
    Parameters,
    Range,
    Repeats,
    Some,
    SomeRepeats,
)
from fewlabels.runs.records import Experiment, Store

NAME = "rotnet-mnist"
LABELS = 100
"""The report's number of labels: ten of every digit."""
BATCH = 128
"""Images without labels in a step of protocol ``tuned``."""

RATES = (0.01, 0.001)
"""At which both architectures are compared: the report's, and one at which both learn."""
NETWORKS = 5
"""Pretrained networks of each architecture that take turns over the label draws."""

Pretrainings = Sequence[RotationPretraining]


@dataclass(frozen=True, kw_only=True)
class Settings(Parameters):
    """The notebook's parameters."""

    dataset: Literal["mnist", "digits"] | OwnDigits
    """Images of digits: MNIST, or scikit-learn's small ones, which need no download."""
    label_draws: SomeRepeats
    """Label draws in protocol ``report``."""
    curve_draws: SomeRepeats
    """Label draws at the other numbers of labels."""
    crossed_draws: SomeRepeats
    """Label draws of the plain network that are each run with several seeds, to tell apart what
    is due to either."""
    crossed_seeds: SomeRepeats
    """Seeds that each of these label draws is run with."""
    longer_draws: SomeRepeats
    """Label draws at 100 labels of S4L, FixMatch and the centred RotNet."""
    fixmatch_curve_draws: Repeats
    """Label draws of FixMatch at the other numbers of labels."""
    choice_draws: SomeRepeats
    """Label draws behind the choices of protocol ``tuned``, on held-out training images."""
    tuned_draws: SomeRepeats
    """Label draws at 100 labels in protocol ``tuned``."""
    start_seeds: SomeRepeats
    """Seeds of which protocol ``report`` takes the first steps, to see how often it learns."""
    start_steps: Some
    """How many steps these are."""
    report_seeds: Annotated[list[Count], Items()]
    """Pretraining seeds behind the digits of protocol ``report``, one or more: those that learned,
    judged by the validation accuracy of their first steps."""
    pretraining_seeds: SomeRepeats
    """Pretraining seeds in every protocol."""
    architecture_draws: Repeats
    """Label draws of both architectures, from scratch and from pretrained weights, at two rates."""
    architecture_seeds: Annotated[int, Range(1, NETWORKS)]
    """How many of five pretrained networks of each architecture are made, with their share of the
    draws: a fifth of them each."""
    architecture_steps: Some
    """Steps of their pretraining."""
    label_numbers: list[Literal[(*range(10, 101, 10), 200, 500, 1000)]]
    """Numbers of labels at which protocol ``tuned`` is measured, besides 100."""
    unlabelled: Annotated[int, Range(100)]
    """Training images shown without their labels, at most."""
    pretraining_epochs: Some
    """Passes over the rotated images in protocol ``report``; the source made 20."""
    epochs: Some
    """Passes over the labelled images in protocol ``report``."""
    tuned_pretraining_epochs: Some
    """Passes over the images in the pretraining of protocol ``tuned``, one rotation of each."""
    tuned_steps: Some
    """Training steps on the labelled images in protocol ``tuned``."""
    fixmatch_steps: Some
    """Training steps of FixMatch."""


def store(settings: Settings) -> Store:
    """The folder of the records that the settings name."""
    return Store.of_chapter(NAME, settings.store)


def plan(settings: Settings) -> list[Experiment]:
    """Every run of the chapter, the pretraining first."""
    rotated = {protocol: pretraining(settings, protocol) for protocol in PRETEXT_PROTOCOLS}
    floor = {protocol: untrained(settings, protocol) for protocol in ("report", "tuned")}
    learned = [run for run in rotated["report"] if run.seed in settings.report_seeds]
    report = [*report_runs(settings, learned, floor["report"])]
    plain = [run for run in report if run.method == "cnn" and not run.augmented]
    return [
        *(run for runs in rotated.values() for run in runs),
        *starts(settings),
        *(run for runs in floor.values() for run in runs),
        *(
            MovedTurns(settings.dataset, run)
            for runs in (rotated | {"report": learned}).values()
            for run in runs
        ),
        *(FeatureMap(settings.dataset, runs["tuned"][0]) for runs in (rotated, floor)),
        *choices(settings),
        *report,
        *tuned_runs(settings, rotated, floor["tuned"]),
        *(
            CrossedSeed(settings.dataset, run, seed)
            for run in plain[: settings.crossed_draws]
            for seed in range(settings.crossed_seeds)
        ),
        *architectures(settings),
    ]


def pretraining(settings: Settings, protocol: str, scored_on: str = "test") -> Pretrainings:
    """One rotation pretraining per seed; in protocol ``report`` of ``report_seeds`` as well."""
    seeds = set(range(settings.pretraining_seeds))
    images = min(settings.unlabelled, data.train_size(settings.dataset))
    if protocol == "report":
        seeds |= set(settings.report_seeds)
        # All four rotations of every image, four fifths of them for training.
        steps = settings.pretraining_epochs * -(-images * 4 * 4 // 5 // 256)
        recipe = Recipe(steps, 256, rate=0.01, evaluations=min(20, steps))
    else:
        recipe = tuned(settings.tuned_pretraining_epochs * -(-images // BATCH))
    return [
        RotationPretraining(
            settings.dataset, protocol, seed, settings.unlabelled, recipe, scored_on
        )
        for seed in sorted(seeds)
    ]


def untrained(settings: Settings, protocol: str) -> Pretrainings:
    """The floor: as many networks with their initial weights."""
    nothing = Recipe(steps=0, batch_size=1, rate=0.01, evaluations=0)
    first = RotationPretraining(settings.dataset, protocol, 0, settings.unlabelled, nothing)
    return [replace(first, seed=seed) for seed in range(settings.pretraining_seeds)]


def starts(settings: Settings) -> Iterator[RotationStart]:
    """The first steps of many seeds of protocol ``report``: how often does it learn at all?"""
    steps = settings.start_steps
    short = Recipe(steps, 256, rate=0.01, evaluations=min(4, steps))
    own = RotationPretraining(settings.dataset, "report", 0, settings.unlabelled, short)
    for seed in range(settings.start_seeds):
        yield RotationStart(settings.dataset, replace(own, seed=seed))


def tuned(steps: int, batch: int = BATCH) -> Recipe:
    """How protocol ``tuned`` trains, pretext task and digits alike."""
    return Recipe(
        steps,
        min(batch, BATCH),
        rate=0.003,
        optimiser="adamw",
        weight_decay=0.01,
        schedule="cosine",
        evaluations=min(20, steps),
    )


def report_runs(
    settings: Settings, rotated: Pretrainings, floor: Pretrainings
) -> Iterator[DigitClassification]:
    """The report's comparison at 100 labels, its floor, and what the report suggests (R8)."""
    recipe = Recipe(settings.epochs, batch_size=80, rate=0.01, evaluations=settings.epochs)
    remedies = {"training": replace(recipe, weight_decay=1e-3), "augmented": True}
    for draw in range(settings.label_draws):
        plain = DigitClassification(
            settings.dataset, "report", "cnn", "scratch", LABELS, draw, recipe
        )
        frozen = partial(replace, plain, method="rotnet", backbone="frozen")
        own, none = rotated[draw % len(rotated)], floor[draw % len(floor)]
        yield plain
        yield frozen(pretraining=own)
        yield frozen(pretraining=none)
        for start in (own, none):
            for readout in ("linear probe", "kNN"):
                yield frozen(pretraining=start, readout=readout)
        yield replace(plain, **remedies)
        yield frozen(pretraining=own, **remedies)


def architectures(settings: Settings) -> Iterator[Experiment]:
    """What pretraining is worth in each of the report's two networks.

    Every architecture from scratch, frozen untrained, frozen pretrained and fine-tuned, at both
    rates, with the same label draws. All are pretrained at 0.001, where every seed learns.
    """
    draws = range(settings.architecture_draws)
    draws = [draw for draw in draws if draw % NETWORKS < settings.architecture_seeds]
    seeds = range(min(settings.architecture_seeds, len(draws)))
    recipe = Recipe(settings.epochs, batch_size=80, rate=RATES[0], evaluations=settings.epochs)
    steps = settings.architecture_steps
    learning = Recipe(steps, batch_size=256, rate=0.001, evaluations=min(10, steps))
    nothing = replace(learning, steps=0, evaluations=0)
    for name in ARCHITECTURES:
        rotated, floor = (
            [
                RotationPretraining(
                    *(settings.dataset, "report", seed, settings.unlabelled, training),
                    architecture=name,
                )
                for seed in seeds
            ]
            for training in (learning, nothing)
        )
        yield from (*rotated, *floor)
        for rate in RATES:
            plain = DigitClassification(
                *(settings.dataset, "report", "cnn", "scratch", LABELS, 0),
                replace(recipe, rate=rate),
                architecture=name,
            )
            for draw in draws:
                own, none = (runs[draw % NETWORKS] for runs in (rotated, floor))
                pretrained = partial(replace, plain, draw=draw, method="rotnet")
                yield replace(plain, draw=draw)
                yield pretrained(backbone="frozen", pretraining=none)
                yield pretrained(backbone="frozen", pretraining=own)
                yield pretrained(backbone="fine-tuned", pretraining=own)


def tuned_runs(
    settings: Settings, rotated: dict[str, Pretrainings], floor: Pretrainings
) -> Iterator[DigitClassification]:
    """Our methods at 100 labels, and the curves of the main ones over the number of labels."""
    for labels in sorted({LABELS, *settings.label_numbers}):
        at_100 = labels == LABELS
        recipe = tuned(settings.tuned_steps, labels)
        plain = DigitClassification(settings.dataset, "tuned", "cnn", "scratch", labels, 0, recipe)
        rotnet = partial(replace, plain, method="rotnet")
        unlabelled = partial(replace, plain, unlabelled=settings.unlabelled)
        for draw in range(settings.tuned_draws if at_100 else settings.curve_draws):
            own, none = (runs[draw % len(runs)] for runs in (rotated["tuned"], floor))
            yield replace(plain, draw=draw, augmented=True)
            yield rotnet(draw=draw, backbone="fine-tuned", pretraining=own, augmented=True)
            for start in (own, none):
                for readout in ("linear probe", "kNN"):
                    yield rotnet(draw=draw, backbone="frozen", pretraining=start, readout=readout)
        for draw in range(settings.longer_draws if at_100 else 0):
            own = rotated["centred"][draw % len(rotated["centred"])]
            from_centred = partial(rotnet, draw=draw, pretraining=own)
            yield from_centred(backbone="fine-tuned", augmented=True)
            yield from_centred(backbone="frozen", readout="linear probe")
            yield unlabelled(draw=draw, method="s4l", training=tuned(settings.tuned_steps))
        for draw in range(settings.longer_draws if at_100 else settings.fixmatch_curve_draws):
            yield unlabelled(draw=draw, method="fixmatch", training=tuned(settings.fixmatch_steps))


def choices(settings: Settings) -> Iterator[Experiment]:
    """What was compared on held-out training images to settle protocol ``tuned``: augmentation,
    learning rate, and freezing against fine-tuning; after the pretraining they start from."""
    rotated, centred = (
        pretraining(settings, protocol, "validation")[0] for protocol in ("tuned", "centred")
    )
    yield from (rotated, centred)
    recipe = tuned(settings.tuned_steps, LABELS)
    first = DigitClassification(
        settings.dataset, "tuned", "cnn", "scratch", LABELS, 1000, recipe, scored_on="validation"
    )
    # Draws that no test run uses.
    for draw in range(1000, 1000 + settings.choice_draws):
        plain = replace(first, draw=draw)
        rotnet = partial(replace, plain, method="rotnet")
        for rate in (0.003, 0.001):
            deformed = {"training": replace(recipe, rate=rate), "augmented": True}
            yield replace(plain, **deformed)
            yield rotnet(backbone="fine-tuned", pretraining=rotated, **deformed)
        yield plain
        for start in (rotated, centred):
            yield rotnet(backbone="frozen", pretraining=start, readout="linear probe")
