"""A reader's own run of a chapter beside the book's."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pandas as pd

from fewlabels import chapters, data
from fewlabels.evidence.frame import frame
from fewlabels.evidence.table import count, percent, table
from fewlabels.tables import Table


def beside_the_book(
    chapter: ModuleType,
    settings: Any,
    runs: pd.DataFrame,
    cut: Callable[[pd.DataFrame], pd.DataFrame],
    by: Mapping[str, str],
    metric: str,
    label: str,
    caption: str,
) -> Table | None:
    """In a rerun: the reader's means of a metric beside the book's. In the book itself nothing.

    cut: which runs are compared, of the reader's ``runs`` and of the book's alike; by: as in
    `fewlabels.evidence.table.table`. Groups that the reader has no run of are left out.
    """
    if settings.store == "results":
        return None
    book = chapters.settings(chapter.NAME)
    with data.as_in_the_book():
        theirs = frame(chapter.plan(book), chapter.store(book))
    theirs.attrs = runs.attrs
    sides = {"you": cut(runs), "book": cut(theirs)}
    keys = [*by.values()]
    both = pd.concat([rows.assign(whose=whose) for whose, rows in sides.items()])
    return table(
        both,
        by,
        {
            "n": count(whose="you"),
            "Your run": percent(metric, whose="you"),
            "Book's n": count(whose="book"),
            "The book": percent(metric, whose="book"),
        },
        label,
        caption,
        pick=[*dict.fromkeys(sides["you"][keys].itertuples(index=False, name=None))],
    )
