"""The parameters of chapter 2 and every run it needs.

Settings of protocol ``tuned`` were chosen on training images held out from training (runs with
``scored_on="validation"``), never on the test set.
"""

from dataclasses import dataclass, field
from typing import Literal

from fewlabels import config, data, paths
from fewlabels.errors import UserError
from fewlabels.experiments.angles import CNN, MLP, SHOWN, AngleRegression, SplitLuck
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


def store(settings: Settings) -> Store:
    """The folder of the records that the settings name."""
    if settings.store == "results":
        return Store(paths.RESULTS / NAME)
    return Store(paths.cache() / "runs" / NAME)


def report_runs(settings: Settings) -> list[AngleRegression]:
    """The report's two networks at its learning rates."""
    mlp = MLP(tuple(settings.mlp_hidden), settings.activation)
    cnn = CNN(
        tuple(settings.cnn_channels),
        tuple(settings.cnn_kernels),
        tuple(settings.cnn_strides),
        tuple(settings.cnn_hidden),
        settings.activation,
    )
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
            for seed in range(settings.seeds)
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
