"""Fusing classifiers by their probabilities alone: rules, temperatures, diversity, choice.

Several classifiers, the *members*, have scored the same images. Their probabilities are
[members, images, classes], floats in 0..1 whose rows sum to 1 within 1e-3 (so that float16 passes;
rows are then normalised in float64); labels are [images], integers in 0..classes-1. Every rule
returns probabilities [images, classes] whose argmax is the fused prediction, the first class in a
tie. Every function raises UserError for other shapes and values.

Wherever a logarithm is taken, probabilities below ``SMALLEST`` (6e-8, 16.6 nats) are raised to it:
records keep them as float16, which stores 0 for less, and a single 0 would veto a class whatever
the others say.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from fewlabels.errors import UserError
from fewlabels.learn import probes
from fewlabels.learn.evaluation import SMALLEST, checked_classes, checked_probabilities

FOLDS = 5
PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the L2 penalty that stacking chooses from."""
HOTTEST = 20.0
"""Temperatures are sought from 1 / HOTTEST to HOTTEST."""


def gather(members: Mapping[str, np.ndarray | None], labels: np.ndarray) -> np.ndarray:
    """Members by name, each [images, classes], as one array [members, images, classes].

    Refuses, by name, a member that is missing (None), one that is no array of probabilities, and
    one whose images or classes are not as many as the labels and the first member have.
    """
    if not members:
        raise UserError("there is no member: name at least one classifier to fuse.")
    checked = {}
    for name, probabilities in members.items():
        if probabilities is None:
            raise UserError(f"member {name} is missing: compute its run, or leave it out by name.")
        try:
            checked[name] = checked_probabilities(probabilities)
        except UserError as error:
            raise UserError(f"member {name}: {error}") from None
        if len(checked[name]) != len(labels):
            raise UserError(
                f"member {name} has scored {len(checked[name])} images and there are {len(labels)} "
                "labels: all members need the test set that the labels are of."
            )
    first, *_ = checked
    k = checked[first].shape[1]
    for name, probabilities in checked.items():
        if probabilities.shape[1] != k:
            raise UserError(
                f"member {name} knows {probabilities.shape[1]} classes and {first} {k}: fuse "
                "classifiers of one data set."
            )
    checked_classes(labels, k, "labels")
    return np.stack([*checked.values()])


def product(probabilities: np.ndarray) -> np.ndarray:
    """The members' probabilities multiplied and normalised, in log space."""
    return softmax(_logs(_checked(probabilities)).sum(axis=0), axis=1)


def mean(probabilities: np.ndarray) -> np.ndarray:
    """The members' mean probability."""
    return _checked(probabilities).mean(axis=0)


def vote(probabilities: np.ndarray) -> np.ndarray:
    """Majority vote: each member names its most probable class, the first in a tie.

    The result is each class's share of the votes, where the mean probability counts as half a
    vote more. That never outweighs a vote and so decides ties between classes, and nothing else.
    """
    p = _checked(probabilities)
    votes = np.eye(p.shape[2])[p.argmax(axis=2)].sum(axis=0)
    return (votes + p.mean(axis=0) / 2) / (len(p) + 0.5)


def most_confident(probabilities: np.ndarray) -> np.ndarray:
    """For each image the row of the member with the highest top probability, the first in a tie."""
    p = _checked(probabilities)
    surest = p.max(axis=2).argmax(axis=0)
    return p[surest, np.arange(p.shape[1])]


def stacking(
    valid: np.ndarray, labels: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A logistic regression on all members' log-probabilities, learned on validation images.

    Standardised features, L2 penalty (see `probes.linear_probe`). Its strength is the one of
    ``PENALTIES`` with the lowest negative log likelihood in five-fold cross-validation over the
    validation images; the images of every class are dealt out to the folds in turn.

    valid: [members, V, classes] with labels [V], V >= 10; test: [members, N, classes]. Returns the
    probabilities of the test images [N, classes], and those of the validation images [V, classes]
    when each was left out of the fit: what a choice between rules may be based on.
    """
    known, unseen = _checked(valid), _checked(test)
    if known.shape[::2] != unseen.shape[::2]:
        raise UserError(
            f"valid has {known.shape[::2]} members and classes, test {unseen.shape[::2]}: pass the "
            "same members in both."
        )
    k = known.shape[2]
    truth = _labels_of(known[0], labels)
    if len(truth) < 2 * FOLDS:
        raise UserError(f"{len(truth)} validation images: stacking needs at least {2 * FOLDS}.")
    features, others = (np.concatenate(_logs(p), axis=1) for p in (known, unseen))
    fold = np.empty(len(truth), dtype=int)
    fold[np.argsort(truth, kind="stable")] = np.arange(len(truth)) % FOLDS
    left_out = {c: np.empty((len(truth), k)) for c in PENALTIES}
    for c, found in left_out.items():
        for each in range(FOLDS):
            own, held = fold != each, fold == each
            found[held] = probes.linear_probe(features[own], truth[own], features[held], k, c)
    best = min(PENALTIES, key=lambda c: _nll(left_out[c], truth))
    return probes.linear_probe(features, truth, others, k, best), left_out[best]


def temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of one classifier, fitted to validation images by negative log likelihood.

    probabilities: [images, classes].

    Convention: it divides, as in Guo et al. (2017): above 1 the classifier was too sure. Sought
    from 1/20 to 20: a classifier without a mistake ends at the lower limit.
    """
    logs = _logs(checked_probabilities(probabilities))
    truth = _labels_of(logs, labels)
    limit = np.log(HOTTEST)
    found = minimize_scalar(
        lambda t: _nll(softmax(logs / np.exp(t), axis=1), truth),
        bounds=(-limit, limit),
        method="bounded",
    )
    return float(np.exp(found.x))


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [images, classes] to the power 1 / temperature, normalised."""
    if not np.isfinite(temperature) or temperature <= 0:
        raise UserError(f"temperature is {temperature}: give a number above zero.")
    return softmax(_logs(checked_probabilities(probabilities)) / temperature, axis=1)


def disagreement(first: np.ndarray, second: np.ndarray) -> float:
    """Share of the images, 0..1, that two classifiers put into different classes, each [images].

    Convention: of all images, those that both get wrong among them.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise UserError(
            f"predictions have shapes {first.shape} and {second.shape}: pass two of [images]."
        )
    return float((first != second).mean())


def double_fault(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> float:
    """Share of the images, 0..1, that both classifiers get wrong; predictions and labels [images].

    No rule that takes one of the two answers can get these right.

    Convention: of all images, also where the two wrong answers differ.
    """
    for predicted in (first, second):
        disagreement(predicted, labels)  # refuses what does not fit
    first, second, labels = (np.asarray(each) for each in (first, second, labels))
    return float(((first != labels) & (second != labels)).mean())


def mean_class_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the recalls of the classes; probabilities [images, classes].

    Convention: only the classes present in the labels count.
    """
    truth = _labels_of(probabilities, labels)
    right = np.asarray(probabilities).argmax(axis=1) == truth
    images = np.bincount(truth)
    return float((np.bincount(truth, right)[images > 0] / images[images > 0]).mean())


def subsets(names: Mapping | list | tuple, least: int = 1) -> list[tuple[str, ...]]:
    """Every subset of at least so many names, the smallest first."""
    sizes = range(least, len(names) + 1)
    return [chosen for size in sizes for chosen in combinations(names, size)]


def _checked(probabilities: np.ndarray) -> np.ndarray:
    p = np.asarray(probabilities)
    if p.ndim != 3 or not len(p):
        raise UserError(
            f"probabilities has shape {p.shape}: pass [members, images, classes], at least one "
            "member (see gather)."
        )
    return np.stack([checked_probabilities(member) for member in p])


def _labels_of(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    truth = checked_classes(labels, np.shape(probabilities)[1], "labels")
    if len(truth) != len(probabilities):
        raise UserError(f"{len(probabilities)} rows for {len(truth)} labels: pair them.")
    return truth


def _logs(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, SMALLEST))


def _nll(p: np.ndarray, truth: np.ndarray) -> float:
    return float(-_logs(p[np.arange(len(truth)), truth]).mean())
