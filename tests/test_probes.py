import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from fewlabels.errors import UserError
from fewlabels.learn.probes import knn, linear_probe

PROBES = (knn, linear_probe)


def blobs(n, k=3, d=20, seed=0):
    """n images of k classes, well apart in direction as well as in place, by all features."""
    rng = np.random.default_rng(seed)
    centres = 8 * np.resize(np.eye(k), (d, k)).T
    labels = np.arange(n) % k
    return (centres[labels] + rng.normal(size=(n, d))).astype(np.float32), labels


@pytest.mark.parametrize("probe", PROBES)
def test_separable_classes_are_told_apart(probe):
    train, labels = blobs(30)
    test, truth = blobs(300, seed=1)
    p = probe(train, labels, test, num_classes=3)
    assert p.shape == (300, 3)
    assert p.sum(axis=1) == pytest.approx(np.ones(300), abs=1e-6)
    assert (p.argmax(axis=1) == truth).all()


@pytest.mark.parametrize("probe", PROBES)
def test_one_label_per_class_is_enough_for_separable_classes(probe):
    train, labels = blobs(3)
    # Labels in descending order: a tie broken towards the first class would show.
    test, truth = blobs(90, seed=1)
    p = probe(train[::-1], labels[::-1], test, num_classes=3)
    assert (p.argmax(axis=1) == truth).all()


@pytest.mark.parametrize("probe", PROBES)
def test_class_without_a_training_image_gets_probability_zero(probe):
    train, labels = blobs(30)
    test, truth = blobs(60, seed=1)
    moved = np.array([0, 2, 4])  # of five classes, 1 and 3 are absent
    p = probe(train, moved[labels], test, num_classes=5)
    assert p.shape == (60, 5)
    assert (p[:, [1, 3]] == 0).all()
    assert (p.argmax(axis=1) == moved[truth]).all()


@pytest.mark.parametrize("probe", PROBES)
def test_two_present_classes_of_three(probe):
    train, labels = blobs(20, k=2)
    test, truth = blobs(40, k=2, seed=1)
    p = probe(train, labels + 1, test, num_classes=3)
    assert (p[:, 0] == 0).all()
    assert (p.argmax(axis=1) == truth + 1).all()


@pytest.mark.parametrize("probe", PROBES)
def test_a_single_present_class_gets_everything(probe):
    train, _ = blobs(4)
    p = probe(train, np.full(4, 2), train, num_classes=3)
    assert p == pytest.approx(np.tile([0, 0, 1], (4, 1)))


@pytest.mark.parametrize("probe", PROBES)
def test_other_test_images_never_influence_a_prediction(probe):
    train, labels = blobs(30)
    test, _ = blobs(20, seed=1)
    crowd = np.concatenate([test, 1_000 + 50 * test])
    together = probe(train, labels, crowd, num_classes=3)[:20]
    assert together == pytest.approx(probe(train, labels, test, num_classes=3), abs=1e-5)


def test_knn_votes_by_hand():
    train = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    # At 30 degrees: chords to the neighbours at 0 and 90 degrees, 2 sin(15) and 2 sin(30).
    angle = np.deg2rad(30)
    p = knn(
        train,
        np.array([0, 1, 1]),
        7 * np.array([[np.cos(angle), np.sin(angle)]]),
        k=2,
        num_classes=2,
    )
    votes = 1 / (2 * np.sin(np.deg2rad([15, 30])))
    assert p[0] == pytest.approx(votes / votes.sum(), abs=1e-6)


def test_knn_uses_direction_not_length():
    train = np.array([[1.0, 0.0], [0.0, 100.0]])
    # Euclidean distance would put the second image next to the first of training.
    test = np.array([[50.0, 1.0], [0.1, 2.0]])
    p = knn(train, np.array([0, 1]), test, k=1, num_classes=2)
    assert p.argmax(axis=1).tolist() == [0, 1]


def test_knn_with_fewer_images_than_k_lets_all_vote():
    train, labels = blobs(3)
    p = knn(train, labels, train, k=5, num_classes=3)
    assert p.argmax(axis=1).tolist() == [0, 1, 2]


def test_knn_survives_a_feature_vector_of_zeros():
    train, labels = blobs(6)
    assert np.isfinite(knn(train, labels, np.zeros((2, 20)), num_classes=3)).all()


def test_linear_probe_is_the_penalised_maximum_likelihood():
    # Reference: the objective of multinomial logistic regression, minimised directly.
    rng = np.random.default_rng(0)
    train, labels = rng.normal(2, 3, (40, 4)), rng.integers(0, 3, 40)
    test = rng.normal(2, 3, (10, 4))
    z, zt = ((x - train.mean(0)) / train.std(0) for x in (train, test))
    onehot = np.eye(3)[labels]

    def loss(flat):
        w, b = flat[:12].reshape(4, 3), flat[12:]
        fit = -(onehot * log_softmax(z @ w + b, axis=1)).sum()
        return 0.5 * (fit + 0.5 / 0.5 * (w**2).sum())

    best = minimize(loss, np.zeros(15), tol=1e-10).x
    expected = softmax(zt @ best[:12].reshape(4, 3) + best[12:], axis=1)
    assert linear_probe(train, labels, test, 3, c=0.5) == pytest.approx(expected, abs=2e-3)


def test_linear_probe_does_not_depend_on_the_scale_of_features():
    train, labels = blobs(30)
    test, _ = blobs(30, seed=1)
    scale = np.logspace(-3, 3, 20, dtype=np.float32)
    expected = linear_probe(train, labels, test, 3)
    assert linear_probe(train * scale + 1, labels, test * scale + 1, 3) == pytest.approx(
        expected, abs=1e-2
    )


def test_feature_that_does_not_vary_in_training_has_no_say():
    train, labels = blobs(30)
    test, _ = blobs(30, seed=1)
    expected = linear_probe(train, labels, test, 3)
    flat = np.full((30, 1), 0.3)
    odd = np.linspace(-1e3, 1e3, 30)[:, None]
    p = linear_probe(np.hstack([train, flat]), labels, np.hstack([test, odd]), 3)
    assert p == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_labels": np.zeros(5, int)}, "for 5 labels"),
        ({"train_labels": np.full(6, 3)}, r"0\.\.2"),
        ({"features": np.zeros((4, 19))}, "same backbone"),
        ({"features": np.zeros((0, 20))}, "same backbone"),
        ({"train_features": np.zeros((6, 4, 5))}, "flatten"),
        ({"train_features": np.full((6, 20), np.nan)}, "train_features holds nan"),
        ({"features": np.full((6, 20), np.inf)}, "features holds nan or inf"),
    ],
)
def test_bad_input_is_refused(probe, change, message):
    train, labels = blobs(6)
    inputs = {"train_features": train, "train_labels": labels, "features": train} | change
    with pytest.raises(UserError, match=message):
        probe(**inputs, num_classes=3)


def test_impossible_settings_are_refused():
    train, labels = blobs(6)
    with pytest.raises(UserError, match="k is 0"):
        knn(train, labels, train, k=0, num_classes=3)
    with pytest.raises(UserError, match="c is 0"):
        linear_probe(train, labels, train, 3, c=0)
