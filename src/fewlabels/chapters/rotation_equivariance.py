"""Chapter 2: what it may be told, and what it trains.

Settings of protocol ``tuned`` were chosen on training images held out from training (runs with
``scored_on="validation"``), never on the test set.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fewlabels import data
from fewlabels.data.rotated import SMALLEST_SPAN
from fewlabels.errors import UserError
from fewlabels.kinds.angle_networks import C4, CNN, MLP, Compact, Network, ResNet, Stack
from fewlabels.kinds.angles import AngleRegression, SplitLuck
from fewlabels.kinds.equivariance import Equivariance, QuarterTurn
from fewlabels.learn.training import Recipe
from fewlabels.nets.stack import DOWNS
from fewlabels.runs.parameters import (
    Items,
    OwnDigits,
    Parameters,
    Range,
    Real,
    Repeats,
    Some,
    SomeRepeats,
)
from fewlabels.runs.records import Experiment, Store

NAME = "rotation-equivariance"
BATCH = 128
SLOWEST = 1e-8
"""The rate at which the source finds test below training (E3)."""
CIRCLE = 180
"""The span that is the full circle."""
MIDDLE = 1e-4
"""The learning rate that the source prefers, at which other networks are compared."""
SIDE = 28
"""Of the images, pixels."""
HELD_OUT = 1000
"""The first of the seeds that choose networks, which no test run uses."""
STACKS = (
    Stack(padding="none"),
    Stack(padding="zeros"),
    *(Stack(padding="circular", down=down) for down in DOWNS),
    Stack(group="c4"),
    Stack(group="pointwise"),
    Stack(group="symmetric"),
)
ONLY_UNTRAINED = ("pointwise", "symmetric")
"""What E10 compares with plain convolutions as they are at first."""

Rates = Annotated[list[Annotated[float, Real(0, 1)]], Items()]
Images = Annotated[int, Range(2)]
Layers = Annotated[list[Annotated[int, Range(1, 4096)]], Items(alike=True)]


@dataclass(frozen=True, kw_only=True)
class Settings(Parameters):
    """The notebook's parameters."""

    dataset: Literal["fashion", "mnist", "digits"] | OwnDigits
    """Whose images are rotated; ``digits`` are scikit-learn's small ones, without a
    download."""
    span: Annotated[int, Range(SMALLEST_SPAN, CIRCLE)]
    """The source's angles are uniform in -span..span degrees."""
    seeds: Annotated[int, Range(1, HELD_OUT)]
    """Seeds of protocol ``tuned``."""
    report_seeds: SomeRepeats
    """Seeds of protocol ``report``."""
    epochs: Some
    """Passes over the training images in protocol ``report``; the source made 50."""
    activation: Literal["relu", "tanh", "sigmoid"]
    """Of both networks of the report."""
    other_activations: list[Literal["relu", "tanh", "sigmoid"]]
    """What both are trained with besides, at one learning rate."""
    other_seeds: Repeats
    """Seeds of these, and of the CNN on as many images as the MLP has."""
    mlp_hidden: Layers
    """Units of each hidden layer of the report's MLP."""
    mlp_rates: Rates
    """Its learning rates."""
    mlp_images: Images
    """Training images of the report's MLP, at most."""
    cnn_channels: Layers
    """Filters of each convolution of the report's CNN."""
    cnn_kernels: Layers
    """Sides of their filters, pixels."""
    cnn_strides: Layers
    """Their strides, pixels."""
    cnn_hidden: Layers
    """Units of each hidden layer behind them."""
    cnn_rates: Rates
    """The CNN's learning rates."""
    cnn_images: Images
    """Training images of the report's CNN, at most; the source took all 60,000."""
    cnn_points: Some
    """Points of the CNN's learning curves, at most one per epoch, which the MLP's have."""
    splits: Images
    """Random splits per network and seed behind E3."""
    tuned_images: Images
    """Training images in protocol ``tuned``, at most."""
    image_numbers: Annotated[list[Images], Items()]
    """Training images along the curves of protocol ``tuned``."""
    curve_steps: Some
    """Updates along the curves, and of the candidates on validation images."""
    choice_seeds: SomeRepeats
    """Seeds of every candidate."""
    best_steps: Some
    """Updates of the chosen networks at both spans."""
    stack_steps: Some
    """Updates of the stacks that equivariance is measured on."""
    equivariance_images: Some
    """Test images that it is measured on."""

    def __post_init__(self):
        super().__post_init__()
        # Refuses a kernel or a stride too few.
        _, cnn = report_networks(self)
        side = SIDE
        for kernel, stride in zip(cnn.kernels, cnn.strides, strict=True):
            side = (side - kernel) // stride + 1
            if side < 1:
                raise UserError(
                    f"cnn_kernels is {self.cnn_kernels!r} with cnn_strides {self.cnn_strides!r}; "
                    f"allowed: what leaves something of {SIDE} pixels, halved in between"
                )
            side //= 2


def store(s: Settings) -> Store:
    """Where the chapter's records are."""
    return Store.of_chapter(NAME, s.store)


def plan(s: Settings) -> list[Experiment]:
    """Every run of the chapter; those that others start from come first."""
    report = [*report_runs(s)]
    others = [*other_runs(s)]
    ours = [*curves(s), *outputs(s), *best(s)]
    measured = [
        Equivariance(s.dataset, replace(start, seed=seed), s.equivariance_images)
        for start in stacks(s)
        for seed in range(s.seeds)
    ]
    # E7 is about plain convolutions.
    measured += [
        QuarterTurn(s.dataset, run.start, run.images)
        for run in measured
        if run.start.network == Stack(padding="zeros")
    ]
    runs = [
        *report,
        *(SplitLuck(s.dataset, run, s.splits) for run in report if run.training.rate == SLOWEST),
        *others,
        *candidates(s),
        *(replace(run, seed=seed) for run in ours for seed in range(s.seeds)),
        *(run.start for run in measured),
        *measured,
    ]
    # The curves at all images and the outputs' comparison share runs.
    return list(dict.fromkeys(runs))


def report_networks(s: Settings) -> tuple[MLP, CNN]:
    """The report's two networks as the parameters describe them."""
    layers = (tuple(each) for each in (s.cnn_channels, s.cnn_kernels, s.cnn_strides, s.cnn_hidden))
    return MLP(tuple(s.mlp_hidden), s.activation), CNN(*layers, s.activation)


def report_runs(s: Settings) -> Iterator[AngleRegression]:
    """The report's two networks at its learning rates."""
    mlp, cnn = report_networks(s)
    for seed in range(s.report_seeds):
        yield from (as_reported(s, mlp, rate, s.mlp_images, seed) for rate in s.mlp_rates)
    for seed in range(s.report_seeds):
        yield from (as_reported(s, cnn, rate, s.cnn_images, seed) for rate in s.cnn_rates)


def as_reported(
    s: Settings, network: MLP | CNN, rate: float, images: int, seed: int
) -> AngleRegression:
    """A network of the report, trained as it says."""
    steps = s.epochs * -(-min(images, data.train_size(s.dataset)) // BATCH)
    points = s.epochs if isinstance(network, MLP) else min(s.cnn_points, s.epochs)
    recipe = Recipe(steps, BATCH, rate, evaluations=points)
    return AngleRegression(s.dataset, "report", network, "number", s.span, images, seed, recipe)


def other_runs(s: Settings) -> Iterator[AngleRegression]:
    """Both networks with other activations, and the CNN on as many images as the MLP has."""
    for seed in range(s.other_seeds):
        for activation in s.other_activations:
            mlp, cnn = report_networks(replace(s, activation=activation))
            yield as_reported(s, mlp, MIDDLE, s.mlp_images, seed)
            yield as_reported(s, cnn, MIDDLE, s.cnn_images, seed)
        yield as_reported(s, report_networks(s)[1], MIDDLE, s.mlp_images, seed)


def tuned(
    s: Settings,
    network: Network,
    span: int,
    steps: int,
    output: str = "circle",
    images: int | None = None,
    fresh: bool = False,
) -> AngleRegression:
    """Seed 0 of a run of protocol ``tuned``, on ``tuned_images`` unless said."""
    own = {"optimiser": "adamw", "weight_decay": 0.01, "schedule": "cosine"}
    recipe = Recipe(steps, BATCH, rate=3e-3, evaluations=min(10, steps), **own)
    seen = images or s.tuned_images
    return AngleRegression(s.dataset, "tuned", network, output, span, seen, 0, recipe, fresh)


def candidates(s: Settings) -> Iterator[AngleRegression]:
    """What was compared on held-out training images to settle the networks of `best`."""
    for span in (s.span, CIRCLE):
        for network in (Compact(), ResNet(), C4()):
            run = tuned(s, network, span, s.curve_steps, fresh=True)
            for seed in range(HELD_OUT, HELD_OUT + s.choice_seeds):
                yield replace(run, seed=seed, scored_on="validation")


def curves(s: Settings) -> Iterator[AngleRegression]:
    """Error against the number of training images at the full circle."""
    for images in s.image_numbers:
        for network in (Compact(), C4()):
            for fresh in (False, True):
                yield tuned(s, network, CIRCLE, s.curve_steps, images=images, fresh=fresh)


def outputs(s: Settings) -> Iterator[AngleRegression]:
    """The angle as a number and on the circle, at both spans, with the same network."""
    for span in (s.span, CIRCLE):
        for output in ("number", "circle"):
            yield tuned(s, Compact(), span, s.curve_steps, output)


def best(s: Settings) -> Iterator[AngleRegression]:
    """The networks chosen on validation images, trained longer, at both spans."""
    for span in (s.span, CIRCLE):
        network = C4() if span == CIRCLE else ResNet()
        yield tuned(s, network, span, s.best_steps, fresh=True)


def stacks(s: Settings) -> Iterator[AngleRegression]:
    """Every stack before and after training; those without a direction untrained only."""
    for network in STACKS:
        for steps in (0,) if network.group in ONLY_UNTRAINED else (0, s.stack_steps):
            yield tuned(s, network, s.span, steps, "number")
