"""What records keep run by run: predictions (recalls, mix-ups, confusion matrices) and curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fewlabels.evidence import figures
from fewlabels.evidence.frame import done
from fewlabels.evidence.measures import fraction, luck
from fewlabels.evidence.tables import percent
from fewlabels.learn import evaluation

Truth = np.ndarray | Mapping[Any, np.ndarray]
"""The classes of the test images [N]: of all runs, or by draw where each is tested on others."""


def _true(rows: pd.DataFrame, truth: Truth) -> list[np.ndarray]:
    return [truth if isinstance(truth, np.ndarray) else truth[draw] for draw in rows["draw"]]


def classes(record) -> np.ndarray:
    """Predicted test classes [N] of a record, whether it keeps them or probabilities: [N, K], or
    [N] of the second of two classes."""
    if "classes" in record.predictions:
        return record.predictions["classes"]
    kept = record.predictions["test"]
    return (kept > 0.5).astype(int) if kept.ndim == 1 else kept.argmax(axis=1)


def hits(
    rows: pd.DataFrame, truth: np.ndarray, groups: Mapping[str, Sequence[int]]
) -> pd.DataFrame:
    """The rows that have been made, with a column per group of test images: its accuracy (0..1).

    groups: name -> positions of test images.

    Convention: nan, which no mean counts, where a group has no image.
    """
    made = done(rows)
    right = [classes(record) == truth for record in made["record"]]
    return made.assign(
        **{
            name: [hit[at].mean() if len(at) else np.nan for hit in right]
            for name, at in ((name, np.asarray(at, dtype=int)) for name, at in groups.items())
        }
    )


def right(rows: pd.DataFrame, truth: Truth) -> list[np.ndarray]:
    """Of every row, which all have been made, which test images it is right about [N]."""
    made = zip(rows["record"], _true(rows, truth), strict=True)
    return [classes(record) == true for record, true in made]


def recalls(rows: pd.DataFrame, truth: Truth, names: Sequence[str]) -> pd.DataFrame:
    """The rows that have been made, with the recall of every class (0..1) as a column.

    Convention: nan, and not 0, where a class has no image.
    """
    made = done(rows)
    pairs = [*zip(right(made, truth), _true(made, truth), strict=True)]
    return made.assign(
        **{
            name: [hit[true == k].mean() if (true == k).any() else np.nan for hit, true in pairs]
            for k, name in enumerate(names)
        }
    )


def by_class(rows: pd.DataFrame, truth: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """The rows that have been made, once for every class: ``class``, its precision, recall and f1
    (0..1), and ``support``, its number of test images.

    Convention: that of `fewlabels.learn.evaluation.per_class`.
    """
    made = done(rows)
    each = [evaluation.per_class(classes(record), truth, names) for record in made["record"]]
    columns = ("class", "precision", "recall", "f1", "support")
    return pd.concat(
        made.assign(**{column: [one[column].iloc[k] for one in each] for column in columns})
        for k in range(len(names))
    )


def confused(rows: pd.DataFrame, truth: np.ndarray, first: int, second: int) -> pd.Series:
    """By run: share of the two classes' images that are taken for the other of the two.

    Convention: of the images of both classes together, so that the larger class weighs more.
    """
    swapped = np.where(truth == first, second, np.where(truth == second, first, -1))
    return rows["record"].map(
        lambda record: float((classes(record) == swapped)[swapped >= 0].mean()),
        na_action="ignore",
    )


def mixed_up(rows: pd.DataFrame, truth: np.ndarray, group: Sequence[int]) -> pd.DataFrame:
    """The rows that have been made, with how much more often a group's classes are confused.

    ``mixed_up``: the mean share of a class's images that go to one other class of the group, minus
    the same mean over every pair of classes that are not both in it.

    Convention: fractions of the true class's images; every pair weighs the same.
    """
    made, k = done(rows), int(truth.max()) + 1
    inside = np.zeros((k, k), dtype=bool)
    inside[np.ix_(group, group)] = True
    apart = ~np.eye(k, dtype=bool)
    found = []
    for record in made["record"]:
        counts = evaluation.confusion(classes(record), truth, k)
        share = counts / counts.sum(axis=1, keepdims=True)
        found.append(share[inside & apart].mean() - share[~inside & apart].mean())
    return made.assign(mixed_up=found)


def split_variance(rows: pd.DataFrame, truth: np.ndarray, metric: str = "accuracy") -> float:
    """Variance of the difference that two draws of the test images put between two figures.

    Convention: every class keeps its number of images, and each image is right with its class's
    recall: 2 v, where v is the variance of accuracy or of ``mean_class_accuracy`` (fractions) over
    such draws. Zero where no run has been made.
    """
    made = done(rows)
    if made.empty:
        return 0.0
    counts = np.bincount(truth)
    right = np.array([made[f"recall_class_{k}"].mean() for k in range(len(counts))])
    share = 1 / len(counts) if metric == "mean_class_accuracy" else counts / counts.sum()
    return float(2 * (share**2 * right * (1 - right) / counts).sum())


def confusion(rows: pd.DataFrame, truth: Truth, names: Sequence[str]) -> Figure | figures.Absent:
    """Mean confusion matrix over the runs, in percent of the true class."""
    made = done(rows)
    if made.empty:
        return figures.empty("not run")
    return figures.confusion(_mean_confusion(made, truth, names), names)


def confusion_grid(
    models: Mapping[str, pd.DataFrame], truth: Truth, names: Sequence[str]
) -> Figure:
    """Those of several models side by side, with n; models without runs are left out."""
    found = {
        f"{model} (n = {len(done(rows))})": _mean_confusion(done(rows), truth, names)
        for model, rows in models.items()
        if len(done(rows))
    }
    return figures.confusion_grid(found, names) if found else figures.empty("not run")


def _mean_confusion(made: pd.DataFrame, truth: Truth, names: Sequence[str]) -> np.ndarray:
    each = [
        evaluation.confusion(classes(record), true, len(names))
        for record, true in zip(made["record"], _true(made, truth), strict=True)
    ]
    return np.mean(each, axis=0)


def per_class(
    rows: pd.DataFrame,
    truth: np.ndarray,
    names: Sequence[str],
    printed: pd.DataFrame,
    heading: str = "Class",
) -> pd.DataFrame:
    """Precision, recall and F1 of every class beside the printed ones (rows ``class``, 0..1)."""
    each = by_class(rows, truth, names)
    printed = printed.set_index(printed["class"].astype(str))
    found = []
    for name in names:
        row, ours = {heading: name}, each[each["class"] == name]
        for metric, title in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1")):
            row[title] = f"{100 * printed.loc[name, metric]:.0f}"
            row[f"{title}, ours"] = percent(fraction(ours, metric))
        found.append(row)
    return pd.DataFrame(found)


def curve(rows: pd.DataFrame, name: str) -> np.ndarray:
    """One recorded curve of every run that has been made, all of one length: [runs, points]."""
    return np.array([record.curves[name] for record in done(rows)["record"]])


def curves(
    rows: pd.DataFrame,
    names: dict[str, str],
    panel: str | None = None,
    scale: float | None = 1.0,
) -> pd.DataFrame:
    """Recorded learning curves for `fewlabels.evidence.figures.learning_curves`, which says the
    columns.

    names: curve in the record -> what the figure calls it. panel: its title. scale: of the steps;
    None makes them the share of the training in percent, so that different lengths compare.
    """
    made, points = done(rows), []
    for record, unit in zip(made["record"], luck(made), strict=True):
        steps = record.curves.get("step", [])
        factor = scale if scale is not None else 100 / steps[-1] if steps else 1
        for name, series in names.items():
            for step, height in zip(steps, record.curves.get(name, []), strict=False):
                # A run that shares nothing is named by itself: a missing name would be one for all.
                points.append((step * factor, height, record.id, series, unit or record.id))
    found = pd.DataFrame(points, columns=["epoch", "value", "run", "series", "luck"])
    # Without this, curves of no run would make those beside them objects.
    found = found.astype({"epoch": float, "value": float})
    return found if panel is None else found.assign(panel=panel)
