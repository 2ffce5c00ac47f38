"""Every measured mean of the book in one table, results/summary.csv."""

import csv
import math
from collections import defaultdict
from pathlib import Path

from fewlabels import paths
from fewlabels.errors import UserError

CELL = ["dataset", "labels", "method", "backbone", "protocol"]
MEASURED = ["mean", "low", "high"]
COLUMNS = ["chapter", "dataset", "data_md5", *CELL[1:], "metric", "n", *MEASURED]


def write() -> Path:
    """Rewrite results/summary.csv from the records under results/ and return its path.

    One row per chapter, cell and metric: the mean over the runs that share a cell (label draws,
    seeds) with its 95% interval. Sorted, so that a new record changes its own rows only.
    """
    table = [row for folder in sorted(paths.RESULTS.glob("*/")) for row in rows(folder)]
    if not table:
        raise UserError(f"There are no records under {paths.RESULTS}: run a chapter first.")
    file = paths.RESULTS / "summary.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    return file


def rows(folder: Path) -> list[dict[str, str]]:
    """The summary's rows for one chapter's records, with every value as it is printed."""
    from fewlabels.runs import Store
    from fewlabels.statistics import mean_interval

    groups = defaultdict(list)
    for record in Store(folder).records():
        digests = "+".join(record.data[name] for name in sorted(record.data))
        cell = tuple(record.cell.get(column, "") for column in CELL)
        for metric, value in record.metrics.items():
            groups[cell, digests, metric].append(value)
    found = []
    for (cell, digests, metric), values in sorted(groups.items(), key=_order):
        interval = mean_interval(values)
        measured = (interval.mean, interval.low, interval.high)
        found.append(
            {"chapter": folder.name, "data_md5": digests, "metric": metric, "n": len(values)}
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
