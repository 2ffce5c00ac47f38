"""The parameters of chapter 2 and every run it needs.

Settings of protocol ``tuned`` were chosen on training images held out from training (runs with
``scored_on="validation"``), never on the test set.
"""

from dataclasses import dataclass, field
from typing import Literal

from fewlabels import config, data
from fewlabels.data.rotated import check_span
from fewlabels.errors import UserError
from fewlabels.experiments.angles import (
    C4,
    CNN,
    MLP,
    AngleRegression,
    Compact,
    Equivariance,
    Network,
    ResNet,
    SplitLuck,
    Stack,
)
from fewlabels.models.stack import DOWNS
from fewlabels.runs import Experiment, Store
from fewlabels.training import Recipe

NAME = "rotation-equivariance"
BATCH = 128
SLOWEST_SHOWN = 1e-8
"""The rate at which the source finds test below training (E3)."""


@dataclass(frozen=True)
class Settings:
    """The notebook's parameters. The defaults are the profile ``full``."""

    dataset: Literal["fashion", "mnist", "digits"] = "fashion"
    store: Literal["results", "cache"] = "results"
    """Where the records are: the book's own, or the reader's."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    workers: int = 0
    """Runs at once; 0 means one per CPU core."""
    span: int = 60
    """The source's angles are uniform in -span..span degrees."""
    seeds: int = 3
    report_seeds: int = 6
    """Seeds of protocol ``report``."""
    epochs: int = 50
    """Passes over the training images in protocol ``report``."""
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    mlp_hidden: list[int] = field(default_factory=lambda: [128, 128])
    mlp_rates: list[float] = field(default_factory=lambda: [1e-2, 1e-3, 1e-4, 1e-8, 1e-9])
    mlp_images: int = 60_000
    cnn_channels: list[int] = field(default_factory=lambda: [16, 32, 48])
    cnn_kernels: list[int] = field(default_factory=lambda: [3, 3, 3])
    cnn_strides: list[int] = field(default_factory=lambda: [1, 1, 1])
    cnn_hidden: list[int] = field(default_factory=lambda: [128])
    cnn_rates: list[float] = field(default_factory=lambda: [1e-2, 1e-3, 1e-4, 1e-8])
    cnn_images: int = 8_000
    """Training images of the report's CNN, at most; the source took all 60,000."""
    cnn_points: int = 10
    """Points of the CNN's learning curves; the MLP's have one per epoch."""
    splits: int = 1_000
    """Random splits behind E3."""
    tuned_images: int = 60_000
    """Training images in protocol ``tuned``, at most."""
    image_numbers: list[int] = field(default_factory=lambda: [100, 1_000, 10_000])
    """Training images along the curves of protocol ``tuned``."""
    curve_steps: int = 200
    """Updates along the curves, and of the candidates on validation images."""
    choice_seeds: int = 3
    best_steps: int = 4_000
    """Updates of the best networks at both spans."""
    stack_steps: int = 100
    """Updates of the stacks that equivariance is measured on."""
    equivariance_images: int = 64

    def __post_init__(self):
        config.literals(self)
        config.whole("workers", self.workers, 0)
        check_span(self.span)
        config.whole("span", self.span, 7, 180)
        for key in (
            "seeds",
            "report_seeds",
            "epochs",
            "cnn_points",
            "choice_seeds",
            "curve_steps",
            "best_steps",
            "stack_steps",
            "equivariance_images",
        ):
            config.whole(key, getattr(self, key), 1)
        for key in ("mlp_images", "cnn_images", "tuned_images", "splits"):
            config.whole(key, getattr(self, key), 2)
        for key in ("mlp_rates", "cnn_rates", "image_numbers"):
            if not isinstance(getattr(self, key), list) or not getattr(self, key):
                raise UserError(f"{key} is {getattr(self, key)!r}; allowed: a list of numbers")
        for key in ("mlp_rates", "cnn_rates"):
            for rate in getattr(self, key):
                config.positive(key, rate)
        for number in self.image_numbers:
            config.whole("image_numbers", number, 2)
        report_networks(self)


def store(settings: Settings) -> Store:
    """The folder of the records that the settings name."""
    return Store.of_chapter(NAME, settings.store)


def plan(settings: Settings) -> list[Experiment]:
    """Every run of the chapter; those that others start from come first."""
    runs = [
        *report_runs(settings),
        *split_runs(settings),
        *candidates(settings),
        *curve_runs(settings),
        *output_runs(settings),
        *best_runs(settings),
        *(run.start for run in equivariance_runs(settings)),
        *equivariance_runs(settings),
    ]
    # The curves at all images and the outputs' comparison share runs.
    return list(dict.fromkeys(runs))


def report_networks(settings: Settings) -> tuple[MLP, CNN]:
    """The report's two networks as the parameters describe them."""
    mlp = MLP(_sizes(settings, "mlp_hidden"), settings.activation)
    convolutions = (_sizes(settings, f"cnn_{key}") for key in ("channels", "kernels", "strides"))
    return mlp, CNN(*convolutions, _sizes(settings, "cnn_hidden"), settings.activation)


def _sizes(settings: Settings, key: str) -> tuple[int, ...]:
    sizes = getattr(settings, key)
    if not isinstance(sizes, list) or not sizes:
        raise UserError(f"{key} is {sizes!r}; allowed: a list with a whole number per layer")
    for size in sizes:
        config.whole(key, size, 1)
    return tuple(sizes)


def report_runs(settings: Settings) -> list[AngleRegression]:
    """The report's two networks at its learning rates."""
    mlp, cnn = report_networks(settings)
    runs = []
    for network, rates, images, points in (
        (mlp, settings.mlp_rates, settings.mlp_images, settings.epochs),
        (cnn, settings.cnn_rates, settings.cnn_images, min(settings.cnn_points, settings.epochs)),
    ):
        seen = min(images, data.train_size(settings.dataset))
        steps = settings.epochs * -(-seen // BATCH)
        runs += [
            AngleRegression(
                settings.dataset,
                "report",
                network,
                "number",
                settings.span,
                images,
                seed,
                Recipe(steps, BATCH, rate, evaluations=points),
            )
            for seed in range(settings.report_seeds)
            for rate in rates
        ]
    return runs


def split_runs(settings: Settings) -> list[SplitLuck]:
    """Random splits under the outputs of both networks at the rate of E3."""
    return [
        SplitLuck(settings.dataset, run, settings.splits)
        for run in report_runs(settings)
        if run.training.rate == SLOWEST_SHOWN
    ]


CIRCLE = 180
"""The span that is the full circle."""
CHOSEN: dict[int, Network] = {60: ResNet(), CIRCLE: C4()}
"""Network by span: the best of `candidates`."""


def candidates(settings: Settings) -> list[AngleRegression]:
    """What was compared on held-out training images to settle the best networks."""
    return [
        _best(settings, network, span, seed, settings.curve_steps)
        for span in (settings.span, CIRCLE)
        for network in (Compact(), ResNet(), C4())
        # Seeds that no test run uses.
        for seed in range(1000, 1000 + settings.choice_seeds)
    ]


def curve_runs(settings: Settings) -> list[AngleRegression]:
    """Error against the number of training images at the full circle."""
    return [
        _tuned(settings, network, "circle", CIRCLE, images, seed, fresh)
        for images in settings.image_numbers
        for network in (Compact(), C4())
        for fresh in (False, True)
        for seed in range(settings.seeds)
    ]


def output_runs(settings: Settings) -> list[AngleRegression]:
    """The angle as a number and on the circle, at both spans, with the same network."""
    return [
        _tuned(settings, Compact(), output, span, settings.tuned_images, seed, fresh=False)
        for span in (settings.span, CIRCLE)
        for output in ("number", "circle")
        for seed in range(settings.seeds)
    ]


def best_runs(settings: Settings) -> list[AngleRegression]:
    """The networks chosen on validation images, trained longer, at both spans."""
    return [
        _best(settings, CHOSEN[CIRCLE if span == CIRCLE else 60], span, seed, settings.best_steps)
        for span in (settings.span, CIRCLE)
        for seed in range(settings.seeds)
    ]


def _best(
    settings: Settings, network: Network, span: int, seed: int, steps: int
) -> AngleRegression:
    """All images, fresh angles, on the circle."""
    return _tuned(settings, network, "circle", span, settings.tuned_images, seed, True, steps)


STACKS = (
    Stack(padding="none"),
    Stack(padding="zeros"),
    *(Stack(padding="circular", down=down) for down in DOWNS),
    Stack(group="c4"),
    Stack(group="pointwise"),
)


def equivariance_runs(settings: Settings) -> list[Equivariance]:
    """Every stack before and after training; the pointwise one, a floor, untrained only."""
    runs = []
    for network in STACKS:
        for steps in (0,) if network.group == "pointwise" else (0, settings.stack_steps):
            for seed in range(settings.seeds):
                recipe = _recipe(steps)
                start = AngleRegression(
                    settings.dataset,
                    "tuned",
                    network,
                    "number",
                    settings.span,
                    settings.tuned_images,
                    seed,
                    recipe,
                )
                runs.append(Equivariance(settings.dataset, start, settings.equivariance_images))
    return runs


def _tuned(
    settings: Settings,
    network: Network,
    output: str,
    span: int,
    images: int,
    seed: int,
    fresh: bool,
    steps: int | None = None,
) -> AngleRegression:
    return AngleRegression(
        settings.dataset,
        "tuned",
        network,
        output,
        span,
        images,
        seed,
        _recipe(steps or settings.curve_steps),
        fresh,
        "validation" if seed >= 1000 else "test",
    )


def _recipe(steps: int) -> Recipe:
    return Recipe(
        steps,
        BATCH,
        rate=3e-3,
        optimiser="adamw",
        weight_decay=0.01,
        schedule="cosine",
        evaluations=min(10, steps),
    )
