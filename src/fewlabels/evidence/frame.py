"""A chapter's runs as one tidy frame, and the questions that cut it."""

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import pandas as pd

from fewlabels import chapters, data
from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.evidence.statistics import shared_luck
from fewlabels.runs.expected import REPEATED
from fewlabels.runs.records import Experiment, Record, Store
from fewlabels.runs.sweep import run_all


def runs(chapter: ModuleType, settings: Any) -> pd.DataFrame:
    """One row per run that the chapter plans, see `frame`; missing ones are computed first.

    Where the settings have ``minutes``, that is the time for them; 0 starts none.
    """
    planned, store = chapter.plan(settings), chapter.store(settings)
    minutes = getattr(settings, "minutes", -1)
    if minutes:
        run_all(
            planned,
            store,
            settings.device,
            settings.precision,
            settings.workers,
            minutes=minutes if minutes > 0 else math.inf,
            keep_going=hasattr(settings, "minutes"),
        )
    found = frame(planned, store)
    found.attrs["chapter"] = chapter.NAME
    return found


def frame(planned: Sequence[Experiment], store: Store) -> pd.DataFrame:
    """One row per planned run, all that is known of it as a column.

    What is planned: the config, its parts joined by ``_`` (``training_steps``,
    ``pretraining_seed``); the cell (dataset, labels, method, backbone, protocol); ``name``, the
    method as tables call it; ``draw``, which repetition of its cell the run is; ``luck``, what it
    shares with others, and ``overlap``, test images per training image of random splits that share
    images. What was measured, missing where the run is: every metric; ``last_...``, the end of
    every learning curve; ``parameters_total`` and ``_trained``; ``id``, ``seconds``; and the
    ``record``, for curves and predictions.

    Raises UserError where a metric has the name of a planned column.
    """
    found = pd.DataFrame([_row(run, store.get(run)) for run in planned])
    for column in ("record", "seconds", "luck", "overlap"):
        if column not in found:
            found[column] = None
    return found


def of_the_book(chapter: str) -> pd.DataFrame:
    """One row per run that the book plans for a chapter, see `frame`, from the book's records.

    chapter: its name. Nothing is computed. Raises UserError for an unknown chapter.
    """
    module, settings = _book(chapter)
    with data.as_in_the_book():
        found = frame(module.plan(settings), module.store(settings))
    found.attrs["chapter"] = chapter
    return found


def done(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose run has been made."""
    return rows[rows["record"].notna()]


def where(rows: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows whose columns have these values: one each, or a list of them.

    An empty answer is fine where the book plans such runs and these settings do not, and in a
    column that the notebook has added. Raises UserError for a column that no run has, and for a
    value that no planned run has.
    """
    found = rows
    for column, value in wanted.items():
        values = [*value] if isinstance(value, list | tuple | set) else [value]
        if column not in found:
            raise UserError(f"no run has {column!r}{_close(column, found.columns)}")
        for each in values:
            _must_exist(rows, column, each)
        found = found[found[column].isin(values)]
    return found


def known(rows: pd.DataFrame, metric: str) -> pd.Series:
    """A metric, a value per row; missing where the run was not made or does not have it."""
    return pd.to_numeric(rows.reindex(columns=[metric])[metric])


def of_draws(rows: pd.DataFrame, others: pd.DataFrame, metric: str) -> pd.Series:
    """For each row, the metric of the row with the same draw among ``others``, which has one."""
    return rows["draw"].map(known(others, metric).set_axis(others["draw"]))


def named(cuts: Mapping[str, pd.DataFrame], column: str = "model") -> pd.DataFrame:
    """The rows of several cuts of one frame below each other, each with its name in ``column``."""
    return pd.concat([rows.assign(**{column: name}) for name, rows in cuts.items()])


def _must_exist(rows: pd.DataFrame, column: str, value: Any) -> None:
    if rows[column].eq(value).any() or "chapter" not in rows.attrs:
        return
    known = _in_the_book(rows.attrs["chapter"]).get(column)
    if known is not None and value not in known:
        raise UserError(f"no planned run has {column} {value!r}{_close(value, known)}")


@cache
def _in_the_book(chapter: str) -> dict[str, list]:
    """Column -> its values among the runs that the book plans for a chapter."""
    module, settings = _book(chapter)
    found = pd.DataFrame([_planned(run) for run in module.plan(settings)])
    return {column: [*found[column].dropna().map(_hashable).unique()] for column in found}


def _book(chapter: str) -> tuple[ModuleType, Any]:
    """A chapter's module, and its settings as the book prints it."""
    return chapters.load(chapter), profiles.settings(chapter)


def _close(value: Any, known: Iterable) -> str:
    names = [*map(str, known)]
    near = difflib.get_close_matches(str(value), names, 5, 0.3) or names[:5]
    return f"; there is {', '.join(near)}" if near else ""


def _planned(run: Experiment) -> dict[str, Any]:
    config = run.describe()
    facts = {key: _hashable(value) for key, value in _flat(config)} | run.cell()
    facts["draw"] = next((facts[key] for key in _repetition(facts)), 0)
    method, backbone = facts.get("method", run.kind), facts.get("backbone", "")
    plain = backbone in ("", "scratch", "none")
    facts["name"] = method if plain else f"{method} ({backbone})"
    return facts | {"luck": shared_luck(config), "overlap": getattr(run, "overlap", None)}


def _repetition(facts: Mapping[str, Any]) -> Iterator[str]:
    """The columns that tell repetitions apart: a run's own, else those of what it starts from."""
    for name in REPEATED:
        yield from (key for key in facts if key == name)
    for name in REPEATED:
        yield from (key for key in facts if key.endswith(f"_{name}"))


def _row(run: Experiment, record: Record | None) -> dict[str, Any]:
    planned, measured = _planned(run), _measured(record)
    if taken := sorted(planned.keys() & measured.keys()):
        raise UserError(f"{record.id} measures {', '.join(taken)}, which is a column already")
    return planned | measured


def _measured(record: Record | None) -> dict[str, Any]:
    if record is None:
        return {"record": None}
    facts = {f"parameters_{key}": count for key, count in record.parameters.items()}
    facts |= {f"last_{key}": curve[-1] for key, curve in record.curves.items() if curve}
    facts |= {"id": record.id, "seconds": record.seconds, "record": record}
    return facts | record.metrics


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, found in config.items():
        if isinstance(found, Mapping):
            yield from _flat(found, f"{prefix}{key}_")
        else:
            yield f"{prefix}{key}", found


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
