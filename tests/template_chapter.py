"""How many labels does a small network need? A chapter to copy: settings, and what is trained."""

from dataclasses import dataclass
from typing import Literal

from fewlabels.kinds.digits import DigitClassification
from fewlabels.learn.training import Recipe
from fewlabels.runs.parameters import Parameters, Some
from fewlabels.runs.records import Experiment, Store

NAME = "template-chapter"


@dataclass(frozen=True, kw_only=True)
class Settings(Parameters):
    """The parameters of the notebook's first code cell: a type says what each may be."""

    dataset: Literal["mnist", "digits"]
    labels: list[Some]
    """Labelled images, a multiple of the ten classes."""
    draws: Some
    steps: Some


def plan(s: Settings) -> list[Experiment]:
    """Every run that the chapter shows, in the order in which they are made."""
    recipe = Recipe(s.steps, batch_size=32, rate=0.003, optimiser="adamw", evaluations=0)
    return [
        DigitClassification(s.dataset, "tuned", "cnn", "scratch", labels, draw, recipe)
        for draw in range(s.draws)
        for labels in s.labels
    ]


def store(s: Settings) -> Store:
    """The folder of the records that the settings name."""
    return Store.of_chapter(NAME, s.store)
