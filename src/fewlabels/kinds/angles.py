"""Runs of chapter 2: read off by what angle an image was turned.

Protocol ``report`` repeats the rotation report: every training image turned once, pixels in -1..1,
mean squared error on angles standardised with the training angles, Adam at a constant rate, last
epoch scored. Protocol ``tuned`` is ours: networks with batch norm, a cosine schedule, the angle on
the circle where wanted, and fresh angles in every step where wanted.

Deviations from the report: its data are no longer public and are generated anew; it takes the
images in the same order in every epoch, here their order is drawn anew.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from fewlabels import config, data
from fewlabels.data.augment import rotated
from fewlabels.data.rotated import check_span, generate
from fewlabels.errors import UserError
from fewlabels.kinds.angle_networks import Network
from fewlabels.kinds.measured import placed, scored_protocol, size
from fewlabels.learn import angles
from fewlabels.learn.training import Recipe, evaluated, fit, predict
from fewlabels.runs.records import Experiment, Outcome, Store

PROTOCOLS = ("report", "tuned")
OUTPUTS = ("number", "circle")
SHOWN = 2000
"""The report's training loss is that of its first 2,000 training images."""
BINS = 24
"""Parts of the span by which the error is kept."""


class Task(NamedTuple):
    """What a run may see: upright and turned training images, and images it is scored on."""

    upright: Tensor
    """uint8 [N, 1, H, W]; the training images before they were turned."""
    images: Tensor
    """uint8 [N, 1, H, W], turned."""
    degrees: Tensor
    """float32 [N]."""
    score_images: Tensor
    score_degrees: Tensor
    score_classes: Tensor
    """int64: what the scored images show."""


@lru_cache(maxsize=2)
def task(dataset: str, span: int, seed: int, scored_on: str, device: torch.device) -> Task:
    """Turned images on the device, in the order of a seed.

    ``scored_on="test"``: all training images may be used, the test set scores. ``"validation"``:
    of every class as many training images as a sixth of the smallest class are held out and score;
    the test set is not touched. The seed names the angles and the order of the training images, so
    that runs on fewer images see the first ones of the same order.
    """
    train, score = data.parts(dataset, scored_on)
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(seed))
    upright = train.images[order]
    turned, scored = (
        generate(part, span, 2 * seed + k) for k, part in enumerate((upright, score.images))
    )
    parts = (upright, *turned, *scored, score.labels)
    return Task(*(part.to(device) for part in parts))


def prepared(images: Tensor, protocol: str) -> Tensor:
    """Grey levels 0..255 as the network gets them: -1..1 in the report, else 0..1 (black is 0)."""
    return images.float() / 127.5 - 1 if protocol == "report" else images.float() / 255


@dataclass(frozen=True)
class AngleRegression(Experiment, kind="angle", recipe=1):
    """Learn the angle by which an image was turned.

    The seed names angles, order of the images, initial weights and batches: all sources of variance
    move together (Bouthillier et al. 2021), and every method meets the same images, so that
    differences are paired.
    """

    protocol: str
    network: Network
    output: str
    """``number``: the standardised angle, squared error. ``circle``: a vector whose direction is
    the angle, von Mises likelihood, see `fewlabels.learn.angles`."""
    span: int
    """Angles are uniform in -span..span degrees."""
    images: int
    """At most this many training images."""
    seed: int
    training: Recipe
    fresh: bool = False
    """Turn every image by a new angle in every step, instead of once for all."""
    scored_on: str = "test"

    def __post_init__(self):
        config.one_of("protocol", self.protocol, PROTOCOLS)
        config.one_of("output", self.output, OUTPUTS)
        config.one_of("scored_on", self.scored_on, ("validation", "test"))
        config.whole("images", self.images, 2)
        config.whole("seed", self.seed, 0)
        check_span(self.span)
        if self.fresh and self.protocol == "report":
            raise UserError("fresh angles go with the protocol tuned")

    def cell(self) -> dict[str, str | int]:
        method = f"{self.network.kind}, {self.output}"
        if self.protocol == "report" or self.scored_on == "validation":
            method += f", rate {self.training.rate:g}"
        if self.fresh:
            method += ", fresh angles"
        protocol = f"{self.protocol}, \N{PLUS-MINUS SIGN}{self.span}°"
        if self.protocol == "tuned":
            protocol += f", {self.training.steps} steps"
        size = data.train_size(self.dataset)
        return self.row(
            min(self.images, size), method, "scratch", scored_protocol(protocol, self.scored_on)
        )

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        seen = task(self.dataset, self.span, self.seed, self.scored_on, fabric.device)
        torch.manual_seed(self.seed)
        network = self.placed(seen, fabric)
        head = self.head(seen)
        images, degrees = seen.images[: self.images], seen.degrees[: self.images]
        upright = seen.upright[: self.images]
        ready = prepared(images, self.protocol)
        score_images = prepared(seen.score_images, self.protocol)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            if not self.fresh:
                return head.loss(module(ready[index]), degrees[index])
            new = (torch.rand(len(index), device=degrees.device) * 2 - 1) * self.span
            views = rotated(prepared(upright[index], self.protocol), new)
            return head.loss(module(views), new)

        def measure(module: nn.Module) -> dict[str, float]:
            """As the report plots them; nothing is chosen by these curves."""
            shown = predict(module, ready[:SHOWN])
            scored = predict(module, score_images)
            return {
                "shown_loss": head.loss(shown, degrees[:SHOWN]).item(),
                "shown_mae": _mean(head.errors(shown, degrees[:SHOWN])),
                "test_loss": head.loss(scored, seen.score_degrees).item(),
                "test_mae": _mean(head.errors(scored, seen.score_degrees)),
            }

        measure = measure if self.protocol == "report" else None
        before = evaluated(network, measure) if measure else {}
        curves = fit(network, loss, len(images), self.training, fabric, measure, label=str(self))
        for name, value in before.items():
            curves[f"{name}_before"] = [value]
        network.eval()
        outputs = predict(network, score_images)
        errors = head.errors(outputs, seen.score_degrees)
        return Outcome(
            metrics=self._metrics(head, errors, outputs, seen)
            | ({name: curves[name][-1] for name in before} if curves["step"] else {}),
            curves=curves | _by_part(errors, seen, self.span),
            parameters={"total": size(network)},
            weights=network.state_dict(),
        )

    def trained(self, fabric: Fabric, store: Store) -> tuple[Task, nn.Module]:
        """What the run may see, and the network with the weights it left, in evaluation mode."""
        seen = task(self.dataset, self.span, self.seed, self.scored_on, fabric.device)
        network = self.placed(seen, fabric)
        network.load_state_dict(store.weights(self, fabric))
        return seen, network.eval()

    def placed(self, seen: Task, fabric: Fabric) -> nn.Module:
        """The network with its initial weights, on the device."""
        pixels = seen.images[0].numel()
        network = self.network.build(1 if self.output == "number" else 2, pixels)
        return placed(network, fabric)

    def head(self, seen: Task) -> angles.Number | angles.Circle:
        """What the outputs mean; a number is standardised with the training angles of the run."""
        if self.output == "circle":
            return angles.Circle()
        own = seen.degrees[: self.images]
        return angles.Number(own.mean().item(), own.std().item(), wraps=self.span == 180)

    def _metrics(self, head, errors: Tensor, outputs: Tensor, seen: Task) -> dict[str, float]:
        """Of errors [N] in degrees.

        Convention: ``median_error`` is the lower of two middle ones; 90 is not beyond 90.
        """
        own, truth = seen.degrees[: self.images], seen.score_degrees
        guess = own.mean().expand_as(truth)
        return {
            "mae": _mean(errors),
            "median_error": errors.median().item(),
            "beyond_90": _mean((errors > 90).float()),
            "loss": head.loss(outputs, truth).item(),
            "mae_of_the_mean": _mean(angles.difference(guess, truth, wraps=self.span == 180)),
        }


def _by_part(errors: Tensor, seen: Task, span: int) -> dict[str, list[float]]:
    """Mean error of every part of the span and of every class, in degrees; nan where none is."""
    part = ((seen.score_degrees + span) / (2 * span) * BINS).long().clamp(0, BINS - 1)
    classes = seen.score_classes
    return {
        "mae_by_angle": _means(errors, part, BINS),
        "mae_by_class": _means(errors, classes, int(classes.max()) + 1),
    }


def _means(values: Tensor, groups: Tensor, count: int) -> list[float]:
    total = torch.zeros(count, device=values.device).index_add_(0, groups, values)
    return (total / groups.bincount(minlength=count)).tolist()


def _mean(values: Tensor) -> float:
    return values.cpu().double().mean().item()


@dataclass(frozen=True)
class SplitLuck(Experiment, kind="splits", recipe=1):
    """How often a test loss lies below a training loss by the luck of the split alone.

    The outputs of one network on all images, training and test, are split at random into as many
    "training" images as the report looks at and as many "test" images as there are, again and
    again. The same seed gives the same splits for every network.
    """

    start: AngleRegression
    splits: int

    def __post_init__(self):
        config.whole("splits", self.splits, 2)

    def cell(self) -> dict[str, str | int]:
        own = self.start.cell()
        return own | {"method": f"{own['method']}, random splits"}

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        own = self.start
        seen, network = own.trained(fabric, store)
        head = own.head(seen)
        images = torch.cat([seen.images, seen.score_images])
        degrees = torch.cat([seen.degrees, seen.score_degrees])
        outputs = torch.cat(
            [predict(network, prepared(part, own.protocol)) for part in images.split(5000)]
        )
        errors = head.errors(outputs, degrees).cpu().double().numpy()
        squares = head.losses(outputs, degrees).cpu().double().numpy()
        test = len(seen.score_degrees)
        shown = min(SHOWN, len(errors) - test)
        rng = np.random.default_rng(own.seed)
        differences = np.empty((2, self.splits))
        for k in range(self.splits):
            drawn = rng.permutation(len(errors))[: shown + test]
            for row, values in enumerate((squares, errors)):
                mixed = values[drawn]
                differences[row, k] = mixed[shown:].mean() - mixed[:shown].mean()
        lower = differences < 0
        return Outcome(
            metrics={
                "loss_lower": float(lower[0].mean()),
                "mae_lower": float(lower[1].mean()),
                "both_lower": float(lower.all(axis=0).mean()),
                "loss_difference_sd": float(differences[0].std(ddof=1)),
                "mae_difference_sd": float(differences[1].std(ddof=1)),
            },
            predictions={
                "loss_difference": differences[0].astype(np.float32),
                "mae_difference": differences[1].astype(np.float32),
            },
        )
