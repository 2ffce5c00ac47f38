"""`fewlabels replay`: random runs of the book again on this machine, beside their records."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fewlabels import chapters, data
from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.runs.reading import Record
from fewlabels.runs.records import Experiment, Store
from fewlabels.runs.sweep import run_all

LONGEST = 60.0
"""Seconds that a run took where it was recorded, at most, to be drawn."""


def drawn(sample: int, seed: int) -> list[tuple[str, Experiment, Record]]:
    """Chapter, run and record of random runs of the book.

    Only runs of up to `LONGEST` seconds that start from no other run's weights are drawn.

    Raises:
        UserError: there is no such run.
    """
    found = []
    with data.as_in_the_book():
        for name in chapters.names():
            settings = profiles.settings(name)
            store, planned = chapters.load(name).store(settings), chapters.load(name).plan(settings)
            alone = [run for run in planned if not run.needs()]
            found += [(name, run, record) for run in alone if (record := store.get(run))]
    found = [each for each in found if each[2].seconds <= LONGEST]
    if not found:
        raise UserError("there is no record of a short run: `fewlabels run` makes some.")
    return random.Random(seed).sample(found, min(sample, len(found)))


def replayed(sample: int, seed: int = 0) -> Iterator[tuple[str, Record, Record | str]]:
    """Chapter, record, and the record made here; or why none was, where the data are not here."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch))
        for name, run, record in drawn(sample, seed):
            try:
                with data.as_in_the_book():
                    made = run_all([run], store, "auto", workers=1, progress=lambda *each: None)
            except UserError as error:
                yield name, record, str(error)
            else:
                yield name, record, made[0]


def furthest(record: Record, made: Record) -> tuple[str, float]:
    """The metric that differs most from the record's, relative to it, and by how much.

    Memory is the machine's and not compared; two values that are not numbers are equal.
    """
    found = {}
    for metric, value in record.metrics.items():
        here = made.metrics.get(metric, float("nan"))
        if metric != "peak_memory_mb" and (value == value or here == here):
            gap = abs(here - value) / max(abs(value), 1e-12)
            found[metric] = gap if gap == gap else float("inf")
    return max(found.items(), key=lambda each: each[1], default=("", 0.0))
