"""Rules of fusion against examples worked out by hand and against independent references."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import gmean
from sklearn.metrics import balanced_accuracy_score

from fewlabels.errors import UserError
from fewlabels.learn import evaluation, fusion

RULES = (fusion.product, fusion.mean, fusion.vote, fusion.most_confident)


def members(count=3, images=200, k=4, seed=0, dtype=float):
    """Members that are right more often than not, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=images)
    logits = rng.normal(size=(count, images, k)) + 1.5 * np.eye(k)[labels]
    return softmax(logits, axis=2).astype(dtype), labels


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_gives_probabilities_and_leaves_one_member_as_it_is(rule):
    p, _ = members(dtype=np.float16)
    fused = rule(p)
    assert fused.shape == p.shape[1:] and fused.dtype == np.float64
    assert fused.sum(axis=1) == pytest.approx(np.ones(200))
    # Several classes are equally probable in a few rows of float16.
    assert (rule(p[:1]).argmax(axis=1) == p[0].argmax(axis=1)).all()
    assert rule(p[::-1]) == pytest.approx(fused) or rule is fusion.most_confident


def test_the_product_is_the_naive_one_where_nothing_underflows():
    p, _ = members()
    naive = p[0] * p[1] * p[2]
    assert fusion.product(p) == pytest.approx(naive / naive.sum(axis=1, keepdims=True))
    geometric = gmean(p, axis=0)
    assert (fusion.product(p).argmax(axis=1) == geometric.argmax(axis=1)).all()


def test_a_stored_zero_does_not_veto():
    """One member stores 0 for class 0, of which five others are all but certain."""
    sure = [0.999, 0.001, 0.0]
    p = np.array([[[0.0, 0.5, 0.5]]] + [[sure]] * 5).astype(np.float16)
    assert p[0, 0, 0] == 0
    assert fusion.product(p)[0].argmax() == 0
    # Two against each other: 0.5 * 0.001 is more than 6e-8 * 0.999.
    assert fusion.product(p[:2])[0].argmax() == 1


def test_a_product_of_many_members_does_not_underflow():
    p = np.tile(np.array([0.6, 0.4] + [0.0] * 6), (1000, 1, 1))
    fused = fusion.product(p)[0]
    assert fused[0] == pytest.approx(1) and np.isfinite(fused).all()
    contrary = np.concatenate([p[:500], p[:500, :, [1, 0, *range(2, 8)]]])
    assert fusion.product(contrary)[0, :2] == pytest.approx([0.5, 0.5])


def test_the_mean_by_hand():
    p = np.array([[[0.7, 0.3]], [[0.1, 0.9]]])
    assert fusion.mean(p) == pytest.approx(np.array([[0.4, 0.6]]))


def test_a_vote_of_three_members_on_two_images():
    p = np.array(
        [
            [[0.90, 0.05, 0.05], [0.6, 0.4, 0.0]],
            [[0.30, 0.40, 0.30], [0.1, 0.8, 0.1]],
            [[0.30, 0.40, 0.30], [0.0, 0.1, 0.9]],
        ]
    )
    fused = fusion.vote(p)
    # First image: two votes for class 1, though class 0 has the highest mean (0.5).
    assert fused[0] == pytest.approx(
        (np.array([1, 2, 0]) + np.array([0.5, 0.85 / 3, 0.65 / 3]) / 2) / 3.5
    )
    assert fused[0].argmax() == 1
    # Second: one vote each; the means are 0.7, 1.3 and 1.0 thirds.
    assert fused[1].argmax() == 1


def test_the_most_confident_member_by_hand():
    p = np.array([[[0.6, 0.4], [0.2, 0.8]], [[0.1, 0.9], [0.8, 0.2]]])
    # In the second image both are equally sure: the first member is taken.
    assert fusion.most_confident(p) == pytest.approx(np.array([[0.1, 0.9], [0.2, 0.8]]))


def test_stacking_follows_the_member_that_is_right():
    labels = np.random.default_rng(1).integers(3, size=400)
    right = np.full((400, 3), 0.05)
    right[np.arange(400), labels] = 0.9
    noise = softmax(4 * np.random.default_rng(2).normal(size=(400, 3)), axis=1)
    p = np.stack([noise, right])
    fused, left_out = fusion.stacking(p[:, :200], labels[:200], p[:, 200:])
    assert (fused.argmax(axis=1) == labels[200:]).all()
    assert (left_out.argmax(axis=1) == labels[:200]).all()
    assert fusion.mean_class_accuracy(fusion.product(p[:, 200:]), labels[200:]) < 1


def test_stacking_scores_its_validation_images_without_having_seen_them():
    """On labels without any relation to the probabilities, a fit to all looks better than it is."""
    p, _ = members(images=60, k=4)
    labels = np.random.default_rng(5).permutation(np.arange(60) % 4)
    fused, left_out = fusion.stacking(p, labels, p)
    seen, unseen = (fusion.mean_class_accuracy(found, labels) for found in (fused, left_out))
    assert seen > unseen and unseen < 0.45
    assert left_out.sum(axis=1) == pytest.approx(np.ones(60))


def test_stacking_gives_no_probability_to_a_class_without_validation_images():
    p, labels = members(k=4)
    labels[labels == 3] = 0
    fused, _ = fusion.stacking(p, labels, p)
    assert fused.shape == (200, 4) and (fused[:, 3] == 0).all()


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_temperature_is_recovered(true):
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.normal(size=(20_000, 5))
    honest = softmax(logits, axis=1)
    labels = (honest.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    found = fusion.temperature(softmax(true * logits, axis=1), labels)
    assert found == pytest.approx(true, rel=0.05)
    # Not exactly: the floor raises the smallest probabilities.
    restored = fusion.tempered(softmax(true * logits, axis=1), true)
    assert restored == pytest.approx(honest, abs=0.005)


def test_a_temperature_lowers_the_negative_log_likelihood_and_changes_no_prediction():
    p, labels = members(1, 2000)
    sure = softmax(5 * np.log(p[0]), axis=1)
    cooled = fusion.tempered(sure, fusion.temperature(sure, labels))
    assert evaluation.evaluate(cooled, labels)["nll"] < evaluation.evaluate(sure, labels)["nll"]
    assert (cooled.argmax(axis=1) == sure.argmax(axis=1)).all()


def test_a_classifier_without_a_mistake_ends_at_the_limit():
    p = np.array([[0.6, 0.4], [0.4, 0.6]])
    assert fusion.temperature(p, np.array([0, 1])) == pytest.approx(1 / 20, rel=0.01)


def test_disagreement_and_double_fault_by_hand():
    first, second = np.array([0, 1, 2, 0, 1]), np.array([0, 2, 2, 1, 1])
    labels = np.array([0, 0, 1, 1, 1])
    assert fusion.disagreement(first, second) == 2 / 5
    assert fusion.disagreement(first, first) == 0
    # Images 1 (1 and 2 for 0) and 2 (2 and 2 for 1).
    assert fusion.double_fault(first, second, labels) == 2 / 5
    assert fusion.double_fault(first, labels, labels) == 0


def test_mean_class_accuracy_is_the_balanced_one():
    p, labels = members(1, 500, 7)
    assert fusion.mean_class_accuracy(p[0], labels) == pytest.approx(
        balanced_accuracy_score(labels, p[0].argmax(axis=1))
    )
    absent = np.minimum(labels, 4)
    assert fusion.mean_class_accuracy(p[0], absent) == pytest.approx(
        evaluation.evaluate(p[0], absent)["mean_class_accuracy"]
    )


def test_subsets_come_smallest_first():
    assert fusion.subsets(["a", "b", "c"], 2) == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
        ("a", "b", "c"),
    ]


GOOD, TRUTH = members(2, 20, 3)


@pytest.mark.parametrize(
    ("given", "labels", "told"),
    [
        ({}, TRUTH, "there is no member"),
        ({"moco": GOOD[0], "mae": None}, TRUTH, "^member mae is missing"),
        ({"moco": GOOD[0], "mae": GOOD[1][:19]}, TRUTH, "^member mae has scored 19 images"),
        ({"moco": GOOD[0]}, TRUTH[:7], "^member moco has scored 20 images and there are 7 labels"),
        ({"moco": GOOD[0], "mae": GOOD[1] @ np.eye(3)[:, :2]}, TRUTH, "^member mae: .* sum to 1"),
        (
            {"moco": GOOD[0], "mae": np.full((20, 2), 0.5)},
            np.zeros(20, int),
            "^member mae knows 2 classes and moco 3",
        ),
        ({"moco": np.log(GOOD[0])}, TRUTH, "^member moco: .* look like logits"),
        ({"moco": GOOD[0] * np.nan}, TRUTH, "^member moco: .* nan"),
        ({"moco": GOOD[0]}, TRUTH + 1, "^labels runs from"),
        ({"moco": GOOD[0]}, TRUTH.astype(float), "^labels is float64"),
    ],
)
def test_members_that_do_not_fit_are_refused_by_name(given, labels, told):
    with pytest.raises(UserError, match=told):
        fusion.gather(given, labels)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: fusion.product(GOOD[0]), "members, images, classes"),
        (lambda: fusion.vote(np.empty((0, 5, 2))), "members, images, classes"),
        (lambda: fusion.mean(2 * GOOD), "rows sum to 1"),
        (lambda: fusion.stacking(GOOD, TRUTH, GOOD[:1]), "same members"),
        (lambda: fusion.stacking(GOOD[:, :9], TRUTH[:9], GOOD), "at least 10"),
        (lambda: fusion.stacking(GOOD, TRUTH[:9], GOOD), "pair them"),
        (lambda: fusion.temperature(GOOD[0], TRUTH[:3]), "pair them"),
        (lambda: fusion.tempered(GOOD[0], 0), "temperature is 0"),
        (lambda: fusion.disagreement(TRUTH, TRUTH[:3]), r"shapes \(20,\) and \(3,\)"),
        (lambda: fusion.double_fault(TRUTH, TRUTH, TRUTH[:3]), "shapes"),
        (lambda: fusion.gather({"moco": None}, TRUTH), "moco is missing"),
    ],
)
def test_other_shapes_and_values_are_refused(call, told):
    with pytest.raises(UserError, match=told):
        call()


def test_members_are_gathered_in_their_order_and_normalised():
    named = {"b": GOOD[1].astype(np.float16), "a": GOOD[0]}
    p = fusion.gather(named, TRUTH)
    assert p.shape == (2, 20, 3)
    assert p[1] == pytest.approx(GOOD[0])
    assert p.sum(axis=2) == pytest.approx(np.ones((2, 20)))
