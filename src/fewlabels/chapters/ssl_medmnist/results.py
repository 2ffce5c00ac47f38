"""Chapter 5's records as frames: what its tables, figures and verdicts are made from."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fewlabels import data, evaluation, figures, published
from fewlabels.chapters.ssl_medmnist import planning
from fewlabels.chapters.ssl_medmnist.planning import Settings
from fewlabels.data import duplicates
from fewlabels.experiments.ssl import on_new_images, predicted_classes
from fewlabels.runs import Experiment, Record
from fewlabels.statistics import (
    Interval,
    PairedDifference,
    fraction_interval,
    paired_difference,
    prediction_interval,
)
from fewlabels.sweep import run_all

ALL, QUARTER = "100%", "25%"
COLUMNS = (
    *("dataset", "labels", "method", "backbone", "protocol"),
    *("kind", "draw", "record", "id", "seconds"),
    *("accuracy", "mean_class_accuracy", "accuracy_new", "mean_class_accuracy_new", "auc"),
    *("calibration_error", "peak_memory_mb"),
)
MEAN = "mean_class_accuracy"


def measure(settings: Settings) -> pd.DataFrame:
    """One row per run of the chapter that there is; missing ones are computed within ``minutes``.

    Columns: those of the cell (dataset, labels, method, backbone, protocol), ``kind``, ``draw``
    (for pretraining, its seed), ``id``, ``seconds``, every metric (fractions, 0..1) and the
    ``record`` itself.
    """
    runs, own = planning.plan(settings), planning.store(settings)
    if settings.minutes:
        run_all(
            runs,
            own,
            settings.device,
            settings.precision,
            settings.workers,
            minutes=settings.minutes if settings.minutes > 0 else math.inf,
            keep_going=True,
        )
    return frame(runs, [own.get(run) for run in runs])


def frame(runs: Sequence[Experiment], records: Sequence[Record | None]) -> pd.DataFrame:
    """The rows of :func:`measure` for records at hand; runs without a record are left out."""
    rows = []
    for run, record in zip(runs, records, strict=True):
        if record is not None:
            draw = record.config.get("draw", record.config.get("seed", 0))
            facts = {"kind": run.kind, "draw": draw, "record": record}
            facts |= {"id": record.id, "seconds": record.seconds}
            if run.kind == "classes" and run.scored_on == "test":
                facts |= on_new_images(run.dataset, predicted_classes(record.predictions))
            rows.append(record.cell | record.metrics | facts)
    found = pd.DataFrame(rows)
    missing = [column for column in COLUMNS if column not in found]
    return found.assign(**dict.fromkeys(missing, np.nan)) if missing else found


def classes(runs: pd.DataFrame, dataset: str, labels: str, tuned: bool = False):
    """Classifiers scored on the test images of one data set, with one share of the labels.

    Those of the source's grid, at whichever budget it was planned, or of protocol ``tuned``.
    """
    return runs[
        (runs["kind"] == "classes")
        & (runs["dataset"] == dataset)
        & (runs["labels"] == labels)
        & runs["protocol"].isin(["tuned"] if tuned else ["report", "reduced"])
    ]


def cell(runs: pd.DataFrame, method: str, backbone: str) -> pd.DataFrame:
    """The rows of one method and backbone."""
    return runs[(runs["method"] == method) & (runs["backbone"] == backbone)]


def values(runs: pd.DataFrame, method: str, backbone: str, metric: str = MEAN) -> dict[int, float]:
    """Draw -> metric of one method and backbone."""
    return cell(runs, method, backbone).set_index("draw")[metric].to_dict()


def paired(
    runs: pd.DataFrame, method: tuple[str, str], other: tuple[str, str], metric: str = MEAN
) -> PairedDifference | None:
    """``method`` minus ``other`` over the draws both have; each is (method, backbone).

    None where they have no draw in common.
    """
    found = differences(runs, method, other, metric)
    return paired_difference(found, dict.fromkeys(found, 0.0)) if found else None


def differences(
    runs: pd.DataFrame, method: tuple[str, str], other: tuple[str, str], metric: str = MEAN
) -> dict[int, float]:
    """Draw -> ``method`` minus ``other``, for the draws both have; each is (method, backbone)."""
    first, second = (values(runs, *name, metric) for name in (method, other))
    return {draw: first[draw] - second[draw] for draw in sorted(first.keys() & second.keys())}


def interval(found: Sequence[float]) -> Interval | None:
    """Mean and interval; None where there is no value."""
    return fraction_interval(list(found)) if len(found) else None


def one_more(found: Sequence[float]) -> Interval | None:
    """Where one further run is expected; None where fewer than three runs could tell."""
    return prediction_interval(list(found)) if len(found) >= 3 else None


def split_variance(rows: pd.DataFrame, metric: str) -> float:
    """Variance of the difference that two draws of the test images put between figures (fractions).

    Every class keeps its number of images, and each image is right with its class's recall: 2 v,
    where v is the variance of ``accuracy`` or of the class mean over such draws. rows: runs on one
    data set, of which the mean recalls are taken.
    """
    counts = data.load(rows["dataset"].iloc[0]).test.labels.bincount().numpy()
    recalls = np.array([rows[f"recall_class_{k}"].mean() for k in range(len(counts))])
    share = 1 / len(counts) if metric == MEAN else counts / counts.sum()
    variance = (share**2 * recalls * (1 - recalls) / counts).sum()
    return float(2 * variance)


def named(method: str, backbone: str) -> str:
    """A cell's method and backbone as tables and figures call it."""
    first, *rest = method.split(", ")
    if first.startswith("random "):
        first = f"random {NETWORKS[first.removeprefix('random ')]}"
    elif first in figures.METHODS:
        first = figures.look(first).label
    rest = [NETWORKS.get(part, part) for part in rest]
    text = ", ".join([first, *rest])
    return text if backbone == "scratch" else f"{text} ({backbone})"


NETWORKS = {
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "vit-b32": "ViT-B/32",
    "vit-narrow": "narrow ViT",
    "aim": "causal ViT",
    "aim-narrow": "narrow causal ViT",
}
PRINTED_LABELS = {ALL: "full", QUARTER: "quarter"}
PRINTED = {
    "supervised": "supervised",
    "moco, resnet34": "moco-resnet34",
    "moco, extra cells": "moco-extra-data",
}


def printed(role: str, labels: str, method: str, backbone: str, metric: str = MEAN) -> float | None:
    """The source's figure in percent, None where it has none.

    role: ``bloodmnist`` or ``dermamnist``, whichever set plays that part.
    """
    table = published.ssl_medmnist()
    found = table[
        (table["dataset"] == role)
        & (table["labels"] == PRINTED_LABELS.get(labels, ""))
        & (table["method"] == PRINTED.get(method, method))
        & (table["backbone"] == backbone.replace("-", ""))
        & (table["metric"] == metric)
    ]["value_percent"]
    return float(found.iloc[0]) if len(found) else None


def confusion(rows: pd.DataFrame, dataset: str) -> np.ndarray:
    """Mean confusion matrix over the runs [K, K], rows true, in images."""
    whole = data.load(dataset)
    truth, k = whole.test.labels.numpy(), len(whole.classes)
    return np.mean(
        [
            evaluation.confusion(predicted_classes(record.predictions), truth, k)
            for record in rows["record"]
        ],
        axis=0,
    )


def mixed_up(rows: pd.DataFrame, dataset: str, trio: tuple[int, ...]) -> dict[int, float]:
    """By draw: how much more often a class of the trio is taken for another of it than usual.

    The mean share of a class's images that go to one other class of the trio, minus the same mean
    over every pair of classes that are not both in the trio.
    """
    whole = data.load(dataset)
    truth, k = whole.test.labels.numpy(), len(whole.classes)
    inside = np.zeros((k, k), dtype=bool)
    inside[np.ix_(trio, trio)] = True
    other = ~np.eye(k, dtype=bool)
    found = {}
    for run in rows.itertuples():
        counts = evaluation.confusion(predicted_classes(run.record.predictions), truth, k)
        share = counts / counts.sum(axis=1, keepdims=True)
        found[run.draw] = share[inside & other].mean() - share[~inside & other].mean()
    return found


def learning_curves(runs: pd.DataFrame, series: dict[tuple[str, str], str], curve: str):
    """Recorded curves, long, over the share of the training: epoch (percent), value, run, series.

    series: (method, backbone) -> what the figure calls it.
    """
    rows = []
    for name, label in series.items():
        for run in cell(runs, *name).itertuples():
            curves = run.record.curves
            steps = curves["step"]
            for step, value in zip(steps, curves[curve], strict=True):
                point = {"epoch": 100 * step / steps[-1], "value": value, "run": run.id}
                rows.append(point | {"series": label})
    return pd.DataFrame(rows, columns=["epoch", "value", "run", "series"])


def curve(runs: pd.DataFrame, dataset: str, settings: Settings) -> pd.DataFrame:
    """Protocol ``tuned`` against the number of labels: method, labels, mean, low, high, n."""
    total = data.train_size(dataset)
    total = min(total, settings.images) if settings.images else total
    rows = []
    for fraction in settings.fractions:
        here = classes(runs, dataset, f"{100 * fraction:g}%", tuned=True)
        for method in ("supervised", *settings.methods):
            backbone = "scratch" if method == "supervised" else "fine-tuned"
            found = interval([*values(here, method, backbone).values()])
            if found is not None:
                rows.append(
                    {"method": method, "labels": max(1, round(fraction * total)), "n": found.n}
                    | {"mean": found.mean, "low": found.low, "high": found.high}
                )
    return pd.DataFrame(rows)


def search(runs: pd.DataFrame, dataset: str) -> Record | None:
    """The record of the search for duplicates in one data set."""
    found = runs[(runs["kind"] == "duplicates") & (runs["dataset"] == dataset)]
    return found["record"].iloc[0] if len(found) else None


def pairs(record: Record) -> pd.DataFrame:
    """The pairs that a search found: split, index, other_split, other_index, distance, same."""
    names = np.array(["train", "valid", "test"])
    first, second, index, other = record.predictions["pairs"].reshape(-1, 4).T
    columns = (names[first], index, names[second], other, record.predictions["distances"])
    found = pd.DataFrame(dict(zip(duplicates.COLUMNS, columns, strict=True)))
    found["distance"] = found["distance"].astype(float)
    return found.assign(same=record.predictions["same_class"].astype(bool))
