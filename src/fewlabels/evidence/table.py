"""A table: rows are groups of runs, and each column is a question asked of every group."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

from fewlabels.evidence import measures, tables
from fewlabels.evidence.frame import done, of_the_book, where
from fewlabels.evidence.tables import NO_FIGURE, NOT_RUN, Table

Column = Callable[[pd.DataFrame, tuple], Any]
"""The runs of a row, and the row's key, -> its cell. ``only`` in the questions below cuts the runs
of the row to those with these values first."""


def count(**only: Any) -> Column:
    """How many runs have been made."""
    return lambda group, key: str(len(done(where(group, **only))))


def share(**only: Any) -> Column:
    """How many of the runs that have been made have these values, as "7 of 10"; "10" where all."""

    def of(group: pd.DataFrame, key: tuple) -> str:
        made = done(group)
        found = len(where(made, **only))
        return str(found) if found == len(made) else f"{found} of {len(made)}"

    return of


def units(metric: str = "accuracy", **only: Any) -> Column:
    """How many units of luck the mean of a metric has: trained networks where runs share one."""
    return lambda group, key: str(measures.mean(where(group, **only), metric).n)


def percent(metric: str = "accuracy", decimals: int = 1, **only: Any) -> Column:
    """Mean of a fraction with its interval, in percent.

    A dash where all runs of the row have been made and none is such a one.
    """

    def of(group: pd.DataFrame, key: tuple) -> str:
        rows = where(group, **only)
        if _none_missing(group, rows):
            return NO_FIGURE
        return tables.percent(measures.fraction(rows, metric), decimals)

    return of


def number(
    metric: str, decimals: int = 1, scale: float = 1, interval: bool = True, **only: Any
) -> Column:
    """Mean of a metric, times ``scale``, with its interval unless ``interval`` is false.

    A dash as in `percent`.
    """

    def of(group: pd.DataFrame, key: tuple) -> str:
        rows = where(group, **only)
        if _none_missing(group, rows):
            return NO_FIGURE
        if scale != 1 and metric in rows:
            rows = rows.assign(**{metric: scale * rows[metric]})
        found = measures.mean(rows, metric)
        return tables.number(found if interval else found.mean, decimals)

    return of


def value(column: str, scale: float = 1, decimals: int | None = None, **only: Any) -> Column:
    """What the row's runs have in common, or its only run measured; without an interval.

    Whole numbers stay whole. A dash as in `percent`, and where the runs made have none.
    decimals: of a number that is not to have those of the table, such as 0 for a count.
    """

    def of(group: pd.DataFrame, key: tuple) -> Any:
        rows = where(group, **only)
        found = rows[column].dropna() if column in rows else []
        if not len(found):
            return NO_FIGURE if len(done(rows)) or _none_missing(group, rows) else NOT_RUN
        first = found.iloc[0]
        if isinstance(first, str):
            return first
        if decimals is not None:
            return tables.number(float(scale * first), decimals)
        # Where other runs have none, the column holds counts as floats.
        return int(first) if scale == 1 and float(first).is_integer() else scale * first

    return of


def median(column: str, decimals: int = 0) -> Column:
    """The median of the runs that have been made, without an interval."""

    def of(group: pd.DataFrame, key: tuple) -> str:
        found = done(group)[column].dropna() if column in group else []
        return tables.number(float(found.median()), decimals) if len(found) else NOT_RUN

    return of


def beside(printed: Mapping[Any, Any]) -> Column:
    """Printed figures by the row's key, or its last part; a dash where there is none."""
    return lambda group, key: str(printed.get(key, printed.get(key[-1], NO_FIGURE)))


def table(
    rows: pd.DataFrame,
    by: Mapping[str, str],
    columns: Mapping[str, Column],
    label: str,
    caption: str,
    *,
    pick: Sequence[Any] | Mapping[Any, str] | None = None,
    order: str | None = None,
    above: Iterable[Mapping[str, Any]] = (),
    decimals: int = 1,
) -> Table:
    """One row per group of runs, one column per question.

    Args:
        rows: runs (`fewlabels.evidence.frame.runs`), cut to what the table is about.
        by: heading -> column of ``rows``; these make the groups.
        columns: heading -> `count`, `units`, `percent`, `number`, `value`, `median`, `beside`, or
            any function of a group and its key. A row of which nothing was run is named below.
        pick: the groups that appear, in this order; as a mapping, what their last heading prints.
        order: a metric by whose falling mean the rows come.
        above: rows to print first, such as a source's; what they leave out is a dash.

    Raises:
        UserError: ``pick`` names a group that no planned run belongs to.
    """
    groups = {key: group for key, group in rows.groupby([*by.values()], sort=False, dropna=False)}
    keys = [*groups] if pick is None else [_key(each) for each in pick]
    for key in keys if pick is not None else ():
        if key not in groups:
            where(rows, **dict(zip(by.values(), key, strict=True)))
    if order:
        keys.sort(key=lambda key: -groups[key][order].mean() if key in groups else 0)
    named = {_key(k): v for k, v in pick.items()} if isinstance(pick, Mapping) else {}
    found, missing = [], []
    for key in keys:
        group = groups.get(key, rows.iloc[:0])
        heads = [*map(_heading, key)]
        heads[-1] = named.get(key, heads[-1])
        cells = {heading: of(group, key) for heading, of in columns.items()}
        if _not_run(cells.values()):
            # A number by itself says nothing below the table.
            missing.append(
                tuple(
                    f"{name} = {head}" if isinstance(part, Number) else head
                    for name, head, part in zip(by, heads, key, strict=True)
                )
            )
        else:
            found.append(dict(zip(by, heads, strict=True)) | cells)
    lines = [dict.fromkeys((*by, *columns), NO_FIGURE) | dict(line) for line in above]
    if not found and not missing:
        nothing = dict.fromkeys((*by, *columns), NO_FIGURE)
        found.append(nothing | {next(iter(by)): "no run is planned with these settings"})
    shown = pd.DataFrame([*lines, *found], columns=[*by, *columns])
    return tables.show(shown, label, caption, decimals, missing=missing)


def beside_the_book(
    rows: pd.DataFrame,
    settings: Any,
    by: Mapping[str, str],
    label: str,
    caption: str,
    metric: str = "accuracy",
    measure: Callable[..., Column] = percent,
    cut: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows,
    **only: Any,
) -> Table | None:
    """In a rerun, the reader's means beside the book's; nothing in the book itself.

    Args:
        rows: the reader's runs, of one chapter (`fewlabels.evidence.frame.runs`).
        settings: theirs; with ``store="results"`` these runs are the book's.
        by, label, caption: as in `table`.
        metric, measure: what is compared, and `percent` or `number`.
        cut: names or chooses the runs that are compared, the reader's and the book's alike.
        only: which of them are compared, as in `where`.
    """
    if settings.store == "results":
        return None
    yours = where(cut(rows), **only)
    if yours.empty:
        return None
    book = where(cut(of_the_book(rows.attrs["chapter"])), **only)
    columns = {
        "n": units(metric, whose="yours"),
        "Your run": measure(metric, whose="yours"),
        "Book's n": units(metric, whose="the book's"),
        "The book": measure(metric, whose="the book's"),
    }
    keys = yours[[*by.values()]].drop_duplicates().itertuples(index=False, name=None)
    both = pd.concat([yours.assign(whose="yours"), book.assign(whose="the book's")])
    # Not a chapter's own runs any more: nobody else has asked whose they are.
    both.attrs = {}
    return table(both, by, columns, label, caption, pick=[*keys])


def _none_missing(group: pd.DataFrame, asked: pd.DataFrame) -> bool:
    """All runs of a row have been made, and none is of the kind that is asked for."""
    return len(group) > 0 and asked.empty and len(done(group)) == len(group)


def _not_run(cells: Iterable[Any]) -> bool:
    """Nothing is known of a row: neither a figure of ours nor a printed one."""
    said = {*map(str, cells)}
    return NOT_RUN in said and said <= {NOT_RUN, NO_FIGURE, "0"}


def _key(each: Any) -> tuple:
    return each if isinstance(each, tuple) else (each,)


def _heading(key: Any) -> Any:
    if isinstance(key, float):
        return f"{key:g}"
    # `show` prints whole numbers and booleans as in every other column.
    return key.item() if isinstance(key, np.integer | np.bool_) else key
