"""A record's metrics made again from what it keeps: its predictions, else its curves.

Every result is a span (low, high) that the recorded value has to lie in. Probabilities are kept as
float16: where that leaves open which of two classes was the more probable, or on which side of a
threshold an image lay, the span holds both answers. Elsewhere its ends are a rounding apart.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from scipy.stats import rankdata

from fewlabels import data
from fewlabels.data import photographs
from fewlabels.errors import UserError
from fewlabels.kinds import chest_xray, few_photographs, ssl, vae
from fewlabels.learn import evaluation
from fewlabels.learn.image_quality import SMALLEST
from fewlabels.learn.pretext import rotation
from fewlabels.nets import variational
from fewlabels.runs.records import Record

Spans = dict[str, tuple[float, float]]
Measure = Callable[[np.ndarray], dict[str, float]]
ROUNDING = 1e-5
"""Relative: the records' means were taken in float32."""
MOST_TIES = 6
"""Images with two equally probable wrong classes whose 2^n answers are all counted; the rest are
taken for the first of the two."""


class NoLabels(UserError):
    """The labels are not on this machine, or those here belong to another data file."""


def spans(record: Record) -> Spans:
    """Metric -> span, for those of the record's metrics that something in it can be set against.

    Raises NoLabels, or UserError (or any error of an array) where predictions do not fit labels.
    """
    found = KINDS.get(record.config["kind"], _last_points)(record)
    return {name: span for name, span in found.items() if name in record.metrics}


def _exact(*ends: dict[str, float]) -> Spans:
    """The span of each metric over one or two ways of counting, a rounding wider."""
    found = {}
    for name in ends[0]:
        values = [each[name] for each in ends]
        found[name] = (
            min(values) - ROUNDING * abs(min(values)),
            max(values) + ROUNDING * abs(max(values)),
        )
    return found


def _last_points(record: Record) -> Spans:
    """Metrics that are the last point of the curve of their name."""
    return _exact({name: curve[-1] for name, curve in record.curves.items() if curve})


# Labels


@contextmanager
def _labels() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise NoLabels(str(error)) from error


def _same_data(record: Record) -> str:
    """The record's data set, once the files here are known to be the ones it was made from."""
    name = record.config["dataset"]
    if (here := data.md5(name)) != record.data[name]:
        raise UserError(f"{name} is another file here (md5 {here}) than the record's.")
    return name


def _scored(record: Record) -> np.ndarray:
    """Labels [N] of the images that the run was scored on."""
    own = record.config.get("pretraining") or record.config
    with _labels():
        _, score = data.parts(_same_data(record), own.get("scored_on", "test"))
    return score.labels.numpy()


def _photographed(record: Record) -> tuple[np.ndarray, int]:
    """Labels [N] of the photographs that the run was scored on, and how many classes there are."""
    config = record.config
    # A search is scored on validation images, the run that takes its choice on test images.
    own = (
        config["search"] | {"scored_on": "test"}
        if "search" in config
        else config.get("head", config)
    )
    dataset, classes = own["dataset"], tuple(own["classes"])
    with _labels():
        images = photographs.load(dataset, classes, 32)
        if images.md5 != record.data[dataset]:
            raise UserError(f"{dataset} has other files here than the record's.")
    chosen = (own["split"], own["labels"], own["scored_on"])
    _, scored = few_photographs.parts(dataset, classes, *chosen)
    return images.labels[scored].numpy(), len(classes)


def _require(count: int, *kept: np.ndarray) -> None:
    """Predictions for as many images as there are: a part of them may say anything."""
    if any(len(each) != count for each in kept):
        raise UserError(f"it keeps {[*map(len, kept)]} predictions of {count}.")


# Predicted classes


def _digits(record: Record) -> Spans:
    predicted = record.predictions["classes"]
    return _exact(evaluation.of_classes(predicted, _scored(record), 10))


def _photographs(record: Record) -> Spans:
    truth, k = _photographed(record)
    return _exact(evaluation.of_classes(record.predictions["classes"], truth, k))


def _turns(record: Record) -> Spans:
    predicted = record.predictions["turns"]
    _require(4 * len(_scored(record)), predicted)
    turns = np.arange(len(predicted)) % 4
    found = {"accuracy": (predicted == turns).mean()}
    for k, name in enumerate(rotation.TURNS):
        found[f"recall_{name}"] = (predicted[turns == k] == k).mean()
    return _exact(found)


def _medical(record: Record) -> Spans:
    test = record.config.get("scored_on", "test") == "test"
    with _labels():
        whole = data.load(_same_data(record))
    truth, k = (whole.test if test else whole.valid).labels.numpy(), len(whole.classes)
    new = ssl.new_images(record.config["dataset"]) if test else np.ones(len(truth), dtype=bool)

    def measure(predicted: np.ndarray) -> dict[str, float]:
        right = predicted == truth
        found = evaluation.of_classes(predicted, truth, k)
        found |= {f"recall_class_{c}": right[truth == c].mean() for c in np.unique(truth)}
        recalls = [right[new & (truth == c)].mean() for c in np.unique(truth[new])]
        found |= {"accuracy_new": right[new].mean()}
        return found | {"mean_class_accuracy_new": float(np.mean(recalls))}

    if "classes" in record.predictions:
        return _exact(measure(record.predictions["classes"]))
    low, high = _bounds(record.predictions["test" if test else "valid"])
    _require(len(truth), low)
    return _either(low, high, truth, measure) | _of_probabilities(low, high, truth)


# Probabilities


def _bounds(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the probabilities [N, K] lay before they were rounded to float16.

    stored: [N, K], or [N] of the second of two classes.
    """
    half = np.spacing(stored).astype(float) / 2
    low, high = (stored - half).clip(min=0), (stored + half).clip(max=1)
    if stored.ndim == 2:
        return low, high
    return np.stack([1 - high, low], axis=1), np.stack([1 - low, high], axis=1)


def _either(low: np.ndarray, high: np.ndarray, truth: np.ndarray, measure: Measure) -> Spans:
    """``measure`` of the predicted classes, with what rounding leaves open right, and wrong."""
    rows = np.arange(len(truth))
    others = np.eye(low.shape[1], dtype=bool)[truth]
    rival_low, rival_high = (np.where(others, -1, each) for each in (low, high))
    plain = (low + high).argmax(axis=1)
    may_be_right = high[rows, truth] >= rival_low.max(axis=1)
    may_be_wrong = low[rows, truth] <= rival_high.max(axis=1)
    best = np.where(may_be_right, truth, plain)
    worst = np.where(may_be_wrong, rival_high.argmax(axis=1), truth)
    ways = [best, worst]
    # Two wrong classes as probable as each other: precision depends on which of them was named.
    second = rival_high.copy()
    second[rows, rival_high.argmax(axis=1)] = -1
    named = second.argmax(axis=1)
    either = np.flatnonzero(~may_be_right & (second.max(axis=1) >= rival_low.max(axis=1)))
    for i in either[:MOST_TIES]:
        ways += [np.where(rows == i, named, each) for each in ways]
    return _exact(*map(measure, ways))


def _of_probabilities(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> Spans:
    """AUC, NLL and calibration error."""
    rows, k, middle = np.arange(len(truth)), low.shape[1], (low + high) / 2
    ends = []
    for own, rest in ((low, high), (high, low)):
        areas = [
            _area(truth == c, np.where(truth == c, own[:, c], rest[:, c]))
            for c in (range(k) if k > 2 else [1])
        ]
        nll = -np.log(own[rows, truth].clip(min=evaluation.SMALLEST)).mean()
        ends.append({"auc": np.mean(areas), "nll": nll})
    error = evaluation.calibration_error(middle / middle.sum(axis=1, keepdims=True), truth)
    # An image whose top class or bin rounding leaves open takes its whole gap with it.
    top_low, top_high, second = low.max(axis=1), high.max(axis=1), np.sort(high, axis=1)[:, -2]
    bins = [np.ceil(top * evaluation.BINS) for top in (top_low, top_high)]
    slack = (2 * ((bins[0] != bins[1]) | (second >= top_low)) + top_high - top_low).mean()
    return _exact(*ends) | {"calibration_error": (error - slack, error + slack)}


def _area(positive: np.ndarray, scores: np.ndarray) -> float:
    """Under the ROC curve, from ranks: the book asks for it some six thousand times."""
    count, ranks = positive.sum(), rankdata(scores)
    pairs = count * (len(scores) - count)
    return (ranks[positive].sum() - count * (count + 1) / 2) / pairs if pairs else np.nan


def _xrays(record: Record) -> Spans:
    found, config = _last_points(record), record.config
    if config["scored_on"] == "validation":
        return found
    with _labels():
        images = chest_xray.xrays(_same_data(record), config["classes"])
    truth, names = images.test.labels.numpy(), [name.lower() for name in images.classes]

    def measure(predicted: np.ndarray) -> dict[str, float]:
        return evaluation.of_classes(predicted, truth, len(names)) | {
            f"recall_{name}": (predicted[truth == k] == k).mean() for k, name in enumerate(names)
        }

    def moved(predicted: np.ndarray) -> dict[str, float]:
        return {f"moved_{name}": value for name, value in measure(predicted).items()}

    low, high = _bounds(record.predictions["test"])
    _require(len(truth), low)
    found |= _either(low, high, truth, measure) | _of_probabilities(low, high, truth)
    if "threshold" in record.metrics:
        cut = 1 / (1 + np.exp(-record.metrics["threshold"]))
        surely, maybe = low[:, 1] > cut, high[:, 1] >= cut
        ends = [np.where(maybe & ~surely, each, surely).astype(int) for each in (truth, 1 - truth)]
        found |= _exact(*map(moved, ends))
    return found


# Other predictions


def _image_files(record: Record) -> Spans:
    kept = record.predictions
    kinds = [name.removeprefix("right, ") for name in kept if name.startswith("right, ")]
    shown = [kept[f"{what}, {kind}"] for kind in kinds for what in ("right", "confidence")]
    _require(len(_photographed(record)[0]), *shown)
    return _exact(
        *(
            {f"accuracy, {kind}": kept[f"right, {kind}"].mean() for kind in kinds}
            | {
                f"confidence, {kind}": _bounds(kept[f"confidence, {kind}"])[end][:, 1].mean()
                for kind in kinds
            }
            for end in (0, 1)
        )
    )


def _splits(record: Record) -> Spans:
    loss, mae = (record.predictions[f"{name}_difference"].astype(float) for name in ("loss", "mae"))
    _require(record.config["splits"], loss, mae)
    return _exact(
        {
            "loss_lower": (loss < 0).mean(),
            "mae_lower": (mae < 0).mean(),
            "both_lower": ((loss < 0) & (mae < 0)).mean(),
            "loss_difference_sd": loss.std(ddof=1),
            "mae_difference_sd": mae.std(ddof=1),
        }
    )


def _angles(record: Record) -> Spans:
    counts = np.bincount(_scored(record))
    return _last_points(record) | _exact(
        {"mae": np.dot(record.curves["mae_by_class"], counts) / counts.sum()}
    )


def _equivariance(record: Record) -> Spans:
    curves = record.curves
    return _exact(
        {
            f"{name}_{value}": curve[curves[axis].index(value)]
            for axis, value in (("shift", 5), ("degrees", 90))
            for name, curve in curves.items()
            if name.startswith(f"{axis}_")
        }
    )


def _restored(record: Record) -> Spans:
    levels = [name.removeprefix("mse_") for name in record.metrics if name.startswith("mse_")]
    return _exact(
        {
            f"psnr_pooled_{level}": -10 * np.log10(max(record.metrics[f"mse_{level}"], SMALLEST))
            for level in levels
        }
    )


def _plane(record: Record) -> Spans:
    metrics, kept = record.metrics, record.predictions
    spreads = {
        "elbo_own": variational.decoder_variance(record.config["weight"], vae.PIXELS),
        "elbo_best": metrics["mse"],
    }
    found = {
        name: variational.gaussian_elbo(metrics["mse"], metrics["kl"], spread, vae.PIXELS)
        for name, spread in spreads.items()
    }
    ends = []
    for tops in (each[:, 1] for each in _bounds(kept["grid_confidence"])):
        sure = tops >= vae.CONFIDENT
        digits = len(np.unique(kept["grid_classes"][sure]))
        ends.append({"confidence": tops.mean(), "confident": sure.mean(), "digits": digits})
    return _exact(found) | _exact(*ends)


def _unmatched(record: Record) -> Spans:
    kept = record.predictions
    low, high = (each[:, 1] for each in _bounds(kept["correlation"]))
    counts = {"unmatched_images": len(kept["image"]), "unmatched_files": len(kept["files"])}
    return _exact(
        *(
            counts | {"unmatched_highest": each.max(), "unmatched_median": np.median(each)}
            for each in (low, high)
        )
    )


def _duplicates(record: Record) -> Spans:
    pairs, same = record.predictions["pairs"], record.predictions["distances"] == 0
    found = {"exact": float(same.sum()), "near": float(len(pairs))}
    for one, first in enumerate(("train", "valid", "test")):
        for other, second in enumerate(("train", "valid", "test")):
            here = (pairs[:, 0] == one) & (pairs[:, 1] == other)
            found[f"near_{first}_{second}"] = float(here.sum())
            found[f"exact_{first}_{second}"] = float((here & same).sum())
    return _exact(found)


KINDS: dict[str, Callable[[Record], Spans]] = {
    "digits": _digits,
    "code": _digits,
    "rotation": _turns,
    "moved": _turns,
    "classes": _medical,
    "transfer": _medical,
    "xray-head": _xrays,
    "xray-network": _xrays,
    "xray-report-fine-tuning": _xrays,
    "xray-unmatched": _unmatched,
    "scratch": _photographs,
    "features": _photographs,
    "corners": _photographs,
    "finetuning": _photographs,
    "chosen-tuning": _photographs,
    "searched": _photographs,
    "recognition": _image_files,
    "splits": _splits,
    "angle": _angles,
    "equivariance": _equivariance,
    "denoising": _restored,
    "filter": _restored,
    "vae": _plane,
    "duplicates": _duplicates,
}
