"""Chapter 4's records as frames: what its tables, figures and verdicts are made from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from fewlabels import evaluation
from fewlabels.chapters.few_data_caltech import planning
from fewlabels.chapters.few_data_caltech.planning import (
    TEST_TO_TRAIN,
    TUNING_RATE,
    Settings,
    share,
)
from fewlabels.data import photographs
from fewlabels.data.photographs import Photographs
from fewlabels.experiments.few_photographs import (
    FeatureClassification,
    FineTuning,
    Recognition,
    parts,
)
from fewlabels.runs import Experiment, Record
from fewlabels.statistics import PairedDifference, paired_difference
from fewlabels.sweep import run_all

TWINS = 0.85
"""Correlation of two thumbnails from which on the images count as twins."""
THUMBNAIL = 32


def measure(settings: Settings) -> pd.DataFrame:
    """One row per run of the chapter; runs that are missing are computed first.

    Columns: those of the cell (dataset, labels, method, backbone, protocol), ``kind``, ``split``,
    ``per_class`` (images of each class that train, 0 for all), ``scored_on``, ``size``, ``cover``,
    ``steps`` and ``rate`` of the training, what only some kinds have (``augmentation``, ``network``
    with its number among the settings' networks or -1 for random weights, ``readout``, ``feature``,
    ``pixels``, ``blocks``, ``head_steps``), ``id``, ``seconds``, every metric (fractions, 0..1) and
    the ``record`` itself.
    """
    runs = planning.plan(settings)
    own = planning.store(settings)
    records = run_all(runs, own, settings.device, settings.precision, settings.workers)
    return frame(runs, records, settings)


def frame(
    runs: Sequence[Experiment], records: Sequence[Record | None], settings: Settings
) -> pd.DataFrame:
    """The rows of :func:`measure` for records at hand; runs without a record are left out."""
    rows = []
    for run, record in zip(runs, records, strict=True):
        if record is not None:
            facts = {"record": record, "id": record.id, "seconds": record.seconds}
            rows.append(record.cell | _facts(run, settings) | facts | record.metrics)
    return pd.DataFrame(rows)


def _facts(run: Experiment, settings: Settings) -> dict[str, Any]:
    images = run.head if isinstance(run, FineTuning | Recognition) else run
    facts = {"kind": run.kind, "split": images.split, "per_class": images.labels}
    facts |= {"scored_on": images.scored_on, "size": images.size, "cover": images.cover}
    if training := getattr(run, "training", None):
        facts |= {"steps": training.steps, "rate": training.rate}
    if run.kind == "scratch":
        facts |= {"augmentation": run.augmentation, "filters": run.filters, "dropout": run.dropout}
    if isinstance(images, FeatureClassification):
        known = planning.networks(settings)
        facts |= {
            "network": known.index(images.source) if images.source in known else -1,
            "readout": images.readout,
            "feature": images.feature,
            "pixels": images.pixels,
            "augmentation": images.augmentation,
            "head_steps": images.training.steps,
        }
    if isinstance(run, FineTuning):
        facts["blocks"] = run.blocks
    return facts


def chosen(runs: pd.DataFrame, **wanted) -> pd.DataFrame:
    """The rows whose columns have these values; those scored on the test part unless said."""
    for column, value in ({"scored_on": "test"} | wanted).items():
        if column not in runs:
            return runs.iloc[:0]
        runs = runs[runs[column] == value]
    return runs


def small(runs: pd.DataFrame, settings: Settings, **changed) -> pd.DataFrame:
    """The sheet's network on small images."""
    own = {"size": settings.scratch_size, "per_class": 0, "cover": "nothing"}
    own |= {"augmentation": "none", "steps": settings.scratch_steps}
    return chosen(runs, kind="scratch", **own | changed)


def native(runs: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The sheet's network on images of the sheet's size."""
    return small(runs, settings, size=settings.size, steps=settings.native_steps)


def on_features(runs: pd.DataFrame, settings: Settings, **changed) -> pd.DataFrame:
    """An MLP on pooled features of the first network, or what differs from that."""
    own = {"size": settings.size, "per_class": 0, "cover": "nothing", "augmentation": "none"}
    own |= {"network": 0, "readout": "mlp", "feature": "pooled", "pixels": "own"}
    return chosen(runs, kind="features", **own | {"steps": settings.head_steps} | changed)


def fine_tuned(runs: pd.DataFrame, settings: Settings, blocks: int, **changed) -> pd.DataFrame:
    """The first network with its trained MLP, its last blocks trained on."""
    own = {"per_class": 0, "steps": settings.tuning_steps, "head_steps": settings.head_steps}
    own["rate"] = TUNING_RATE
    return chosen(runs, kind="finetuning", blocks=blocks, **own | changed)


def paired(
    runs: pd.DataFrame, others: pd.DataFrame, metric: str = "accuracy"
) -> PairedDifference | None:
    """``runs`` minus ``others`` over the splits both have; None where they share none."""
    first, second = (each.set_index("split")[metric].to_dict() for each in (runs, others))
    common = sorted(first.keys() & second.keys())
    if not common:
        return None
    first, second = ({split: each[split] for split in common} for each in (first, second))
    return paired_difference(first, second, test_to_train=TEST_TO_TRAIN)


def gap(runs: pd.DataFrame) -> PairedDifference:
    """Training accuracy minus test accuracy of the same runs."""
    first, second = (
        runs.set_index("split")[each].to_dict() for each in ("train_accuracy", "accuracy")
    )
    return paired_difference(first, second, test_to_train=TEST_TO_TRAIN)


def tested(settings: Settings, split: int) -> tuple[Tensor, Tensor]:
    """Positions of a split's training part and test part."""
    return parts(settings.dataset, tuple(settings.classes), split, 0, "test")


def confusion(runs: pd.DataFrame, photos: Photographs, settings: Settings) -> np.ndarray:
    """Mean confusion matrix over the runs [K, K], rows true, in images."""
    each = []
    for run in runs.itertuples():
        truth = photos.labels[tested(settings, run.split)[1]].numpy()
        predicted = run.record.predictions["classes"]
        each.append(evaluation.confusion(predicted, truth, len(photos.classes)))
    return np.mean(each, axis=0)


def recalls(runs: pd.DataFrame, photos: Photographs, settings: Settings) -> pd.DataFrame:
    """Recall of every class (fractions), one row per split."""
    rows = {}
    for run in runs.itertuples():
        truth = photos.labels[tested(settings, run.split)[1]].numpy()
        right = run.record.predictions["classes"] == truth
        rows[run.split] = {name: right[truth == k].mean() for k, name in enumerate(photos.classes)}
    return pd.DataFrame.from_dict(rows, orient="index")


def errors(runs: pd.DataFrame, photos: Photographs, settings: Settings) -> pd.DataFrame:
    """Per photograph: how often it was tested, how often wrongly named, and as what mostly.

    Columns: file, label, tested, wrong, taken_for (a class, None where never wrong); the most
    often wrong first.
    """
    count = len(photos.labels)
    seen = np.zeros(count, int)
    votes = np.zeros((count, len(photos.classes)), int)
    for run in runs.itertuples():
        positions = tested(settings, run.split)[1].numpy()
        seen[positions] += 1
        votes[positions, run.record.predictions["classes"]] += 1
    truth = photos.labels.numpy()
    votes[np.arange(count), truth] = 0
    found = pd.DataFrame(
        {
            "position": np.arange(count),
            "file": photos.files,
            "label": truth,
            "tested": seen,
            "wrong": votes.sum(axis=1),
            "taken_for": votes.argmax(axis=1),
        }
    )
    return found.sort_values(["wrong", "file"], ascending=[False, True], kind="stable")


def twins(photos: Photographs) -> pd.DataFrame:
    """Pairs of photographs that are one, or nearly, by the correlation of grey thumbnails.

    Columns: first, second (positions), correlation, mirrored; by falling correlation.
    """
    grey = photos.images.float().mean(dim=1, keepdim=True)
    small = F.interpolate(grey, THUMBNAIL, mode="area")[:, 0]

    def unit(images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return F.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1)

    rows = []
    for mirrored in (False, True):
        same = unit(small) @ unit(small.flip(2) if mirrored else small).T
        for first, second in (same.triu(1) >= TWINS).nonzero().tolist():
            rows.append((first, second, same[first, second].item(), mirrored))
    columns = ["first", "second", "correlation", "mirrored"]
    return pd.DataFrame(rows, columns=columns).sort_values("correlation", ascending=False)


def without_twins(runs: pd.DataFrame, photos: Photographs, settings: Settings) -> dict[int, float]:
    """Accuracy by split over the test photographs that have no twin in the training part."""
    pairs = twins(photos)
    found = {}
    for run in runs.itertuples():
        train, test = tested(settings, run.split)
        inside = set(train.tolist())
        known = {
            a
            for pair in zip(pairs["first"], pairs["second"], strict=True)
            for a, b in (pair, pair[::-1])
            if b in inside
        }
        free = np.array([position not in known for position in test.tolist()])
        right = run.record.predictions["classes"] == photos.labels[test].numpy()
        found[run.split] = right[free].mean()
    return found


def split_twins(photos: Photographs, settings: Settings) -> float:
    """Mean number of pairs of twins that a split divides, one in training and one in test."""
    pairs = twins(photos)
    counts = []
    for split in range(settings.splits):
        inside = torch.zeros(len(photos.labels), dtype=torch.bool)
        inside[tested(settings, split)[0]] = True
        first, second = (torch.tensor(pairs[each].to_numpy()) for each in ("first", "second"))
        counts.append((inside[first] != inside[second]).sum().item() if len(pairs) else 0)
    return float(np.mean(counts))


def curve(runs: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Accuracy against labelled images: method, labels, mean, low, high, n."""
    series = {
        "features-mlp": lambda k: on_features(runs, settings, per_class=k),
        "features-knn": lambda k: on_features(runs, settings, per_class=k, readout="kNN"),
        "fine-tuned": lambda k: fine_tuned(runs, settings, 1, per_class=k),
        "small-cnn": lambda k: small(runs, settings, per_class=k),
    }
    rows = []
    for method, select in series.items():
        for number in settings.labels_per_class:
            values = select(number)["accuracy"]
            if len(values):
                found = share(values)
                bounds = {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}
                labels = number * len(settings.classes)
                rows.append({"method": method, "labels": labels} | bounds)
    return pd.DataFrame(rows)


def agreement(runs: pd.DataFrame, settings: Settings) -> list[float]:
    """Share of test photographs that the concatenated network, not trained again, names as the
    MLP on stored features does, by split."""
    separate = on_features(runs, settings, size=settings.tuning_size).set_index("split")
    joined = fine_tuned(runs, settings, 0, steps=0).set_index("split")
    return [
        float(
            np.mean(
                separate.loc[split, "record"].predictions["classes"]
                == joined.loc[split, "record"].predictions["classes"]
            )
        )
        for split in sorted(separate.index.intersection(joined.index))
    ]


def learning_curves(runs: pd.DataFrame, names: dict[str, str], per_step: float) -> pd.DataFrame:
    """Recorded curves, long: epoch, value, run, series."""
    rows = []
    for run in runs.itertuples():
        curves = run.record.curves
        for name, series in names.items():
            for step, value in zip(curves["step"], curves[name], strict=True):
                rows.append(
                    {"epoch": step * per_step, "value": value, "run": run.id, "series": series}
                )
    return pd.DataFrame(rows)


def border(photos: Photographs) -> pd.DataFrame:
    """Per class: share of the pixels outside the ellipse that are nearly black, nearly white."""
    size = photos.images.shape[-1]
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    outside = axis.view(-1, 1) ** 2 + axis**2 > 1
    pixels = photos.images[:, :, outside]
    dark, bright = (pixels <= 10).all(dim=1).float(), (pixels >= 245).all(dim=1).float()
    rows = []
    for k, name in enumerate(photos.classes):
        own = photos.labels == k
        rows.append((name, dark[own].mean().item(), bright[own].mean().item()))
    return pd.DataFrame(rows, columns=["class", "black", "white"])


def load(settings: Settings) -> Photographs:
    """The photographs at the sheet's size."""
    return photographs.load(settings.dataset, tuple(settings.classes), settings.size)
