"""Chapter 8: every claim of the sources and its verdict.

The chapter runs nothing: it reads results/claims.csv, which is made from the records of the others,
and draws three of their curves from the same records, of which results/summary.csv has every mean.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fewlabels import paths
from fewlabels.chapters import profiles
from fewlabels.reference import published
from fewlabels.runs.parameters import Checked, Items
from fewlabels.runs.records import Experiment, Store

NAME = "replication-ledger"
CHAPTERS = tuple(dict.fromkeys(claim.chapter for claim in published.claims().values()))
"""Those that give verdicts."""


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """The notebook's parameters."""

    sources: Annotated[list[Literal[(*published.sources(),)]], Items(1)]
    """Whose claims are shown."""
    yours: list[Literal[CHAPTERS]]
    """Chapters that you have run: your verdicts stand beside the book's."""
    profile: Literal[profiles.PROFILES]
    """The profile you ran them in."""


def plan(settings: Settings) -> list[Experiment]:
    """No run: every record is another chapter's."""
    return []


def store(settings: Settings) -> Store:
    """Where the records of this chapter would be."""
    return Store.of_chapter(NAME, "results")


def inputs(settings: Settings) -> list[Path]:
    """Files that the chapter is made from, for its fingerprint."""
    return [paths.RESULTS / "claims.csv", paths.RESULTS / "summary.csv", published.CLAIMS]
