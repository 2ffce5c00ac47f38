"""Means and differences over rows of records, with n in units of luck.

Rows are those of the chapters' frames: one per run, with a column for every metric and the record
itself in ``record``. What runs share is read off their configs, so that label draws which start
from one pretrained network never count as several.
"""

from collections.abc import Hashable, Mapping

import pandas as pd

from fewlabels import statistics
from fewlabels.statistics import Interval, PairedDifference


def luck(rows: pd.DataFrame) -> list[str | None]:
    """What each row's run shares with others; None where nothing, or where a row has no record."""
    if "record" not in rows:
        return [None] * len(rows)
    configs = (getattr(record, "config", {}) for record in rows["record"])
    return [statistics.shared_luck(config) for config in configs]


def mean(rows: pd.DataFrame, metric: str) -> Interval | None:
    """Mean of a metric in any unit with its interval; None without rows."""
    return statistics.mean_interval(rows[metric], luck(rows)) if len(rows) else None


def fraction(rows: pd.DataFrame, metric: str) -> Interval | None:
    """Mean of a metric in 0..1 with its interval; None without rows."""
    return statistics.fraction_interval(rows[metric], luck(rows)) if len(rows) else None


def difference(
    rows: pd.DataFrame, others: pd.DataFrame, metric: str, by: str = "draw"
) -> PairedDifference | None:
    """Mean of ``rows`` minus ``others`` over the values of column ``by`` that both have.

    None where they have none in common. Pairs that share a trained network on either side count
    as one.
    """
    first, second = (each.set_index(by)[metric].to_dict() for each in (rows, others))
    gaps = {key: first[key] - second[key] for key in sorted(first.keys() & second.keys())}
    return of_gaps(gaps, rows, others, by=by) if gaps else None


def of_gaps(
    gaps: Mapping[Hashable, float], *sides: pd.DataFrame, by: str = "draw"
) -> PairedDifference:
    """Mean of differences by draw or seed that rows of these sides were made from."""
    unit = {key: key for key in gaps}
    for rows in sides:
        first: dict[str, Hashable] = {}
        for key, name in zip(rows[by], luck(rows), strict=True):
            if key in unit and name is not None:
                old, new = unit[key], unit[first.setdefault(name, key)]
                unit = {k: new if u == old else u for k, u in unit.items()}
    return statistics.mean_difference([*gaps.values()], [*unit.values()])
