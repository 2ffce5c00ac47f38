"""The parameters of chapter 6 and the runs of chapter 5 that it reads.

The chapter trains nothing of its own. The members of one fusion are chapter 5's fine-tuned
networks of the source's grid, on one data set, with one share of the labels and of one draw: they
have seen the same labelled images. Their records lie in chapter 5's store; those that a reader's
cache lacks are computed as chapter 5 plans them.
"""

from dataclasses import asdict, dataclass, field
from typing import Literal

from fewlabels import config
from fewlabels.chapters import ssl_medmnist as chapter_five
from fewlabels.chapters.ssl_medmnist import planning as grid
from fewlabels.errors import UserError
from fewlabels.experiments.ssl import Classification
from fewlabels.runs import Store

NAME = "fusion"


@dataclass(frozen=True)
class Settings:
    """The notebook's parameters, which mean what they mean in chapter 5."""

    blood: str = "bloodmnist"
    """The balanced data set of the source."""
    derma: str = "dermamnist"
    """The unbalanced one."""
    store: Literal["results", "cache"] = "results"
    """Where chapter 5's records are: the book's own, or the reader's."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    workers: int = 0
    """Runs at once; 0 means one per CPU core."""
    minutes: float = 0.0
    """No missing run of chapter 5 is started later than this; 0 starts none and shows what is
    there, a negative number is no limit."""
    budget: Literal["reduced", "source"] = "reduced"
    seeds: int = 3
    """Draws of every method."""
    methods: list[str] = field(default_factory=lambda: ["simclr", "moco", "aim", "mae"])
    """Those that are fused: two to four of the source's."""
    epochs: int = 100
    reduced_epochs: int = 25
    images: int = 0
    """At most this many training images, the first ones; 0 takes all."""
    tiny: bool = False
    """Networks that a test can train."""

    def __post_init__(self):
        source(self)  # refuses by name what chapter 5 refuses
        config.whole("seeds", self.seeds, 1)
        for method in self.methods:
            # Chapter 5 keeps the probabilities of these alone.
            config.one_of("methods", method, grid.SOURCE_METHODS)
        if len(set(self.methods)) < max(2, len(self.methods)):
            raise UserError(f"methods is {self.methods}; allowed: at least two, each of them once")

    @property
    def datasets(self) -> tuple[str, ...]:
        """The names of both data sets, or of the one that plays both parts."""
        return tuple(dict.fromkeys((self.blood, self.derma)))


def source(settings: Settings) -> chapter_five.Settings:
    """Chapter 5's settings under which the members are made."""
    return chapter_five.Settings(**asdict(settings), side_seeds=0, tuned_seeds=0, choice_seeds=0)


def store(settings: Settings) -> Store:
    """The folder of the records that the settings name: chapter 5's."""
    return chapter_five.store(source(settings))


def plan(settings: Settings) -> list[Classification]:
    """Every supervised and every fine-tuned classifier that is compared or fused: chapter 5's."""
    own = source(settings)
    runs = []
    for dataset in settings.datasets:
        for draw in range(settings.seeds):
            starts = [grid.pretraining(own, dataset, m, draw) for m in settings.methods]
            for fraction in grid.FRACTIONS:
                runs.append(grid.supervised(own, dataset, fraction, draw))
                runs += [grid.classifier(own, each, "fine-tuned", fraction) for each in starts]
    return runs
