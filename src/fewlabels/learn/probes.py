"""Classifiers on frozen features: what a representation is worth with few labels."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from fewlabels import config
from fewlabels.errors import UserError
from fewlabels.learn.evaluation import checked_classes


def knn(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    features: np.ndarray,
    k: int = 5,
    *,
    num_classes: int,
) -> np.ndarray:
    """Class probabilities [N, num_classes] from the k most similar labelled images.

    Similarity is the cosine: features are scaled to unit length, so their length plays no part.
    A neighbour's vote weighs 1 / distance on the unit sphere: with one label per class all k
    neighbours are of different classes, and plain counts would end in a tie.

    train_features: [n, D]; train_labels: [n] integers in 0..num_classes-1; features: [N, D]. With
    fewer than k labelled images all of them vote. Raises UserError for shapes that do not fit,
    non-finite features, labels out of range, or k < 1.
    """
    if k < 1:
        raise UserError(f"k is {k}: at least one neighbour has to vote.")
    train, labels, test = _checked(train_features, train_labels, features, num_classes)
    model = KNeighborsClassifier(min(k, len(train)), weights="distance", algorithm="brute")
    model.fit(normalize(train), labels)
    return _over_all_classes(model.predict_proba(normalize(test)), model.classes_, num_classes)


def linear_probe(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    features: np.ndarray,
    num_classes: int,
    c: float = 1.0,
) -> np.ndarray:
    """Class probabilities [N, num_classes] of a multinomial logistic regression.

    Features are standardised by the mean and deviation of the training features alone; a feature
    that does not vary among them is only centred. ``c`` is the inverse strength of the L2 penalty.
    Classes without a training image get probability 0; if only one class has any, it gets 1.

    Shapes and errors as for `knn`; c > 0.
    """
    train, labels, test = _checked(train_features, train_labels, features, num_classes)
    present = np.unique(labels)
    if len(present) == 1:
        return _over_all_classes(np.ones((len(test), 1)), present, num_classes)
    model = logistic(c).fit(train, labels)
    return _over_all_classes(model.predict_proba(test), model.classes_, num_classes)


def logistic(c: float = 1.0) -> Pipeline:
    """The classifier behind `linear_probe`, not yet fitted; c as there."""
    config.positive("c", c)
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1_000))


def _over_all_classes(p: np.ndarray, present: np.ndarray, num_classes: int) -> np.ndarray:
    result = np.zeros((len(p), num_classes))
    result[:, present] = p
    return result


def _checked(
    train_features: np.ndarray, train_labels: np.ndarray, features: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = checked_classes(train_labels, num_classes, "train_labels")
    train = np.asarray(train_features, dtype=np.float32)
    test = np.asarray(features, dtype=np.float32)
    if train.ndim != 2 or test.ndim != 2 or len(test) == 0 or train.shape[1] != test.shape[1]:
        raise UserError(
            f"train_features has shape {train.shape}, features {test.shape}: pass [n, D] and "
            "[N, D] from the same backbone; flatten anything larger."
        )
    if len(train) != len(labels):
        raise UserError(f"{len(train)} rows of train_features for {len(labels)} labels: pair them.")
    for name, array in (("train_features", train), ("features", test)):
        if not np.isfinite(array).all():
            raise UserError(f"{name} holds nan or inf: the backbone has diverged or overflowed.")
    return train, labels, test
