"""Metrics of one run, from class probabilities [N, K] or predicted classes [N] and labels [N]."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    precision_recall_fscore_support,
    recall_score,
    roc_auc_score,
)

from fewlabels.data import reading
from fewlabels.errors import UserError

BINS = 15
# Records keep probabilities as float16: below this they are 0 there. Raising all of them to it
# lets a run score the same before and after it is stored.
SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def evaluate(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All metrics of one run; fractions in 0..1 except ``cohen_kappa`` (-1..1) and ``nll`` (nats).

    probabilities: [N, K] floats, K >= 2, in 0..1, rows summing to 1 within 1e-3 (so that float16
    passes; rows are then normalised in float64). labels: [N] integers in 0..K-1. The prediction is
    the most probable class, the first of them in a tie.

    Convention: fractions and not percent, natural logarithms; what conventions differ in stands at
    each metric.

    - ``accuracy``.
    - ``mean_class_accuracy``: mean of the recalls of the classes present in the labels.
    - ``precision``, ``recall``, ``f1``: macro averages as scikit-learn takes them, over the classes
      that occur in the labels or the predictions, an undefined ratio counting as 0. ``recall``
      differs from ``mean_class_accuracy`` only where a class is predicted but absent.
    - ``auc``: area under the ROC curve; with K = 2 of class 1, else the macro average of one class
      against the rest; a pair with equal scores counts one half; nan where a class is absent from
      the labels.
    - ``cohen_kappa``: without weights; nan where labels and predictions are all one and the same
      class.
    - ``calibration_error``: expected calibration error (Guo et al. 2017, section 2) of the top
      probability over 15 equal-width bins, closed on the right, absolute differences; a bin weighs
      as many images as it holds, an empty one nothing. Our own lines: torchmetrics puts a
      probability of exactly 1, common in float16, into a sixteenth bin.
    - ``nll``: mean negative log likelihood, probabilities below 2**-24 (float16's smallest) raised
      to it: one image adds at most 16.6.

    Raises UserError for the wrong shape or type, nan, logits, or labels out of range.
    """
    p = checked_probabilities(probabilities)
    k = p.shape[1]
    labels = checked_classes(labels, k, "labels")
    if len(labels) != len(p):
        raise UserError(f"{len(p)} rows of probabilities for {len(labels)} labels: pair them.")

    if len(np.unique(labels)) < k:
        auc = np.nan
    elif k == 2:
        auc = roc_auc_score(labels, p[:, 1])
    else:
        auc = roc_auc_score(labels, p, multi_class="ovr", average="macro")
    of_label = p[np.arange(len(p)), labels]
    return of_classes(p.argmax(axis=1), labels, k) | {
        "auc": float(auc),
        "calibration_error": _calibration_error(p, labels),
        "nll": float(-np.log(of_label.clip(min=SMALLEST)).mean()),
    }


def of_classes(predicted: np.ndarray, labels: np.ndarray, k: int) -> dict[str, float]:
    """Those metrics of `evaluate` that follow from the predicted classes alone.

    predicted, labels: [N] integers in 0..k-1. Raises UserError as `evaluate` does.

    Convention: that of `evaluate`; a class that neither occurs nor is predicted is not averaged in.
    """
    predicted, labels = _checked_pair(predicted, labels, k)
    present = np.unique(labels)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    one_class = len(present) == 1 and (predicted == present[0]).all()
    metrics = {
        "accuracy": accuracy_score(labels, predicted),
        "mean_class_accuracy": recall_score(labels, predicted, labels=present, average="macro"),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "cohen_kappa": np.nan if one_class else cohen_kappa_score(labels, predicted),
    }
    return {name: float(value) for name, value in metrics.items()}


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """``calibration_error`` of `evaluate` alone; the same arguments and errors.

    Convention: 15 bins closed on the right, weighed by their images.
    """
    p = checked_probabilities(probabilities)
    labels = checked_classes(labels, p.shape[1], "labels")
    if len(labels) != len(p):
        raise UserError(f"{len(p)} rows of probabilities for {len(labels)} labels: pair them.")
    return _calibration_error(p, labels)


def _calibration_error(p: np.ndarray, labels: np.ndarray) -> float:
    top = p.max(axis=1)
    # Bins are closed on the right, as in Guo et al.: (m - 1) / 15 < top <= m / 15.
    bins = np.ceil(top * BINS).astype(int)
    gaps = np.bincount(bins, weights=(p.argmax(axis=1) == labels) - top)
    return float(np.abs(gaps).sum() / len(p))


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What was said and what came of it: mean probability [B], and share of positives [B].

    probabilities: [N] of the positive class, 0..1; labels: [N] of 0 and 1. One entry for each of
    ten equal-width bins that holds at least 0.5% of the images, and five.

    Convention: bins are closed on the left, but for the last, which has both ends; the mean of what
    was said stands for a bin and not its middle. Raises UserError for other values and lengths.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.shape != labels.shape or probabilities.ndim != 1 or not labels.size:
        raise UserError(
            f"probabilities have shape {probabilities.shape} and labels {labels.shape}: pass [N]."
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all() or {*np.unique(labels)} - {0, 1}:
        raise UserError(
            f"probabilities run from {probabilities.min():.4g} to {probabilities.max():.4g} and "
            f"labels from {labels.min()} to {labels.max()}; allowed: 0..1, and 0 and 1."
        )
    at = np.minimum((probabilities * 10).astype(int), 9)
    count = np.bincount(at, minlength=10)
    full = count >= max(5, 0.005 * len(probabilities))
    said, came = (
        np.bincount(at, weights=each, minlength=10)[full] / count[full]
        for each in (probabilities, labels)
    )
    return said, came


def per_class(predicted: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """One row per class, in the order of ``classes``: class, precision, recall, f1, support.

    predicted, labels: [N] integers in 0..len(classes)-1; ``support`` is the number of its labels.

    Convention: fractions; an undefined ratio (a class never predicted, or absent) counts as 0.
    Raises UserError as `evaluate` does.
    """
    predicted, labels = _checked_pair(predicted, labels, len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=range(len(classes)), zero_division=0
    )
    return pd.DataFrame(
        {
            "class": list(classes),
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "support": support,
        }
    )


def one_answer(recalls: Sequence[float]) -> bool:
    """Whether a classifier with these recalls, one per class, gives every image the same answer.

    Then one class has a recall of 1 and every other of 0. Such a run has failed to learn, whatever
    the order is in which its probabilities put the images.
    """
    return sorted(recalls) == [0.0] * (len(recalls) - 1) + [1.0]


def confusion(predicted: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Counts [K, K] of predicted, labels [N]; UserError as above.

    Convention: true classes in rows, predicted ones in columns; images, not shares.
    """
    predicted, labels = _checked_pair(predicted, labels, k)
    return confusion_matrix(labels, predicted, labels=range(k))


def mistakes(
    predicted: Sequence[np.ndarray], tested: Sequence[np.ndarray], labels: np.ndarray, k: int
) -> pd.DataFrame:
    """Per image, over runs that were tested on different ones: how often, and as what, it erred.

    predicted: of every run the classes [n]; tested: the positions [n] of its test images; labels:
    of all images [N]; k: classes.

    Returns columns position, label, tested, wrong, taken_for (the class it is mostly taken for,
    where it is wrong at all); the most often wrong first.

    Convention: of wrong classes that are taken equally often the first counts.
    """
    seen, votes = np.zeros(len(labels), int), np.zeros((len(labels), k), int)
    for classes, positions in zip(predicted, tested, strict=True):
        seen[positions] += 1
        votes[positions, classes] += 1
    position = np.arange(len(labels))
    votes[position, labels] = 0
    found = pd.DataFrame({"position": position, "label": labels, "tested": seen})
    found = found.assign(wrong=votes.sum(axis=1), taken_for=votes.argmax(axis=1))
    return found.sort_values("wrong", ascending=False, kind="stable")


def checked_classes(indices: np.ndarray, k: int | None, name: str) -> np.ndarray:
    """``indices`` as an int64 array [N] with N >= 1 and values in 0..k-1, or a UserError.

    k: None where it is not known.
    """
    indices = reading.array(name, indices)
    allowed = "from 0 on" if k is None else f"in 0..{k - 1}"
    if indices.ndim != 1 or indices.size == 0:
        raise UserError(f"{name} has shape {indices.shape}: pass [N], one class per image.")
    if indices.dtype.kind not in "iu":
        raise UserError(f"{name} is {indices.dtype}: pass integer class indices {allowed}.")
    if indices.min() < 0 or indices.max() >= (k or 2**63):
        raise UserError(
            f"{name} runs from {indices.min()} to {indices.max()}: pass integer class indices "
            f"{allowed}."
        )
    return indices.astype(np.int64)


def _checked_pair(
    predicted: np.ndarray, labels: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    predicted = checked_classes(predicted, k, "predicted")
    labels = checked_classes(labels, k, "labels")
    if len(predicted) != len(labels):
        raise UserError(f"{len(predicted)} predictions for {len(labels)} labels: pair them.")
    return predicted, labels


def checked_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities [N, K] as float64 whose rows sum to 1 exactly, or a UserError."""
    p = np.asarray(probabilities)
    if p.ndim != 2 or p.shape[1] < 2 or len(p) == 0:
        raise UserError(
            f"probabilities has shape {p.shape}: pass [N, K], a column for each of K >= 2 classes."
        )
    if p.dtype.kind != "f":
        raise UserError(f"probabilities is {p.dtype}: pass floats, the softmax of the logits.")
    p = p.astype(np.float64)
    if not np.isfinite(p).all():
        rows = int((~np.isfinite(p)).any(axis=1).sum())
        raise UserError(
            f"probabilities holds nan or inf in {rows} of {len(p)} rows: the run has diverged or "
            "overflowed; mend it before scoring."
        )
    sums = p.sum(axis=1, keepdims=True)
    off = np.abs(sums - 1).max()
    if p.min() < 0 or off > 1e-3:
        raise UserError(
            f"probabilities runs from {p.min():.3g} to {p.max():.3g} and its rows sum to 1 only "
            f"within {off:.2g} (0.001 allowed): these look like logits; take their softmax first."
        )
    return p / sums
