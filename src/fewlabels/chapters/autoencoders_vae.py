"""Chapter 7: what it may be told, and what it trains.

Protocol ``report`` is the sheet's, with the linear output that it leaves open: under its loss and a
sigmoid the network does not learn. Noise drawn anew, the U-Net and the Bernoulli VAE are ours.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from fewlabels import chapters, data
from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.kinds.denoising import (
    FILTERS,
    HELD_OUT,
    READOUTS,
    REPORT_NOISE,
    TEST_NOISE,
    ClassicalFilter,
    CodeProbe,
    DenoisingTraining,
)
from fewlabels.kinds.vae import BinaryVAE, DigitReader, PlaneVAE
from fewlabels.learn.training import Recipe
from fewlabels.runs.parameters import (
    Items,
    OwnDigits,
    Parameters,
    Positive,
    Range,
    Repeats,
    Some,
    SomeRepeats,
)
from fewlabels.runs.records import Experiment, Store

NAME = "autoencoders-vae"
CHAPTER_ONE = "rotnet-mnist"
LABELS = 100
"""Labelled images of a probe: ten of every digit, as in chapter 1."""
SHEET_EPOCHS = {"denoising": 20, "vae": 15}
SHEET_IMAGES = 60_000
SHEET_WEIGHT = 1.0
"""The value of ``coeff`` that the sheet prints."""
DENOISING_BATCH, VAE_BATCH, UNET_BATCH = 32, 128, 64
SHEET_RATE = 0.001
"""Keras' default for Adam, and what the sheet names for the VAE."""
OURS = {"rate": 0.003, "optimiser": "adamw", "weight_decay": 0.01, "schedule": "cosine"}
"""How the U-Net and the digit reader are trained."""


@dataclass(frozen=True, kw_only=True)
class Settings(Parameters):
    """The notebook's parameters."""

    dataset: Literal["mnist", "digits"] | OwnDigits
    """Images; ``digits`` are scikit-learn's small ones, which need no download."""
    unlabelled: Annotated[int, Range(100)]
    """Training images used, at most."""
    denoising_images: Annotated[int, Range(100)]
    """Training images of the denoising networks, at most; the long ones take ``unlabelled``."""
    denoising_seeds: SomeRepeats
    """Seeds of the sheet's network under each loss, of its untrained floor and of the filters."""
    denoising_epochs: Some
    """Passes over the training images; the sheet makes 20."""
    long_denoising_seeds: Repeats
    """Seeds trained for the sheet's 20 epochs as well, where ``denoising_epochs`` are others."""
    extra_seeds: SomeRepeats
    """Seeds of the sigmoid under MSE, of fresh and mixed noise and of the U-Net, at most
    ``denoising_seeds``."""
    unet_epochs: Some
    """Passes of the U-Net over the training images."""
    levels: list[Positive]
    """Standard deviations of the noise in the test, 0.2 and 0.4 among them."""
    test_images: Annotated[int, Range(5)]
    """Test images that are restored at every level, at even distances in the test set."""
    choice_images: Some
    """Held-out training images on which the filters' settings are chosen."""
    probe_draws: SomeRepeats
    """Label draws of the probes on the code."""
    vae_seeds: SomeRepeats
    """Seeds of the sheet's VAE for each of ``weights``."""
    vae_epochs: Some
    """Passes over the training images; the sheet makes 15."""
    weights: list[Positive]
    """Weights of the KL term, the sheet's ``coeff``: three or more, 1 among them."""
    long_weights: list[Positive]
    """Weights trained once for ``long_epochs`` as well, where ``vae_epochs`` are others."""
    long_epochs: Some
    """Passes over the training images for ``long_weights``."""
    reader_epochs: Some
    """Passes of the classifier that judges decoded images."""
    latent_numbers: Annotated[list[Annotated[int, Range(1, 4096)]], Items()]
    """Latent dimensions of the Bernoulli VAE, one or more."""
    binary_seeds: SomeRepeats
    """Seeds of the Bernoulli VAE for each of ``latent_numbers``."""
    binary_epochs: Some
    """Passes of the Bernoulli VAE over the training images."""
    importance_samples: Some
    """Draws per image of the importance-weighted bound."""

    def __post_init__(self):
        super().__post_init__()
        if self.extra_seeds > self.denoising_seeds:
            raise UserError(
                f"extra_seeds is {self.extra_seeds}; allowed: at most denoising_seeds, "
                f"{self.denoising_seeds}"
            )
        if not {REPORT_NOISE, TEST_NOISE} <= {*self.levels}:
            raise UserError(
                f"levels is {self.levels}; allowed: a list that has {REPORT_NOISE:g} and "
                f"{TEST_NOISE:g}"
            )
        if SHEET_WEIGHT not in self.weights or len(self.weights) < 3:
            raise UserError(
                f"weights is {self.weights}; allowed: three or more, {SHEET_WEIGHT:g} among them"
            )


def store(s: Settings) -> Store:
    """The folder of the records that the settings name."""
    return Store.of_chapter(NAME, s.store)


def inputs(s: Settings) -> list[Path]:
    """The records of chapter 1 that this chapter shows."""
    stored = chapters.load(CHAPTER_ONE).store(profiles.settings(CHAPTER_ONE))
    return [stored.path(run) for run in chapter_one(s)]


def chapter_one(s: Settings) -> list[Experiment]:
    """The book's classifiers of chapter 1 with as many labels as the probes, on the same images."""
    if s.dataset != "mnist":
        return []
    return [
        run
        for run in chapters.load(CHAPTER_ONE).plan(profiles.settings(CHAPTER_ONE))
        if run.kind == "digits" and run.labels == LABELS and run.scored_on == "test"
    ]


def plan(s: Settings) -> list[Experiment]:
    """Every run of the chapter; what others start from comes before them."""
    return [
        *(run for seed in range(s.denoising_seeds) for run in denoising(s, seed)),
        *long_denoising(s),
        *(
            ClassicalFilter(s.dataset, name, seed, tuple(s.levels), s.test_images, s.choice_images)
            for name in FILTERS
            for seed in range(s.denoising_seeds)
        ),
        *probes(s),
        reader(s),
        *(
            plane(s, weight, seed, s.vae_epochs)
            for seed in range(s.vae_seeds)
            for weight in s.weights
        ),
        *long_planes(s),
        *binary(s),
    ]


def epoch(dataset: str, images: int, batch_size: int) -> int:
    """Steps of one pass over the training images but those held out, at most ``images``."""
    whole = data.train_size(dataset)
    return -(-min(images, whole - min(HELD_OUT, whole // 6)) // batch_size)


def recipe(s: Settings, images: int, epochs: int, batch_size: int, **more) -> Recipe:
    """Adam at the sheet's rate, unless ``more`` says otherwise."""
    steps = epochs * epoch(s.dataset, images, batch_size)
    return Recipe(steps, batch_size, **{"rate": SHEET_RATE, "evaluations": min(10, steps)} | more)


def sheet(s: Settings, seed: int) -> DenoisingTraining:
    """The sheet's network under the sheet's settings, for our number of epochs."""
    return DenoisingTraining(
        dataset=s.dataset,
        network="sheet",
        loss="mse",
        output="linear",
        noise="fixed",
        level=REPORT_NOISE,
        seed=seed,
        training=recipe(s, s.denoising_images, s.denoising_epochs, DENOISING_BATCH),
        levels=tuple(s.levels),
        test_images=s.test_images,
        unlabelled=s.denoising_images,
        similarity=True,
    )


def denoising(s: Settings, seed: int) -> list[DenoisingTraining]:
    """One seed of every trained network: the sheet's under three losses; then, for ``extra_seeds``,
    with a sigmoid under MSE, fresh noise at the level of the test, mixed noise, and the U-Net."""
    own = sheet(s, seed)
    report = [own, replace(own, loss="bce", output="sigmoid"), replace(own, loss="l1")]
    if seed >= s.extra_seeds:
        return report
    mixed = replace(own, noise="mixed", level=0.8)
    unet = recipe(s, s.denoising_images, s.unet_epochs, UNET_BATCH, **OURS)
    return [
        *report,
        replace(own, output="sigmoid"),
        replace(own, noise="fresh", level=TEST_NOISE),
        mixed,
        replace(mixed, network="u-net", training=unet),
    ]


def long_denoising(s: Settings) -> list[DenoisingTraining]:
    """The sheet's settings to the letter, 20 epochs included."""
    if s.denoising_epochs == SHEET_EPOCHS["denoising"]:
        return []
    whole = recipe(s, s.unlabelled, SHEET_EPOCHS["denoising"], DENOISING_BATCH)
    return [
        replace(sheet(s, seed), training=whole, unlabelled=s.unlabelled, similarity=False)
        for seed in range(s.long_denoising_seeds)
    ]


def probes(s: Settings) -> list[Experiment]:
    """Probes on the code, on the untrained network's, and on pixels; then draw after draw.

    The trained networks take turns over the draws, as the pretrained ones do in chapter 1.
    """
    trained = [sheet(s, seed) for seed in range(s.denoising_seeds)]
    nothing = Recipe(steps=0, batch_size=1, rate=SHEET_RATE, evaluations=0)
    floor = [replace(run, training=nothing, similarity=False) for run in trained]
    return floor + [
        CodeProbe(s.dataset, start, readout, LABELS, draw)
        for draw in range(s.probe_draws)
        for start in (trained[draw % len(trained)], floor[draw % len(floor)], None)
        for readout in READOUTS
    ]


def reader(s: Settings) -> DigitReader:
    """The classifier that judges decoded images."""
    training = recipe(s, s.unlabelled, s.reader_epochs, VAE_BATCH, **OURS)
    return DigitReader(s.dataset, 0, training, s.unlabelled)


def plane(s: Settings, weight: float, seed: int, epochs: int) -> PlaneVAE:
    """The sheet's VAE with one weight of the KL term."""
    training = recipe(s, s.unlabelled, epochs, VAE_BATCH)
    return PlaneVAE(s.dataset, float(weight), seed, training, reader(s), s.unlabelled)


def long_planes(s: Settings) -> list[PlaneVAE]:
    """The sheet's VAE for ``long_epochs``, once for each of ``long_weights``."""
    if s.long_epochs == s.vae_epochs:
        return []
    return [plane(s, weight, 0, s.long_epochs) for weight in s.long_weights]


def binary(s: Settings) -> list[BinaryVAE]:
    """The Bernoulli VAE for every number of latents and seed."""
    training = recipe(s, s.unlabelled, s.binary_epochs, VAE_BATCH)
    return [
        BinaryVAE(s.dataset, latents, seed, training, s.importance_samples, s.unlabelled)
        for latents in s.latent_numbers
        for seed in range(s.binary_seeds)
    ]
