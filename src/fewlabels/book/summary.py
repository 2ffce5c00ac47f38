"""Every measured mean of the book in one table, results/summary.csv."""

import math
from collections import defaultdict
from pathlib import Path

from fewlabels import files, paths
from fewlabels.chapters import profiles
from fewlabels.runs import manifest

CELL = ["dataset", "labels", "method", "backbone", "protocol"]
MEASURED = ["mean", "low", "high"]
FRACTIONS = (
    *("accuracy", "recall", "precision", "f1", "auc", "confiden", "calibration_error"),
    *("_lower", "beyond_90"),
)
"""Parts of the names of metrics that lie in 0..1: their intervals do, too."""
COLUMNS = ["chapter", "dataset", "data_md5", *CELL[1:], "metric", "n", *MEASURED]


def write() -> Path:
    """Rewrite results/summary.csv from the records of the book's runs and return its path.

    Nothing is computed: a record that is damaged, or missing though the book has it, is a
    UserError that names it. Records that are new are added to results/MANIFEST.
    """
    manifest.check()
    content = text()
    manifest.add()
    file = paths.RESULTS / "summary.csv"
    with files.whole(file) as stream:
        stream.write(content.encode())
    return file


def text() -> str:
    """The table, made from the records.

    One row per chapter, cell and metric: the mean over the runs that share a cell (label draws,
    seeds) with its 95% interval; n counts units of luck, and kinds of runs whose splits share
    images say so by ``overlap``. Only runs that the full profile plans count: records of former
    settings may lie beside them. Runs that a chapter shares with the one that made them have rows
    under that one only. Sorted, so that a new record changes its own rows only.
    """
    from fewlabels import chapters

    return files.table(COLUMNS, (row for name in chapters.names() for row in rows(name)))


def rows(name: str) -> list[dict[str, str]]:
    """The summary's rows for one chapter, with every value as it is printed.

    A metric that some runs could not be given (nan) is averaged over the others. Raises UserError
    for a damaged record, and for a missing one where the full profile computes them all.
    """
    from fewlabels import chapters, data
    from fewlabels.evidence.statistics import fraction_interval, mean_interval, shared_luck
    from fewlabels.runs import records

    chapter = chapters.load(name)
    store = records.Store(paths.RESULTS / name)
    values = profiles.parameters(name, "full")
    groups = defaultdict(list)
    with data.as_in_the_book(), records.reading_only():
        planned = chapter.plan(chapter.Settings(**values))
        found = {run: store.get(run) for run in planned}
        missing = [run for run, record in found.items() if record is None]
        if missing and values.get("minutes") != 0:
            raise store.lacks(*missing)
    made = {run: record for run, record in found.items() if record}
    for run, record in made.items():
        digests = "+".join(record.data[each] for each in sorted(record.data))
        cell = tuple(record.cell.get(column, "") for column in CELL)
        known = shared_luck(record.config), getattr(run, "overlap", 0.0)
        for metric, value in record.metrics.items():
            if math.isfinite(value):
                groups[cell, digests, metric].append((value, *known))
    found = []
    for (cell, digests, metric), group in sorted(groups.items(), key=_order):
        values, luck, overlap = zip(*group, strict=True)
        measure = fraction_interval if any(part in metric for part in FRACTIONS) else mean_interval
        interval = measure(values, luck, overlap[0])
        measured = (interval.mean, interval.low, interval.high)
        found.append(
            {"chapter": name, "data_md5": digests, "metric": metric, "n": interval.n}
            | dict(zip(CELL, cell, strict=True))
            | dict(zip(MEASURED, map(_printed, measured), strict=True))
        )
    return found


def _order(item):
    cell, digests, metric = item[0]
    # Labels are a number or blank ("all" in words sorts last); everything else is text.
    by_size = [(isinstance(part, str), part) for part in cell]
    return by_size, digests, metric


def _printed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
