"""Means and differences with their intervals, by what the runs share.

Each takes rows of `fewlabels.evidence.frame.frame`, so that nobody can forget what runs share: n
counts pretrained networks where several runs start from one, and random splits of one data set
that share images get the interval made for them. What was not run is an interval that prints
itself as "not run".
"""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from fewlabels.errors import UserError
from fewlabels.evidence import statistics
from fewlabels.evidence.frame import done
from fewlabels.evidence.statistics import Interval, PairedDifference

NOT_RUN = Interval(math.nan, math.nan, math.nan, 0, "not run")
NO_DIFFERENCE = PairedDifference(math.nan, math.nan, math.nan, 0, "not run")


def fraction(rows: pd.DataFrame, metric: str = "accuracy") -> Interval:
    """Mean of a metric in 0..1, its interval within 0..1."""
    made = _with(metric, rows)
    if made.empty:
        return NOT_RUN
    return statistics.fraction_interval(made[metric], luck(made), _overlap(made))


def mean(rows: pd.DataFrame, metric: str) -> Interval:
    """Mean of a metric in any unit."""
    made = _with(metric, rows)
    if made.empty:
        return NOT_RUN
    return statistics.mean_interval(made[metric], luck(made), _overlap(made))


def means(
    rows: pd.DataFrame,
    by: str | Sequence[str],
    metric: str,
    of: Callable[[pd.DataFrame, str], Interval] = fraction,
) -> pd.DataFrame:
    """Intervals by group, for figures: the columns ``by``, and mean, low, high and n.

    of: `fraction`, or `mean` for a metric in any unit.
    """
    by = [by] if isinstance(by, str) else [*by]
    found = []
    for key, group in done(rows).groupby(by, sort=False):
        each = of(group, metric)
        bounds = {"mean": each.mean, "low": each.low, "high": each.high, "n": each.n}
        found.append(dict(zip(by, key, strict=True)) | bounds)
    return pd.DataFrame(found, columns=[*by, "mean", "low", "high", "n"])


def difference(a: pd.DataFrame, b: pd.DataFrame, metric: str = "accuracy") -> PairedDifference:
    """Mean of ``a`` minus ``b`` over the draws that both have, in the metric's unit.

    Pairs of which a side starts from one trained network share its luck and count once. Raises
    UserError where a side has two runs of one draw: the rows are of more than one cell.
    """
    found = pairs(a, b, metric)
    if found.empty:
        return NO_DIFFERENCE
    return statistics.mean_difference(found["difference"], luck(found), _overlap(a))


def mean_difference(rows: pd.DataFrame, metric: str) -> PairedDifference:
    """Mean of a column of differences that are already taken, one per run."""
    made = _with(metric, rows)
    if made.empty:
        return NO_DIFFERENCE
    return statistics.mean_difference(made[metric], luck(made), _overlap(made))


def pairs(a: pd.DataFrame, b: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """What `difference` averages: by draw the ``difference``, and the ``luck`` of its pair."""
    sides = []
    for rows in (a, b):
        side = _with(metric, rows).set_index("draw")
        if not side.index.is_unique:
            names = ", ".join(map(str, rows["name"].unique()))
            raise UserError(f"two runs of one draw are to be paired ({names}): ask for one cell.")
        sides.append(side)
    both = sides[0].index.intersection(sides[1].index).sort_values()
    first, second = (side.loc[both] for side in sides)
    shared = _joined(luck(first), luck(second))
    return pd.DataFrame({"difference": first[metric] - second[metric], "luck": shared})


def _joined(first: list, second: list) -> list:
    """A name for every pair, the same for pairs that share luck on either side."""
    unit = [*range(len(first))]
    for side in (first, second):
        seen: dict[str, int] = {}
        for place, name in enumerate(side):
            if name is not None:
                old, new = unit[place], unit[seen.setdefault(name, place)]
                unit = [new if each == old else each for each in unit]
    return unit


def unpaired(a: pd.DataFrame, b: pd.DataFrame, metric: str = "accuracy") -> PairedDifference:
    """Mean of ``a`` minus mean of ``b``, for runs that share no draw (Welch)."""
    first, second = (_with(metric, rows) for rows in (a, b))
    if first.empty or second.empty:
        return NO_DIFFERENCE
    return statistics.unpaired_difference(first[metric], second[metric])


def _with(metric: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The runs that have been made and have a number for the metric."""
    made = done(rows)
    if metric in made:
        made = made[made[metric].notna()]
        # `astype` of one column would go through all of them, and a chapter has hundreds.
        return made.assign(**{metric: made[metric].astype(float)})
    if made.empty:
        return made.assign(**{metric: math.nan})
    raise UserError(f"no run measures {metric!r}; a run of {made['kind'].iloc[0]} does not")


def luck(rows: pd.DataFrame) -> list:
    """What each run shares with others, None where nothing: for `fewlabels.evidence.statistics`."""
    return [None if pd.isna(each) else each for each in rows["luck"]]


def _overlap(rows: pd.DataFrame) -> float:
    known = rows["overlap"].dropna().unique()
    if len(known) > 1:
        raise UserError("runs on splits of different sizes have no common interval.")
    return float(known[0]) if len(known) else 0.0
