"""Runs of chapter 4 that choose their settings inside the training part of their own split.

No test image has a say in a choice: a search and the rates and steps of fine-tuning are settled
before the one run that is scored on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from lightning.fabric import Fabric
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from fewlabels import config
from fewlabels.data import photographs
from fewlabels.errors import UserError
from fewlabels.kinds.few_photographs import (
    AUGMENTATIONS,
    BATCH,
    OVERLAP,
    PhotographRun,
    ScratchClassification,
    parts,
)
from fewlabels.kinds.photograph_features import FeatureClassification, FineTuning, Headed
from fewlabels.learn.training import Recipe
from fewlabels.runs.records import Experiment, Outcome, Store

Candidate = tuple[float, tuple[int, ...], float]
"""Learning rate, filters of every convolution, and dropout of the sheet's network."""


@dataclass(frozen=True, kw_only=True)
class Search(PhotographRun, kind="search", recipe=1):
    """Cross-validation of the sheet's network inside the training part (section 1.3).

    Every candidate is trained on all folds but one and scored on that one, at ``points`` numbers of
    steps. The candidate and the steps with the highest accuracy over all training images are
    chosen, the lower loss where several have it. The choice is what the run leaves for others.
    """

    candidates: tuple[Candidate, ...]
    steps: int
    """The most batches that a candidate learns from."""
    points: int
    folds: int

    def __post_init__(self):
        super().__post_init__()
        config.one_of("scored_on", self.scored_on, ("validation",))
        config.whole("steps", self.steps, 1)
        config.whole("points", self.points, 1, self.steps)
        config.whole("folds", self.folds, 2)
        if not self.candidates:
            raise UserError("candidates is empty; allowed: one or more")

    def cell(self) -> dict[str, str | int]:
        method = ["small CNN", f"{self.size} px", f"search over {len(self.candidates)} settings"]
        return self._cell(method, "scratch", "tuned")

    def network(self, candidate: Candidate, steps: int, points: int) -> ScratchClassification:
        """The run of a candidate, scored on validation images."""
        rate, filters, dropout = candidate
        return ScratchClassification(
            dataset=self.dataset,
            classes=self.classes,
            size=self.size,
            split=self.split,
            labels=self.labels,
            cover=self.cover,
            scored_on="validation",
            training=Recipe(steps, BATCH, rate, evaluations=points),
            filters=filters,
            dropout=dropout,
        )

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        truth = photographs.load(self.dataset, self.classes, 32).labels
        among, _ = parts(self.dataset, self.classes, self.split, self.labels, "test")
        splitter = StratifiedKFold(self.folds, shuffle=True, random_state=self.split)
        folds = [*splitter.split(np.zeros(len(among)), truth[among].numpy())]
        curves: dict[str, list[float]] = {}
        for at, candidate in enumerate(self.candidates):
            run = self.network(candidate, self.steps, self.points)
            found = [run.between(fabric, among[known], among[held]).curves for known, held in folds]
            shares = [len(held) / len(among) for _, held in folds]
            for name in ("accuracy", "loss"):
                values = np.array([each[f"valid_{name}"] for each in found])
                curves[f"{name}_{at}"] = np.average(values, axis=0, weights=shares).tolist()
            curves["step"] = found[0]["step"]
        chosen, point = best(curves, len(self.candidates))
        steps = int(curves["step"][point])
        return Outcome(
            {"chosen": float(chosen), "chosen_steps": float(steps)}
            | {
                f"chosen_{name}": curves[f"{name}_{chosen}"][point] for name in ("accuracy", "loss")
            },
            curves=curves,
            weights={"chosen": torch.tensor(chosen), "steps": torch.tensor(steps)},
        )


def best(curves: dict[str, list[float]], candidates: int) -> tuple[int, int]:
    """Candidate and point of the highest accuracy, of these the one with the lowest loss."""
    points = [(at, k) for at in range(candidates) for k in range(len(curves["step"]))]
    # Means of folds that are the same share may differ in their last digits.
    return min(
        points,
        key=lambda p: (-round(curves[f"accuracy_{p[0]}"][p[1]], 9), curves[f"loss_{p[0]}"][p[1]]),
    )


@dataclass(frozen=True)
class Searched(Experiment, kind="searched", recipe=1):
    """The sheet's network with the settings that a search chose, on the whole training part."""

    overlap: ClassVar = OVERLAP

    search: Search
    augmentation: str = "none"
    longer: int = 1
    """Times the chosen number of steps."""

    def __post_init__(self):
        config.one_of("dataset", self.dataset, [self.search.dataset])
        config.one_of("augmentation", self.augmentation, AUGMENTATIONS)
        config.whole("longer", self.longer, 1)

    def cell(self) -> dict[str, str | int]:
        method = ["small CNN", f"{self.search.size} px", "searched"]
        method += [self.augmentation] if self.augmentation != "none" else []
        method += [f"{self.longer} times as long"] if self.longer > 1 else []
        # The search is scored on validation images, this run on test images.
        return self.search._cell(method, "scratch", "tuned") | {"protocol": "tuned"}

    def checksums(self) -> dict[str, str]:
        return self.search.checksums()

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        found = store.weights(self.search, fabric)
        candidate = self.search.candidates[int(found["chosen"])]
        run = self.search.network(candidate, self.longer * int(found["steps"]), 1)
        run = replace(run, scored_on="test", augmentation=self.augmentation)
        return run.execute(fabric, store)


@dataclass(frozen=True)
class ChosenTuning(Headed, kind="chosen-tuning", recipe=1):
    """Fine-tuning whose rate and number of steps are chosen on validation images of the split.

    Every rate trains on the training part without its validation images, from an MLP that has not
    seen them either. The rate and the step with the lowest validation loss then train on the whole
    training part. Measures too how far each part has moved: the length of the change of its
    weights over that of the weights (``moved_head``, ``moved_1`` for the last block, ...).
    """

    blocks: int
    """How many of the last blocks are trained with the head."""
    rates: tuple[float, ...]
    steps: int
    """The most batches."""
    points: int
    """Numbers of steps to choose from, evenly spaced."""

    def __post_init__(self):
        super().__post_init__()
        config.one_of("scored_on", self.head.scored_on, ("test",))
        config.whole("blocks", self.blocks, 0)
        config.whole("steps", self.steps, 1)
        config.whole("points", self.points, 1, self.steps)
        if not self.rates:
            raise UserError("rates is empty; allowed: one or more")
        for rate in self.rates:
            config.positive("rates", rate)

    @property
    def held_out(self) -> FeatureClassification:
        """The MLP that has not seen the validation images."""
        return replace(self.head, scored_on="validation")

    def needs(self) -> Sequence[Experiment]:
        return (self.head, self.held_out)

    def cell(self) -> dict[str, str | int]:
        own = self.head.cell()
        blocks = f"{self.blocks} block{'' if self.blocks == 1 else 's'} unfrozen"
        method = f"{own['method']}, {blocks}, rate and steps chosen"
        return own | {"method": method, "backbone": "fine-tuned"}

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        curves: dict[str, list[float]] = {}
        for rate in self.rates:
            recipe = Recipe(self.steps, BATCH, rate, evaluations=self.points)
            run = FineTuning(self.dataset, self.held_out, self.blocks, recipe)
            found = run.execute(fabric, store).curves
            curves |= {"step": found["step"], f"loss_{rate:g}": found["valid_loss"]}
            curves |= {f"accuracy_{rate:g}": found["valid_accuracy"]}
        rate, point = min(
            ((rate, k) for rate in self.rates for k in range(self.points)),
            key=lambda each: curves[f"loss_{each[0]:g}"][each[1]],
        )
        steps = int(curves["step"][point])
        final = FineTuning(
            self.dataset, self.head, self.blocks, Recipe(steps, BATCH, rate, evaluations=1)
        )
        network, outcome = final.trained(fabric, store)
        before = self.head.network()
        head = self.head.head(store.weights(self.head, fabric))
        parts = {"head": (head, network.head)} | {
            str(k): (before[-k], network.parts[-k]) for k in range(1, self.blocks + 1)
        }
        extra = {f"moved_{name}": moved(*both) for name, both in parts.items()}
        extra |= {"chosen_rate": rate, "chosen_steps": float(steps)}
        return replace(outcome, metrics=outcome.metrics | extra, curves=curves)


@torch.no_grad()
def moved(before: nn.Module, after: nn.Module) -> float:
    """Length of the change of all trained values over their length before.

    Convention: Euclidean, over the parameters of the module as one vector.
    """

    def vector(module: nn.Module) -> Tensor:
        return torch.cat([p.detach().cpu().double().flatten() for p in module.parameters()])

    start = vector(before)
    return float((vector(after) - start).norm() / start.norm())
