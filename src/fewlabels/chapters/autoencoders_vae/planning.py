"""The parameters of chapter 7 and every run it needs."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from fewlabels import config, data
from fewlabels.chapters import rotnet_mnist
from fewlabels.errors import UserError
from fewlabels.experiments.denoising import (
    FILTERS,
    HELD_OUT,
    READOUTS,
    REPORT_NOISE,
    TEST_NOISE,
    ClassicalFilter,
    CodeProbe,
    DenoisingTraining,
)
from fewlabels.experiments.vae import BinaryVAE, DigitReader, PlaneVAE
from fewlabels.runs import Experiment, Store
from fewlabels.training import Recipe

NAME = "autoencoders-vae"
LABELS = 100
"""Labelled images of a probe: ten of every digit, as in chapter 1."""
SHEET_EPOCHS = {"denoising": 20, "vae": 15}
SHEET_IMAGES = 60_000
SHEET_WEIGHT = 1.0
"""The value of ``coeff`` that the sheet prints."""
DENOISING_BATCH, VAE_BATCH, UNET_BATCH = 32, 128, 64
SHEET_RATE = 0.001
"""Keras' default for Adam, and what the sheet names for the VAE."""
MIXED = 0.8


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
    unlabelled: int = 60_000
    """Training images used, at most."""
    denoising_images: int = 60_000
    """Training images of the denoising networks, at most."""
    denoising_seeds: int = 6
    denoising_epochs: int = 1
    """Passes over the training images; the sheet makes 20."""
    long_denoising_seeds: int = 3
    """Seeds trained for the sheet's 20 epochs."""
    extra_seeds: int = 1
    """Seeds of the sigmoid under MSE, of fresh and mixed noise and of the U-Net, at most
    ``denoising_seeds``."""
    unet_epochs: int = 1
    levels: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    """Standard deviations of the noise in the test."""
    test_images: int = 1000
    """Test images that are restored at every level, at even distances in the test set."""
    choice_images: int = 100
    """Held-out training images on which the filters' settings are chosen."""
    probe_draws: int = 10
    """Label draws of the probes on the code."""
    vae_seeds: int = 3
    vae_epochs: int = 2
    """Passes over the training images; the sheet makes 15."""
    weights: list[float] = field(default_factory=lambda: [1e-5, 1e-4, 1e-3, 1e-2, 1.0])
    """Weights of the KL term, the sheet's ``coeff``."""
    long_weights: list[float] = field(default_factory=list)
    """Weights trained once for ``long_epochs``."""
    long_epochs: int = 15
    reader_epochs: int = 2
    """Passes of the classifier that judges decoded images."""
    latent_numbers: list[int] = field(default_factory=lambda: [2, 20])
    """Latent dimensions of the Bernoulli VAE."""
    binary_seeds: int = 1
    binary_epochs: int = 20
    importance_samples: int = 100
    """Draws per image of the importance-weighted bound."""

    def __post_init__(self):
        config.literals(self)
        config.whole("workers", self.workers, 0)
        config.whole("unlabelled", self.unlabelled, 100)
        config.whole("denoising_images", self.denoising_images, 100)
        config.whole("test_images", self.test_images, 5)
        config.whole("long_denoising_seeds", self.long_denoising_seeds, 0)
        for key in (
            "denoising_seeds",
            "denoising_epochs",
            "unet_epochs",
            "choice_images",
            "probe_draws",
            "vae_seeds",
            "vae_epochs",
            "long_epochs",
            "reader_epochs",
            "binary_seeds",
            "binary_epochs",
            "importance_samples",
        ):
            config.whole(key, getattr(self, key), 1)
        config.whole("extra_seeds", self.extra_seeds, 1, self.denoising_seeds)
        for key in ("levels", "weights", "long_weights", "latent_numbers"):
            config.distinct(key, getattr(self, key), empty=key == "long_weights")
        for key in ("levels", "weights", "long_weights"):
            for value in getattr(self, key):
                config.positive(key, value)
        for number in self.latent_numbers:
            config.whole("latent_numbers", number, 1)
        for level in (REPORT_NOISE, TEST_NOISE):
            if level not in self.levels:
                raise UserError(f"levels is {self.levels!r}; allowed: a list that has {level:g}")
        if SHEET_WEIGHT not in self.weights or len(self.weights) < 3:
            raise UserError(
                f"weights is {self.weights!r}; allowed: three or more, {SHEET_WEIGHT:g} among them"
            )


def store(settings: Settings) -> Store:
    """The folder of the records that the settings name."""
    return Store.of_chapter(NAME, settings.store)


def inputs(settings: Settings) -> list[Path]:
    """The records of chapter 1 that this chapter shows."""
    stored = rotnet_mnist.store(rotnet_mnist.Settings())
    return [stored.path(run) for run in chapter_one(settings)]


def chapter_one(settings: Settings) -> list[Experiment]:
    """The book's classifiers of chapter 1 with as many labels as the probes, on the same images."""
    if settings.dataset != "mnist":
        return []
    return [
        run
        for run in rotnet_mnist.plan(rotnet_mnist.Settings())
        if run.kind == "digits" and run.labels == LABELS and run.scored_on == "test"
    ]


def plan(settings: Settings) -> list[Experiment]:
    """Every run of the chapter; what others start from comes before them."""
    return [
        *(run for seed in range(settings.denoising_seeds) for run in denoising(settings, seed)),
        *long_denoising(settings),
        *filters(settings),
        *probes(settings),
        reader(settings),
        *planes(settings),
        *long_planes(settings),
        *binary(settings),
    ]


def _recipe(settings: Settings, images: int, epochs: int, batch_size: int, **more) -> Recipe:
    """``epochs`` passes over the training images but those held out, at most ``images``."""
    whole = data.train_size(settings.dataset)
    images = min(images, whole - min(HELD_OUT, whole // 6))
    steps = epochs * -(-images // batch_size)
    given = {"rate": SHEET_RATE, "evaluations": min(10, steps)} | more
    return Recipe(steps, batch_size, **given)


def report_training(settings: Settings, seed: int) -> DenoisingTraining:
    """The sheet's network under the sheet's settings, for our number of epochs.

    Of the last activations that the sheet leaves open, the linear one: with a sigmoid it does not
    learn.
    """
    return DenoisingTraining(
        dataset=settings.dataset,
        network="sheet",
        loss="mse",
        output="linear",
        noise="fixed",
        level=REPORT_NOISE,
        seed=seed,
        training=_recipe(
            settings, settings.denoising_images, settings.denoising_epochs, DENOISING_BATCH
        ),
        levels=tuple(settings.levels),
        test_images=settings.test_images,
        unlabelled=settings.denoising_images,
    )


def denoising(settings: Settings, seed: int) -> list[DenoisingTraining]:
    """One seed of every trained network: the sheet's under three losses; then, for ``extra_seeds``,
    with a sigmoid under MSE, fresh noise at the level of the test, mixed noise, and the U-Net."""
    own = report_training(settings, seed)
    report = [own, replace(own, loss="bce", output="sigmoid"), replace(own, loss="l1")]
    if seed >= settings.extra_seeds:
        return report
    mixed = replace(own, noise="mixed", level=MIXED)
    unet = _recipe(
        settings,
        settings.denoising_images,
        settings.unet_epochs,
        UNET_BATCH,
        rate=0.003,
        optimiser="adamw",
        weight_decay=0.01,
        schedule="cosine",
    )
    return [
        *report,
        replace(own, output="sigmoid"),
        replace(own, noise="fresh", level=TEST_NOISE),
        mixed,
        replace(mixed, network="u-net", training=unet),
    ]


def long_denoising(settings: Settings) -> list[DenoisingTraining]:
    """The sheet's settings to the letter, 20 epochs included."""
    images = settings.unlabelled
    recipe = _recipe(settings, images, SHEET_EPOCHS["denoising"], DENOISING_BATCH)
    return [
        replace(report_training(settings, seed), training=recipe, unlabelled=images)
        for seed in range(settings.long_denoising_seeds)
    ]


def untrained(settings: Settings, seed: int) -> DenoisingTraining:
    """The floor for the code: the same network with its initial weights."""
    nothing = Recipe(steps=0, batch_size=1, rate=SHEET_RATE, evaluations=0)
    return replace(report_training(settings, seed), training=nothing)


def filters(settings: Settings) -> list[ClassicalFilter]:
    """Every filter on the noise of every seed."""
    return [
        ClassicalFilter(
            settings.dataset,
            name,
            seed,
            tuple(settings.levels),
            settings.test_images,
            settings.choice_images,
        )
        for name in FILTERS
        for seed in range(settings.denoising_seeds)
    ]


def probes(settings: Settings) -> list[Experiment]:
    """Probes on the code, on the untrained network's, and on pixels; then draw after draw.

    The trained networks take turns over the draws, as the pretrained ones do in chapter 1.
    """
    seeds = range(settings.denoising_seeds)
    floor = [untrained(settings, seed) for seed in seeds]
    trained = [report_training(settings, seed) for seed in seeds]
    runs: list[Experiment] = [*floor]
    for draw in range(settings.probe_draws):
        for start in (trained[draw % len(trained)], floor[draw % len(floor)], None):
            runs += [
                CodeProbe(settings.dataset, start, readout, LABELS, draw) for readout in READOUTS
            ]
    return runs


def reader(settings: Settings) -> DigitReader:
    """The classifier that judges decoded images."""
    recipe = _recipe(
        settings,
        settings.unlabelled,
        settings.reader_epochs,
        VAE_BATCH,
        rate=0.003,
        optimiser="adamw",
        weight_decay=0.01,
        schedule="cosine",
    )
    return DigitReader(settings.dataset, 0, recipe, settings.unlabelled)


def planes(settings: Settings) -> list[PlaneVAE]:
    """The sheet's VAE for every weight and seed."""
    recipe = _recipe(settings, settings.unlabelled, settings.vae_epochs, VAE_BATCH)
    judge = reader(settings)
    return [
        PlaneVAE(settings.dataset, float(weight), seed, recipe, judge, settings.unlabelled)
        for seed in range(settings.vae_seeds)
        for weight in settings.weights
    ]


def long_planes(settings: Settings) -> list[PlaneVAE]:
    """More epochs, once for each of ``long_weights``."""
    recipe = _recipe(settings, settings.unlabelled, settings.long_epochs, VAE_BATCH)
    judge = reader(settings)
    return [
        PlaneVAE(settings.dataset, float(weight), 0, recipe, judge, settings.unlabelled)
        for weight in settings.long_weights
    ]


def binary(settings: Settings) -> list[BinaryVAE]:
    """The Bernoulli VAE for every number of latents and seed."""
    recipe = _recipe(settings, settings.unlabelled, settings.binary_epochs, VAE_BATCH)
    return [
        BinaryVAE(
            settings.dataset,
            latents,
            seed,
            recipe,
            settings.importance_samples,
            settings.unlabelled,
        )
        for latents in settings.latent_numbers
        for seed in range(settings.binary_seeds)
    ]
