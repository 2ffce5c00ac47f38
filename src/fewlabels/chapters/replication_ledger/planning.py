"""The parameters of chapter 8, which runs nothing: it reads what the other chapters left."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fewlabels import config, paths, published
from fewlabels.errors import UserError
from fewlabels.runs import Experiment, Store

NAME = "replication-ledger"
SOURCES = ("rotnet", "rotation", "chest", "ssl", "fewdata")


@dataclass(frozen=True)
class Settings:
    """The notebook's parameters. The defaults are the profile ``full``."""

    sources: list[str] = field(default_factory=lambda: list(SOURCES))
    """Whose claims are shown."""
    yours: list[str] = field(default_factory=list)
    """Chapters that you have run: your verdicts stand beside the book's."""
    profile: Literal["full", "quick", "smoke"] = "quick"
    """The profile you ran them in."""

    def __post_init__(self):
        for key, allowed in (
            ("sources", SOURCES),
            ("yours", [*dict.fromkeys(each.chapter for each in published.claims().values())]),
        ):
            value = getattr(self, key)
            if not isinstance(value, list):
                raise UserError(f"{key} is {value!r}; allowed: a list of {', '.join(allowed)}")
            for each in value:
                config.one_of(key, each, allowed)
        if not self.sources:
            raise UserError(f"sources is []; allowed: one or more of {', '.join(SOURCES)}")
        config.literals(self)


def plan(settings: Settings) -> list[Experiment]:
    """No run: every record is another chapter's."""
    return []


def store(settings: Settings) -> Store:
    """Where the records of this chapter would be."""
    return Store(paths.RESULTS / NAME)


def inputs(settings: Settings) -> list[Path]:
    """Files that the chapter is made from, for its fingerprint."""
    return [paths.RESULTS / "claims.csv", published.CLAIMS]
