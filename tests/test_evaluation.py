import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics
from torchmetrics.functional import classification

from fewlabels.errors import UserError
from fewlabels.learn.evaluation import confusion, evaluate, one_answer, per_class, reliability

KEYS = {
    "accuracy",
    "mean_class_accuracy",
    "precision",
    "recall",
    "f1",
    "auc",
    "cohen_kappa",
    "calibration_error",
    "nll",
}


def random_case(n=400, k=4, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k)) + scale * np.eye(k)[labels]
    return softmax(logits, axis=1), labels


def test_binary_case_by_hand():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    labels = np.array([0, 1, 0, 1])
    # Predicted 0 0 1 1; one right and one wrong of each class.
    result = evaluate(p, labels)
    assert set(result) == KEYS
    for key in ("accuracy", "mean_class_accuracy", "precision", "recall", "f1"):
        assert result[key] == pytest.approx(0.5)
    assert result["cohen_kappa"] == pytest.approx(0)
    # Positives score 0.4 and 0.8, negatives 0.1 and 0.7: three of four pairs in order.
    assert result["auc"] == pytest.approx(0.75)
    assert result["nll"] == pytest.approx(-np.log([0.9, 0.4, 0.3, 0.8]).mean())
    # Four bins of one: |1 - .9|, |0 - .6|, |0 - .7|, |1 - .8|.
    assert result["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.7 + 0.2) / 4)


def test_imbalanced_case_by_hand():
    # Three classes; class 0 three of four right, class 1 none of one, class 2 one of one.
    predicted = np.array([0, 0, 0, 2, 0, 2])
    labels = np.array([0, 0, 0, 0, 1, 2])
    result = evaluate(np.eye(3)[predicted], labels)
    assert result["accuracy"] == pytest.approx(4 / 6)
    assert result["mean_class_accuracy"] == pytest.approx((3 / 4 + 0 + 1) / 3)
    assert result["precision"] == pytest.approx((3 / 4 + 0 + 1 / 2) / 3)
    assert result["recall"] == result["mean_class_accuracy"]
    assert result["f1"] == pytest.approx((3 / 4 + 0 + 2 / 3) / 3)
    # Chance agreement (4 * 4 + 1 * 0 + 1 * 2) / 36 = 1 / 2; (2 / 3 - 1 / 2) / (1 - 1 / 2).
    assert result["cohen_kappa"] == pytest.approx(1 / 3)
    # Probability 1 everywhere falls into the top bin: confidence 1 against accuracy 4 / 6.
    assert result["calibration_error"] == pytest.approx(2 / 6)
    assert result["nll"] == pytest.approx(2 / 6 * 24 * np.log(2))


def test_images_of_one_bin_are_averaged_before_the_difference():
    # Both top probabilities lie in (10/15, 11/15]: |mean accuracy 1/2 - mean confidence 0.70|.
    p = np.array([[0.69, 0.31], [0.71, 0.29]])
    assert evaluate(p, np.array([0, 1]))["calibration_error"] == pytest.approx(0.2)


def test_certain_and_nearly_certain_share_the_last_bin():
    p = np.array([[1.0, 0.0], [0.96, 0.04]])
    # One right of two at mean confidence 0.98; a bin of its own for 1.0 would give 0.52.
    assert evaluate(p, np.array([1, 0]))["calibration_error"] == pytest.approx(0.48)


@pytest.mark.parametrize("k", [2, 3, 9])
def test_agrees_with_torchmetrics(k):
    p, labels = random_case(k=k, seed=k)
    result = evaluate(p, labels)
    tp, tl = torch.tensor(p), torch.tensor(labels)
    macro = {"num_classes": k, "average": "macro"}
    expected = {
        "accuracy": classification.multiclass_accuracy(tp, tl, k, average="micro"),
        "mean_class_accuracy": classification.multiclass_accuracy(tp, tl, **macro),
        "precision": classification.multiclass_precision(tp, tl, **macro),
        "recall": classification.multiclass_recall(tp, tl, **macro),
        "f1": classification.multiclass_f1_score(tp, tl, **macro),
        "auc": classification.multiclass_auroc(tp, tl, **macro),
        "cohen_kappa": classification.multiclass_cohen_kappa(tp, tl, k),
        "calibration_error": classification.multiclass_calibration_error(
            tp, tl, k, n_bins=15, norm="l1"
        ),
        "nll": torch.nn.functional.nll_loss(tp.log(), tl),
    }
    assert {key: float(value) for key, value in expected.items()} == pytest.approx(result, abs=1e-5)


def test_absent_class_leaves_no_auc_and_is_not_counted_in_mean_class_accuracy():
    p, labels = random_case(k=4)
    keep = labels != 3
    p, labels = p[keep], labels[keep]
    result = evaluate(p, labels)
    assert np.isnan(result["auc"])
    predicted = p.argmax(1)
    recalls = [np.mean(predicted[labels == c] == c) for c in range(3)]
    assert result["mean_class_accuracy"] == pytest.approx(np.mean(recalls))
    assert 3 in predicted
    assert result["recall"] == pytest.approx(np.sum(recalls) / 4)
    assert result["recall"] == pytest.approx(
        metrics.recall_score(labels, predicted, average="macro", zero_division=0)
    )


def test_one_class_throughout_has_no_kappa():
    result = evaluate(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]))
    assert np.isnan(result["cohen_kappa"]) and np.isnan(result["auc"])
    assert result["accuracy"] == result["mean_class_accuracy"] == 1


def test_float16_probabilities_pass_and_score_alike():
    p, labels = random_case(k=9)
    assert evaluate(p.astype(np.float16), labels) == pytest.approx(evaluate(p, labels), abs=2e-3)
    many, few = random_case(n=50, k=102, scale=6.0)
    evaluate(many.astype(np.float16), few)


def test_nll_is_the_same_before_and_after_storing_tiny_probabilities():
    p = np.array([[1 - 1e-12, 1e-12], [0.5, 0.5]])
    labels = np.array([1, 1])
    assert evaluate(p.astype(np.float16), labels)["nll"] == pytest.approx(
        evaluate(p, labels)["nll"]
    )


def test_order_of_images_does_not_matter():
    p, labels = random_case()
    order = np.random.default_rng(1).permutation(len(p))
    assert evaluate(p[order], labels[order]) == pytest.approx(evaluate(p, labels))


def test_logits_are_refused_as_such():
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="logits"):
        evaluate(rng.normal(size=(5, 3)), np.zeros(5, int))
    with pytest.raises(UserError, match="logits"):
        evaluate(np.full((5, 3), 0.5), np.zeros(5, int))
    # Rows that sum to 1 by accident are given away by the negative entry.
    with pytest.raises(UserError, match="logits"):
        evaluate(np.array([[1.5, -0.5]]), np.array([0]))


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        (np.array([[np.nan, 1.0]]), np.array([0]), "nan"),
        (np.array([[0.5, 0.5]]), np.array([2]), r"0\.\.1"),
        (np.array([[0.5, 0.5]]), np.array([-1]), r"0\.\.1"),
        (np.array([[0.5, 0.5]]), np.array([0.0]), "integer"),
        (np.array([[0.5, 0.5]]), np.array([[0]]), r"\[N\]"),
        (np.array([[0.5, 0.5]]), np.array([0, 1]), "1 rows of probabilities for 2 labels"),
        (np.array([0.5, 0.5]), np.array([0, 1]), r"\[N, K\]"),
        (np.array([[1.0]]), np.array([0]), "K >= 2"),
        (np.empty((0, 2)), np.empty(0, int), r"\[N, K\]"),
        (np.array([[0, 1]]), np.array([1]), "floats"),
    ],
)
def test_bad_input_is_refused(p, labels, message):
    with pytest.raises(UserError, match=message):
        evaluate(p, labels)


def test_per_class_by_hand():
    predicted = np.array([0, 0, 0, 2, 0, 2])
    labels = np.array([0, 0, 0, 0, 1, 2])
    table = per_class(predicted, labels, ["a", "b", "c", "d"])
    assert list(table.columns) == ["class", "precision", "recall", "f1", "support"]
    assert table["class"].tolist() == ["a", "b", "c", "d"]
    assert table["precision"].tolist() == pytest.approx([3 / 4, 0, 1 / 2, 0])
    assert table["recall"].tolist() == pytest.approx([3 / 4, 0, 1, 0])
    assert table["f1"].tolist() == pytest.approx([3 / 4, 0, 2 / 3, 0])
    assert table["support"].tolist() == [4, 1, 1, 0]


def test_reliability_by_hand():
    probabilities = np.array([0.05] * 4 + [0.09] * 2 + [1.0] * 5 + [0.5])
    labels = np.array([0] * 5 + [1] + [1] * 4 + [0] + [1])
    said, came = reliability(probabilities, labels)
    # The bin of the single 0.5 is too small.
    assert said.tolist() == pytest.approx([(4 * 0.05 + 2 * 0.09) / 6, 1.0])
    assert came.tolist() == pytest.approx([1 / 6, 4 / 5])


def test_reliability_puts_a_probability_on_a_border_above_it():
    """Conventions disagree on 0.5 and 1.0 alone."""
    p = np.array([0.5] * 6 + [0.49] * 6 + [1.0] * 6)
    said, came = reliability(p, np.array([1] * 6 + [0] * 6 + [1] * 6))
    assert said.tolist() == pytest.approx([0.49, 0.5, 1.0])
    assert came.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("p", "labels", "told"),
    [
        ([1.2, 0.5], [0, 1], "run from 0.5 to 1.2"),
        ([0.2, 0.5], [0, 2], "labels from 0 to 2"),
        ([0.2], [0, 1], r"shape \(1,\)"),
        ([], [], r"shape \(0,\)"),
    ],
)
def test_reliability_refuses_what_is_no_probability(p, labels, told):
    with pytest.raises(UserError, match=told):
        reliability(p, labels)


def test_confusion_has_true_classes_in_rows():
    counts = confusion(np.array([1, 1, 0]), np.array([0, 1, 0]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert counts.dtype.kind == "i"


def test_per_class_and_confusion_refuse_bad_classes():
    with pytest.raises(UserError, match="predicted runs from 0 to 3"):
        per_class(np.array([0, 3]), np.array([0, 1]), ["a", "b"])
    with pytest.raises(UserError, match="2 predictions for 1 labels"):
        confusion(np.array([0, 1]), np.array([0]), 2)
    with pytest.raises(UserError, match="integer"):
        confusion(np.array([0.2, 0.8]), np.array([0, 1]), 2)


@pytest.mark.parametrize(
    ("recalls", "one"),
    [
        ([0, 1], True),
        ([1, 0, 0], True),
        ([1, 1], False),  # every image is right
        ([0.004, 1], False),
        ([0, 0.99], False),  # some images of the second class are given the first
    ],
)
def test_a_classifier_with_one_answer_has_one_recall_of_one_and_no_other(recalls, one):
    assert one_answer(recalls) == one
