"""Chapter 3's records as frames: what its tables, figures and verdicts are made from."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fewlabels import comparisons, data, evaluation, tables
from fewlabels.chapters.chest_xray_transfer import planning
from fewlabels.chapters.chest_xray_transfer.planning import Settings
from fewlabels.data.xrays import XrayData, kind, patient
from fewlabels.experiments.chest_xray import HELD_OUT
from fewlabels.runs import Experiment, Record
from fewlabels.statistics import (
    Interval,
    PairedDifference,
    fraction_interval,
    paired_difference,
)
from fewlabels.sweep import run_all

TRANSFER = "transfer"
ALL_LAYERS = "transfer, all layers"
CNN = "ten convolutions"
HEAD = "head"
SMALL = "small"
WEIGHTED = ", class weights"
NAMES = {
    TRANSFER: "transfer, report",
    f"{TRANSFER}{WEIGHTED}": "transfer, report, class weights",
    f"{TRANSFER}, class sampling": "transfer, report, balanced sampling",
    "transfer, whole test": "transfer, report, tested on whole images",
    "transfer, whole": "transfer, report, whole images throughout",
    ALL_LAYERS: "transfer, report, all layers of the smaller ResNet",
    CNN: "ten convolutions, report",
    f"{CNN}{WEIGHTED}": "ten convolutions, report, class weights",
    HEAD: "head, tuned",
    f"{HEAD}{WEIGHTED}": "head, tuned, class weights",
    f"{HEAD}, class sampling": "head, tuned, balanced sampling",
    "head, split by image": "head, tuned, split by image",
    "small head": "head on the smaller ResNet",
    "last block": "last block of the smaller ResNet",
    "all layers": "all layers of the smaller ResNet",
    SMALL: "small network from scratch",
    f"{SMALL}{WEIGHTED}": "small network, class weights",
}
"""Role of a run -> what tables and figures call it."""


def measure(settings: Settings) -> pd.DataFrame:
    """One row per run of the chapter; runs that are missing are computed first.

    Columns: those of the cell, ``role`` (a key of `NAMES`, or what else the run is for), ``seed``,
    ``kind``, ``id``, ``seconds``, every metric (fractions, 0..1) and the ``record`` itself.
    """
    runs = planning.plan(settings)
    own = planning.store(settings)
    records = run_all(runs, own, settings.device, settings.precision, settings.workers)
    return frame(settings, runs, records)


def frame(
    settings: Settings, runs: Sequence[Experiment], records: Sequence[Record | None]
) -> pd.DataFrame:
    """The rows of :func:`measure` for records at hand; runs without a record are left out."""
    rows = []
    small = set(planning.small_heads(settings)) - set(planning.tuned_heads(settings))
    for run, record in zip(runs, records, strict=True):
        if record is not None:
            facts = {
                "role": role(run.kind, record.config),
                "seed": record.config.get("seed", 0),
                "kind": run.kind,
                "id": record.id,
                "seconds": record.seconds,
                "record": record,
            }
            if facts["role"] == HEAD and run in small:
                facts["role"] = "small head"
            rows.append(record.cell | facts | record.metrics)
    return pd.DataFrame(rows)


def role(kind: str, config: dict) -> str:
    """What a run is for, from its config."""
    if kind == "xray-report-fine-tuning":
        return ALL_LAYERS
    if kind not in ("xray-head", "xray-network"):
        return kind.removeprefix("xray-")
    if config["scored_on"] == "validation":
        return "candidate"
    balance = "" if config["balance"] == "none" else f", class {config['balance']}"
    if kind == "xray-network":
        return config["network"] + balance
    if config["classes"] == 3:
        return "three classes"
    if config["protocol"] == "report":
        views = (config["train_view"], config["test_view"])
        ways = {("crop", "crop"): "", ("crop", "whole"): ", whole test"}
        return f"{TRANSFER}{ways.get(views, ', whole')}{balance}"
    return f"{HEAD}{balance}" if config["by_patient"] else "head, split by image"


def select(runs: pd.DataFrame, role: str, labels: int | str = "all") -> pd.DataFrame:
    """The runs of one role, with all labels or with a number of them."""
    return runs[(runs["role"] == role) & (runs["labels"] == labels)]


def learned(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that do not give every test image the same answer."""
    return runs[_learn(runs)]


def _learn(runs: pd.DataFrame) -> np.ndarray:
    recalls = zip(runs["recall_normal"], runs["recall_pneumonia"], strict=True)
    return np.array([not evaluation.one_answer(each) for each in recalls], dtype=bool)


def failures(runs: pd.DataFrame) -> str:
    """How many runs learn, in words; empty where all do."""
    if (learn := _learn(runs)).all():
        return ""
    return f"{tables.share(learn, 'runs')} learn: the others give every test image one answer"


def interval(runs: pd.DataFrame, metric: str) -> Interval | None:
    """Mean of a metric over the runs; None where there are none."""
    # Kappa may be negative.
    measure = comparisons.mean if metric.endswith("cohen_kappa") else comparisons.fraction
    return measure(runs, metric)


def by_seed(runs: pd.DataFrame, metric: str) -> dict[int, float]:
    """Seed -> metric."""
    return runs.set_index("seed")[metric].to_dict()


def paired(a: dict[int, float], b: dict[int, float]) -> PairedDifference | None:
    """a - b over the seeds both have; None without any."""
    common = sorted(a.keys() & b.keys())
    if not common:
        return None
    return paired_difference({s: a[s] for s in common}, {s: b[s] for s in common})


def difference(runs: pd.DataFrame, role: str, other: str, metric: str, labels="all"):
    """Metric of ``role`` minus that of ``other``, paired by seed, of the runs that learn."""
    pair = [by_seed(learned(select(runs, each, labels)), metric) for each in (role, other)]
    return paired(*pair)


def curve(runs: pd.DataFrame, metric: str = "mean_class_accuracy") -> pd.DataFrame:
    """Metric against labels, transfer and scratch: method, labels, mean, low, high, n."""
    rows = []
    for name, series in ((HEAD, "imagenet-head"), (SMALL, "scratch")):
        for labels, group in runs[runs["role"] == name].groupby("labels", sort=False):
            own = interval(group, metric)
            count = _trained(group) if labels == "all" else int(labels)
            rows.append(
                {
                    "method": series,
                    "labels": count,
                    "mean": own.mean,
                    "low": own.low,
                    "high": own.high,
                    "n": own.n,
                }
            )
    return pd.DataFrame(rows)


def _trained(group: pd.DataFrame) -> int:
    """All training images that are not held out, to the next hundred."""
    return int(round((1 - HELD_OUT) * data.train_size(group["dataset"].iloc[0]), -2))


def learning_curves(runs: pd.DataFrame, names: dict[str, str], epochs: float) -> pd.DataFrame:
    """Recorded curves, long: epoch, value, run, series.

    Args:
        names: curve in the record -> what the figure calls it.
        epochs: of the whole training.
    """
    rows = []
    for run in runs.itertuples():
        curves = run.record.curves
        steps = run.record.config["training"]["steps"]
        for name, series in names.items():
            for step, value in zip(curves["step"], curves[name], strict=True):
                rows.append(
                    {
                        "epoch": epochs * step / steps,
                        "value": value,
                        "run": run.id,
                        "series": series,
                    }
                )
    return pd.DataFrame(rows)


def truth(settings: Settings) -> np.ndarray:
    """Labels [N] of the test images, two classes."""
    return data.load(settings.dataset).test.labels.numpy()


def probabilities(record: Record) -> np.ndarray:
    """Probability of pneumonia [N] of the test images."""
    return record.predictions["test"].astype(float)


def predicted(record: Record) -> np.ndarray:
    """Predicted classes [N] of the test images, at the usual threshold."""
    stored = record.predictions["test"]
    return (stored > 0.5).astype(int) if stored.ndim == 1 else stored.argmax(axis=1)


def confusion(runs: pd.DataFrame, labels: np.ndarray, classes: int) -> np.ndarray:
    """Mean confusion matrix over the runs, rows true, in images."""
    each = [evaluation.confusion(predicted(r), labels, classes) for r in runs["record"]]
    return np.mean(each, axis=0)


def per_class(runs: pd.DataFrame, labels: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Class, precision, recall, f1, each an `Interval` over the runs, or None without any."""
    each = [evaluation.per_class(predicted(r), labels, classes) for r in runs["record"]]
    return pd.DataFrame(
        {
            "class": list(classes),
            **{
                metric: [
                    fraction_interval([one[metric].iloc[k] for one in each]) if each else None
                    for k in range(len(classes))
                ]
                for metric in ("precision", "recall", "f1")
            },
        }
    )


def overview(images: XrayData) -> pd.DataFrame:
    """Images and patients by part and kind. Patients are counted by the names of their files."""
    rows = []
    for part, split, files in (
        ("training", images.train, images.train_files),
        ("test", images.test, images.test_files),
    ):
        for k, name in enumerate(images.classes):
            here = (split.labels == k).tolist()
            own = (
                [file for file, chosen in zip(files, here, strict=True) if chosen] if files else []
            )
            row = {"Part": part, "Class": name, "Images": sum(here)}
            row["Share, %"] = 100 * sum(here) / len(here)
            row["Patients"] = str(len({(patient(f), kind(f)) for f in own})) if own else "unknown"
            kinds = np.bincount([kind(file) for file in own], minlength=3) if own else None
            row["Bacterial / viral"] = (
                f"{kinds[1]:,} / {kinds[2]:,}" if own and name == "PNEUMONIA" else "\N{EN DASH}"
            )
            rows.append(row)
    return pd.DataFrame(rows)


def shared_patients(images: XrayData) -> tuple[int, int]:
    """Patients with images in both parts: (by number and kind of image, by number alone)."""
    exact = [
        {(patient(f), kind(f)) for f in files} for files in (images.train_files, images.test_files)
    ]
    loose = [{name for name, _ in each} for each in exact]
    return len(exact[0] & exact[1]), len(loose[0] & loose[1])


def hits(runs: pd.DataFrame, files: np.ndarray, settings: Settings) -> np.ndarray:
    """Share of the test images at positions ``files`` that each run calls what they are."""
    labels = truth(settings)[files]
    return np.array([(predicted(record)[files] == labels).mean() for record in runs["record"]])
