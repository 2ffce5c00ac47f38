"""Metrics from probabilities in float16: the span holds the truth, and little else."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from fewlabels import data
from fewlabels.errors import UserError
from fewlabels.evidence import remeasured
from fewlabels.kinds import chest_xray
from fewlabels.learn import evaluation
from fewlabels.runs.records import Record

N = 624


def scores(seed, k, sure=1.0, offset=0.0):
    """Logits and labels of images that a classifier mostly gets right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=N)
    logits = rng.normal(size=(N, k)) + 1.5 * np.eye(k)[labels]
    logits[:, -1] += offset
    return sure * logits, labels


def spans(p, labels):
    low, high = remeasured._bounds(p.astype(np.float16))

    def measure(predicted):
        return evaluation.of_classes(predicted, labels, low.shape[1])

    found = remeasured._either(low, high, labels, measure)
    return found | remeasured._of_probabilities(low, high, labels)


def inside(found, metrics):
    return {name: low <= metrics[name] <= high for name, (low, high) in found.items()}


@pytest.mark.parametrize("k", [2, 3, 8])
@pytest.mark.parametrize("sure", [0.001, 0.1, 1, 5, 30])
def test_what_was_measured_before_rounding_lies_in_the_span(k, sure):
    for seed in range(5):
        logits, labels = scores(seed, k, sure)
        p = softmax(logits, axis=1)
        found = spans(p, labels)
        assert len(found) == 9 and all(inside(found, evaluation.evaluate(p, labels)).values())
        if k == 2:
            # As the X-ray runs keep them, the second column alone.
            assert all(inside(spans(p[:, 1], labels), evaluation.evaluate(p, labels)).values())


def test_ties_of_float16_are_counted_both_ways_and_nothing_else_is():
    p = np.full((N, 2), (0.3, 0.7))
    labels = np.arange(N) % 2
    # Three images so near one half that float16 cannot tell: two are right, one is wrong.
    p[:3] = [(0.50004, 0.49996), (0.49996, 0.50004), (0.49996, 0.50004)]
    found = spans(p, labels)
    rest = (labels[3:] == 1).sum()
    low, high = found["accuracy"]
    assert low == pytest.approx(rest / N, rel=1e-4)
    assert high == pytest.approx((rest + 3) / N, rel=1e-4)
    exact = evaluation.evaluate(p, labels)["accuracy"]
    assert exact == (rest + 2) / N and low <= exact <= high
    assert not low <= (rest - 1) / N <= high and not low <= (rest + 4) / N <= high


@pytest.mark.parametrize("k", [2, 8])
def test_two_images_more_than_the_predictions_say_are_seen(k):
    logits, labels = scores(0, k)
    p = softmax(logits, axis=1)
    found, metrics = spans(p, labels), evaluation.evaluate(p, labels)
    for name in ("accuracy", "mean_class_accuracy", "f1", "cohen_kappa"):
        for shift in (-2 / N, 2 / N):
            assert not inside(found, metrics | {name: metrics[name] + shift})[name]
    for name, shift in (("auc", 0.005), ("nll", 0.005), ("calibration_error", 0.02)):
        assert not inside(found, metrics | {name: metrics[name] + shift})[name]


@pytest.mark.parametrize("digits", [1, 9])
def test_the_area_by_ranks_is_scikit_learns(digits):
    """Also where half of the scores are equal."""
    rng = np.random.default_rng(0)
    positive, found = rng.random(N) < 0.3, rng.random(N).round(digits)
    found[positive] += 0.1
    assert remeasured._area(positive, found) == pytest.approx(roc_auc_score(positive, found))
    assert np.isnan(remeasured._area(np.ones(N, bool), found))


@pytest.fixture
def xrays():
    """A record of a head on the generated X-rays, with its metrics as the run takes them."""
    import torch

    images = data.load("generated_xrays").test
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(len(images.labels), 2)) + np.eye(2)[images.labels]
    logits[:, 1] += 1.5
    valid = torch.tensor(logits[:20] + np.array([0, 0.3]))
    logits, labels = torch.tensor(logits), images.labels
    moved = chest_xray.moved_threshold(valid, labels[:20], logits, labels)
    found = chest_xray.scores(logits, labels, ("NORMAL", "PNEUMONIA"))
    return Record(
        id="",
        config={"kind": "xray-head", "dataset": "generated_xrays", "classes": 2}
        | {"scored_on": "test"},
        cell={},
        data={"generated_xrays": data.md5("generated_xrays")},
        inputs={},
        metrics=found | moved | {"train_accuracy": 0.9},
        curves={"train_accuracy": [0.5, 0.9]},
        predictions={"test": logits.softmax(dim=1)[:, 1].numpy().astype(np.float16)},
        parameters={},
        seconds=1.0,
        finished="",
        versions={},
        hardware={},
    )


def test_the_moved_threshold_is_followed(xrays):
    found = remeasured.spans(xrays)
    assert all(inside(found, xrays.metrics).values())
    assert {"moved_accuracy", "moved_recall_normal", "recall_pneumonia", "auc"} <= found.keys()
    assert {*xrays.metrics} - {*found} == {"threshold"}
    # A threshold at an image's own score: on which side it lay is open, for that image alone.
    own = xrays.predictions["test"].astype(float)[7]
    at = replace(xrays, metrics=xrays.metrics | {"threshold": float(np.log(own / (1 - own)))})
    low, high = remeasured.spans(at)["moved_accuracy"]
    assert high - low == pytest.approx(1 / 40, rel=0.01)
    low, high = found["moved_accuracy"]
    assert high - low < 1e-4


@pytest.mark.parametrize(
    ("name", "value"),
    [("moved_accuracy", 1 / 40), ("recall_normal", -1 / 13), ("train_accuracy", 0.01)],
)
def test_an_edited_metric_lies_outside(xrays, name, value):
    edited = replace(xrays, metrics=xrays.metrics | {name: xrays.metrics[name] + value})
    found = inside(remeasured.spans(edited), edited.metrics)
    assert [metric for metric, fits in found.items() if not fits] == [name]


def test_labels_of_another_file_are_refused(xrays):
    other = replace(xrays, data={"generated_xrays": "another"})
    with pytest.raises(remeasured.NoLabels, match="generated_xrays is another file here"):
        remeasured.spans(other)


def test_predictions_of_some_images_only_are_no_basis(xrays):
    some = replace(xrays, predictions={"test": xrays.predictions["test"][:30]})
    with pytest.raises(UserError, match=r"keeps \[30\] predictions of 40") as told:
        remeasured.spans(some)
    assert not isinstance(told.value, remeasured.NoLabels)
    turns = np.tile(np.arange(4, dtype=np.uint8), 100)
    record = replace(
        xrays,
        config={"kind": "rotation", "dataset": "digits", "scored_on": "test"},
        data={"digits": data.md5("digits")},
        predictions={"turns": turns},
    )
    with pytest.raises(UserError, match=r"keeps \[400\] predictions of 2000"):
        remeasured.spans(record)
    with pytest.raises(KeyError):
        remeasured.spans(replace(xrays, predictions={}))


def test_kinds_that_keep_nothing_have_no_span_but_of_their_curves(xrays):
    bare = replace(xrays, config={"kind": "reader"}, predictions={})
    assert list(remeasured.spans(bare)) == ["train_accuracy"]


def test_two_wrong_classes_as_probable_as_each_other_leave_open_which_was_named():
    truth = np.array([0, 1, 2, 2])
    stored = [[0.2, 0.4, 0.4], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.1, 0.1, 0.8]]
    low, high = remeasured._bounds(np.array(stored, dtype=np.float16))

    def measure(predicted):
        return evaluation.of_classes(predicted, truth, 3)

    found = remeasured._either(low, high, truth, measure)["precision"]
    # One of two images called 1 is one, or two of three called 2; of class 0 none is named.
    assert found == pytest.approx(((0 + 1 / 2 + 1) / 3, (0 + 1 + 2 / 3) / 3), rel=1e-4)
