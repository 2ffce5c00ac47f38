"""Chapter 1's records as frames: what its tables, figures and verdicts are made from."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from fewlabels import comparisons, data, evaluation, published
from fewlabels.chapters.rotnet_mnist import planning
from fewlabels.chapters.rotnet_mnist.planning import LABELS, Settings
from fewlabels.data import ImageData
from fewlabels.runs import Experiment, Record
from fewlabels.statistics import PairedDifference, fraction_interval
from fewlabels.sweep import run_all
from fewlabels.tables import percent

SERIES = {
    ("cnn", "scratch"): "cnn",
    ("rotnet", "fine-tuned"): "rotnet-finetuned",
    ("rotnet, linear probe", "frozen"): "rotnet",
    ("random, linear probe", "frozen"): "random",
    ("s4l", "scratch"): "s4l",
    ("fixmatch", "scratch"): "fixmatch",
}
"""Method and backbone of a cell -> its look in `fewlabels.figures.METHODS`."""


def measure(settings: Settings) -> pd.DataFrame:
    """One row per run of the chapter; runs that are missing are computed first.

    Columns: those of the cell (dataset, labels, method, backbone, protocol), ``scored_on``,
    ``draw`` (of labels; for pretraining, its seed), ``kind``, ``id``, ``seconds``, every metric
    (fractions, 0..1) and the ``record`` itself.
    """
    runs = planning.plan(settings)
    own = planning.store(settings)
    records = run_all(runs, own, settings.device, settings.precision, settings.workers)
    return frame(runs, records)


def frame(runs: Sequence[Experiment], records: Sequence[Record | None]) -> pd.DataFrame:
    """The rows of :func:`measure` for records at hand; runs without a record are left out."""
    rows = []
    for run, record in zip(runs, records, strict=True):
        if record is not None:
            config = record.config
            started = config.get("pretraining") or config
            draw = config.get("draw", started.get("seed"))
            scored_on = config.get("scored_on")
            facts = {"kind": run.kind, "draw": draw, "scored_on": scored_on, "record": record}
            facts |= {"id": record.id, "seconds": record.seconds}
            rows.append(record.cell | facts | record.metrics)
    return pd.DataFrame(rows)


def digits(runs: pd.DataFrame, protocol: str, labels: int | None = LABELS) -> pd.DataFrame:
    """Digit classification scored on the test set, of one protocol and number of labels."""
    chosen = (runs["kind"] == "digits") & (runs["protocol"] == protocol)
    return runs[chosen & (runs["labels"] == labels)] if labels else runs[chosen]


def rotations(runs: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Rotation pretraining scored on the test set: the seeds that learned."""
    every = every_rotation(runs, protocol)
    return every[[learned(record) for record in every["record"]]]


def every_rotation(runs: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The same with the seeds that stayed at chance."""
    chosen = (runs["kind"] == "rotation") & (runs["protocol"] == protocol)
    return runs[chosen & (runs["method"] == "rotation prediction")]


def starts(runs: pd.DataFrame) -> pd.DataFrame:
    """The first steps of protocol ``report``."""
    return runs[runs["kind"] == "start"]


def crossed(runs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy [label draws, seeds] of the plain network where the two are crossed."""
    rows = runs[runs["kind"] == "crossed"]
    configs = [record.config for record in rows["record"]]
    placed = rows.assign(
        label_draw=[config["run"]["draw"] for config in configs],
        seed=[config["seed"] for config in configs],
    )
    return placed.pivot(index="label_draw", columns="seed", values="accuracy")


def learned(record: Record) -> bool:
    """Whether a pretraining does more than give every test image the same answer.

    Of the first steps of a pretraining no answers to test images are kept. What is kept is the
    validation accuracy, which has left chance (25%) where it is above 30%, five standard errors of
    two thousand images higher.
    """
    recalls = [value for name, value in record.metrics.items() if name.startswith("recall_")]
    if recalls:
        return not evaluation.one_answer(recalls)
    return record.curves["valid_accuracy"][-1] > 0.3


def moved(runs: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The pretrained networks of a protocol on test images that were moved."""
    return runs[(runs["kind"] == "moved") & (runs["protocol"] == protocol)]


def centres(images: Tensor) -> np.ndarray:
    """Centre of mass of every image in pixels from its middle: [N, 2], rightwards and downwards.

    Args:
        images: [N, 1, H, W], not negative; the pixel values are the masses.
    """
    mass = images.double().squeeze(1)
    down = torch.arange(mass.shape[1]) - (mass.shape[1] - 1) / 2
    right = torch.arange(mass.shape[2]) - (mass.shape[2] - 1) / 2
    total = mass.sum(dim=(1, 2))
    return torch.stack(
        [(mass.sum(dim=1) * right).sum(1) / total, (mass.sum(dim=2) * down).sum(1) / total], dim=1
    ).numpy()


def centre_rule(images: ImageData, clean: Callable[[Tensor], Tensor]) -> float:
    """How well two numbers name the turn: the nearest mean centre of mass of the four turns.

    The four means come from the training images, the accuracy (a fraction) from the test images.
    ``clean`` prepares uint8 images.
    """
    rule = NearestCentroid()
    rule.fit(*_turned_centres(clean(images.train.images)))
    points, truth = _turned_centres(clean(images.test.images))
    return float((rule.predict(points) == truth).mean())


def _turned_centres(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Centres [4N, 2] of all four turns of the images, and the turns [4N]."""
    points = [centres(torch.rot90(images, k, dims=(2, 3))) for k in range(4)]
    return np.concatenate(points), np.arange(4).repeat(len(images))


def by_method(runs: pd.DataFrame, metrics: dict[str, str]) -> pd.DataFrame:
    """Mean and interval of every metric for each method.

    Args:
        runs: rows of :func:`measure`, of one protocol and number of labels.
        metrics: column of ``runs`` -> heading of the table.

    Returns:
        One row per method and backbone, by descending first metric, texts in percent.
    """
    rows = []
    first = next(iter(metrics))
    groups = runs.groupby(["method", "backbone"], sort=False)
    for (method, backbone), group in sorted(groups, key=lambda item: -item[1][first].mean()):
        row = {"Method": named(method, backbone), "n": comparisons.fraction(group, first).n}
        for metric, heading in metrics.items():
            row[heading] = percent(comparisons.fraction(group, metric))
        rows.append(row)
    return pd.DataFrame(rows)


def named(method: str, backbone: str) -> str:
    """A cell's method and backbone as tables and figures call it."""
    return method if backbone == "scratch" else f"{method} ({backbone})"


def curve(runs: pd.DataFrame) -> pd.DataFrame:
    """Accuracy against labels in protocol ``tuned``: method, labels, mean, low, high, n."""
    rows = []
    tuned = digits(runs, "tuned", labels=None)
    for (method, backbone, labels), group in tuned.groupby(
        ["method", "backbone", "labels"], sort=False
    ):
        if (method, backbone) in SERIES:
            series = SERIES[method, backbone]
            own = comparisons.fraction(group, "accuracy")
            bounds = {"mean": own.mean, "low": own.low, "high": own.high, "n": own.n}
            rows.append({"method": series, "labels": labels} | bounds)
    return pd.DataFrame(rows)


def cell(runs: pd.DataFrame, method: tuple[str, str]) -> pd.DataFrame:
    """The rows of one method, which is (method, backbone)."""
    return runs[(runs["method"] == method[0]) & (runs["backbone"] == method[1])]


def paired(
    runs: pd.DataFrame, method: tuple[str, str], other: tuple[str, str]
) -> PairedDifference | None:
    """Accuracy of ``method`` minus ``other`` over the label draws both have.

    Label draws that start from one pretrained network count as one. None without a common draw.
    """
    return comparisons.difference(cell(runs, method), cell(runs, other), "accuracy")


def learning_curves(runs: pd.DataFrame, names: dict[str, str], per_step: float = 1.0):
    """Recorded curves, long: epoch, value, run, luck, series.

    Args:
        runs: rows of :func:`measure`.
        names: curve in the record -> what the figure calls it.
        per_step: epochs per step.
    """
    rows = []
    for run, luck in zip(runs.itertuples(), comparisons.luck(runs), strict=True):
        curves = run.record.curves
        for curve_name, series in names.items():
            for step, value in zip(curves["step"], curves[curve_name], strict=True):
                point = {"epoch": step * per_step, "value": value, "series": series}
                rows.append(point | {"run": run.id, "luck": luck})
    return pd.DataFrame(rows)


def recalls(runs: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Recall of every digit on the test set (fractions), one row per label draw."""
    images = data.load(settings.dataset)
    labels = images.test.labels.numpy()
    rows = {}
    for run in runs.itertuples():
        right = run.record.predictions["classes"] == labels
        rows[run.draw] = {name: right[labels == k].mean() for k, name in enumerate(images.classes)}
    return pd.DataFrame.from_dict(rows, orient="index")


def per_class(runs: pd.DataFrame, settings: Settings, model: str) -> pd.DataFrame:
    """Precision, recall and F1 of every digit beside the source's (texts, percent)."""
    images = data.load(settings.dataset)
    labels = images.test.labels.numpy()
    each = [
        evaluation.per_class(run.record.predictions["classes"], labels, images.classes)
        for run in runs.itertuples()
    ]
    printed = published.rotnet_mnist().query("model == @model and task == 'digits'")
    printed = printed.set_index(printed["class"].astype(str))
    luck, rows = comparisons.luck(runs), []
    for k, name in enumerate(images.classes):
        row = {"Digit": name}
        for metric, heading in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1")):
            row[heading] = f"{100 * printed.loc[name, metric]:.0f}"
            row[f"{heading}, ours"] = percent(
                fraction_interval([one[metric].iloc[k] for one in each], luck)
            )
        rows.append(row)
    return pd.DataFrame(rows)


def confusion(runs: pd.DataFrame, settings: Settings) -> np.ndarray:
    """Mean confusion matrix over the runs [10, 10], rows true, in images."""
    labels = data.load(settings.dataset).test.labels.numpy()
    each = [
        evaluation.confusion(run.record.predictions["classes"], labels, 10)
        for run in runs.itertuples()
    ]
    return np.mean(each, axis=0)


def turns_by_digit(runs: pd.DataFrame, settings: Settings, off: int = 0) -> pd.DataFrame:
    """Share of every digit's turned test images named ``off`` quarter turns from the truth.

    ``off=0`` is the accuracy, ``off=2`` taking an image for the same one upside down. One row per
    seed.
    """
    images = data.load(settings.dataset)
    digit = images.test.labels.numpy().repeat(4)
    named_so = (np.tile(np.arange(4), len(images.test.labels)) + off) % 4
    rows = {}
    for run in runs.itertuples():
        hit = run.record.predictions["turns"] == named_so
        rows[run.draw] = {name: hit[digit == k].mean() for k, name in enumerate(images.classes)}
    return pd.DataFrame.from_dict(rows, orient="index")


def mixed_up(runs: pd.DataFrame, settings: Settings, pair: tuple[int, int]) -> dict[int, float]:
    """Share of the two digits' test images taken for the other of the pair, by label draw."""
    labels = data.load(settings.dataset).test.labels.numpy()
    first, second = pair
    shares = {}
    for run in runs.itertuples():
        predicted = run.record.predictions["classes"]
        wrong = ((labels == first) & (predicted == second)) | (
            (labels == second) & (predicted == first)
        )
        shares[run.draw] = wrong.sum() / np.isin(labels, pair).sum()
    return shares


def roughness(runs: pd.DataFrame) -> dict[int, float]:
    """Mean distance of a point of the validation accuracy from the middle of its neighbours.

    By seed, over the second half of training; a steady rise has none. nan where that half has
    fewer than three points.
    """
    found = {}
    for run in runs.itertuples():
        points = np.array(run.record.curves["valid_accuracy"])
        late = points[len(points) // 2 :]
        bends = np.abs(late[1:-1] - (late[:-2] + late[2:]) / 2)
        found[run.draw] = bends.mean() if len(bends) else math.nan
    return found


def epochs_of_lowest_loss(runs: pd.DataFrame) -> list[int]:
    """The epoch (from 1) at which a run's validation loss was lowest."""
    return [int(np.argmin(run.record.curves["valid_loss"])) + 1 for run in runs.itertuples()]
