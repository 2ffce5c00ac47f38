"""Chapter 6: do fused models beat the best of them, and beat fused seeds of one of them?

The chapter trains nothing of its own. The members of a fusion are chapter 5's fine-tuned networks
of the source's grid, on one data set, with one share of the labels and of one draw: they have seen
the same labelled images. Their records lie in chapter 5's store; those that a reader's cache lacks
are computed as chapter 5 plans them.
"""

from dataclasses import dataclass
from typing import Literal

from fewlabels.chapters import ssl_medmnist
from fewlabels.chapters.grid import (
    FRACTIONS,
    SOURCE_METHODS,
    Grid,
    classifier,
    pretraining,
    supervised,
)
from fewlabels.errors import UserError
from fewlabels.kinds.classes import Classification
from fewlabels.runs.parameters import SomeRepeats
from fewlabels.runs.records import Store

NAME = "fusion"


@dataclass(frozen=True, kw_only=True)
class Settings(Grid):
    """The notebook's parameters, which mean what they mean in chapter 5."""

    seeds: SomeRepeats
    """Draws of every method."""
    methods: list[Literal[(*SOURCE_METHODS,)]]
    """Those that are fused, two to four: chapter 5 keeps the probabilities of these alone."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.methods) < 2:
            few = f"at least two of {', '.join(SOURCE_METHODS)}"
            raise UserError(f"methods is {self.methods}; allowed: {few}")


def store(settings: Settings) -> Store:
    """The folder of the records that the settings name: chapter 5's."""
    return Store.of_chapter(ssl_medmnist.NAME, settings.store)


def plan(settings: Settings) -> list[Classification]:
    """Every supervised and every fine-tuned classifier that is compared or fused: chapter 5's."""
    s, runs = settings, []
    for dataset in s.datasets:
        for draw in range(s.seeds):
            starts = [pretraining(s, dataset, each, draw) for each in s.methods]
            for share in FRACTIONS:
                runs.append(supervised(s, dataset, share, draw))
                runs += [classifier(s, each, "fine-tuned", share) for each in starts]
    return runs
