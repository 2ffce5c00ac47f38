"""What runs on a reader's own images say: estimates, and advice that follows by stated rules.

The figure is the mean class accuracy, in which every class counts the same. It varies with the
draw of the labels (and all else that is random in a run), and with the luck of which images are in
the test set; every interval here holds both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from fewlabels.data import ImageData, duplicates
from fewlabels.evidence import tables
from fewlabels.evidence.power import detectable
from fewlabels.evidence.statistics import ALPHA, FEWEST, PairedDifference
from fewlabels.evidence.tables import percent

LOOKS = {
    "untrained": "random",
    "imagenet": "imagenet-head",
    "scratch": "scratch",
    "simclr": "simclr-probe",
    "simclr fine-tuned": "simclr-finetuned",
    "fixmatch": "fixmatch",
}
"""Method -> how figures draw it."""
NAMES = {
    "untrained": "untrained features",
    "imagenet": "ImageNet features",
    "scratch": "a small network from scratch",
    "simclr": "SimCLR features",
    "simclr fine-tuned": "SimCLR, fine-tuned",
    "fixmatch": "FixMatch",
}
COSTS = ("untrained", "imagenet", "simclr", "scratch", "simclr fine-tuned", "fixmatch")
"""The methods by what they take to train, the cheapest first."""
UNBALANCED = 3.0
"""The largest class over the smallest from which on classes count as unequal."""

Hits = Mapping[int, np.ndarray]
"""Draw -> which test images are named rightly, bool [N]."""


@dataclass(frozen=True)
class Sentence:
    """One piece of advice, and the rule that it follows from."""

    text: str
    rule: str


def estimate(values: np.ndarray, labels: np.ndarray) -> PairedDifference:
    """Mean over classes of a value per draw and test image, with its standard error.

    Convention: every class weighs the same; variances with n - 1. The variance is that of the
    draws' means over their number, plus that of the images' means within every class over its
    number of images; Welch and Satterthwaite give the degrees of freedom. No interval under three
    draws.

    Args:
        values: [draws, N]: hits (0 or 1), or differences between two methods' hits.
        labels: int [N].
    """
    classes = np.unique(labels)
    per_draw = np.mean([values[:, labels == k].mean(axis=1) for k in classes], axis=0)
    draws = len(per_draw)
    own = per_draw.var(ddof=1) / draws if draws > 1 else 0.0
    images, luck = values.mean(axis=0), 0.0
    for k in classes:
        each = images[labels == k]
        # One image tells nothing of the others: the most that such values can vary stands for it.
        spread = each.var(ddof=1) if len(each) > 1 else np.ptp(values) ** 2 / 4
        luck += spread / len(each) / len(classes) ** 2
    total = own + luck
    parts = own**2 / max(1, draws - 1) + luck**2 / max(1, len(labels) - len(classes))
    df = total**2 / parts if parts else math.inf
    return PairedDifference(
        float(per_draw.mean()), math.sqrt(total), float(df), draws, "draws and test images"
    )


def mean(hits: Hits, labels: np.ndarray) -> PairedDifference:
    """Mean class accuracy, a fraction."""
    return estimate(np.stack([*hits.values()]).astype(float), labels)


def difference(a: Hits, b: Hits, labels: np.ndarray) -> PairedDifference:
    """The first minus the second over the draws that both have, a fraction."""
    shared = sorted(a.keys() & b.keys())
    return estimate(np.stack([a[d].astype(float) - b[d] for d in shared]), labels)


def curve(
    found: Mapping[tuple[str, float], Hits], labels: np.ndarray, counts: Mapping[float, int]
) -> pd.DataFrame:
    """A row per method and share: method, share, labels (their number), mean, low, high, n."""
    rows = []
    for (method, share), hits in found.items():
        each = mean(hits, labels)
        low, high = np.clip([each.low, each.high], 0, 1)
        rows.append((LOOKS[method], method, share, counts[share], each.mean, low, high, each.n))
    columns = ["method", "name", "share", "labels", "mean", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def advice(
    images: ImageData, found: Mapping[tuple[str, float], Hits], predicted: Sequence[np.ndarray]
) -> list[Sentence]:
    """What follows from the runs that are there.

    Args:
        found: (method, share of the labels) -> hits.
        predicted: classes [N] of the runs of the best method with all labels (see `best`).
    """
    labels, said = images.test.labels.numpy(), [*_about_images(images)]
    means = {key: mean(hits, labels) for key, hits in found.items()}
    leader = best(means, 1.0)
    if leader is None:
        return said
    chance = 1 / len(images.classes)
    top = means[leader, 1.0]
    if top.low <= chance:
        said.append(
            Sentence(
                f"Nothing here is told from guessing ({percent(chance)}%): the best figure is "
                f"{percent(top)}%. Look at the labels first, and at whether the images show at "
                "this size what the classes differ in.",
                "the interval of the best figure reaches down to one over the number of classes",
            )
        )
    for share in sorted({share for _, share in found}, reverse=True):
        said += _ranking(found, means, labels, share)
    said += _more_labels(found, means, labels, leader)
    said += _hardest(images, predicted, leader)
    return said


def best(means: Mapping[tuple[str, float], PairedDifference], share: float) -> str | None:
    """The method with the highest mean at a share of the labels, where any was run thrice."""
    there = {m: each.mean for (m, s), each in means.items() if s == share and each.n >= FEWEST}
    return max(there, key=there.get) if there else None


def _about_images(images: ImageData) -> list[Sentence]:
    said, counts = [], images.train.labels.bincount(minlength=len(images.classes))
    few, many = int(counts.min()), int(counts.max())
    if many >= UNBALANCED * few:
        small, large = images.classes[int(counts.argmin())], images.classes[int(counts.argmax())]
        said.append(
            Sentence(
                f"The classes are unequal: {many:,} training images of {large}, {few:,} of {small}."
                " Plain accuracy mostly counts the large ones; the figures here count every class "
                f"the same. Labels of {small} are worth most.",
                f"the largest class has {UNBALANCED:g} times the images of the smallest, or more",
            )
        )
    splits = {name: getattr(images, name).images for name in ("train", "valid", "test")}
    pairs = duplicates.exact(splits)
    across = pairs[pairs["split"] != pairs["other_split"]]
    tested = across[across["other_split"] == "test"]["other_index"].nunique()
    if tested:
        said.append(
            Sentence(
                f"{tested} of {len(images.test.labels)} test images equal a training or validation "
                "image in every pixel: the figures flatter. Take the copies away and run this "
                "again.",
                "any test image occurs in another split",
            )
        )
    return said


def _ranking(found, means, labels: np.ndarray, share: float) -> list[Sentence]:
    """The best method at a share of the labels, and which others cannot be told from it."""
    leader = best(means, share)
    others = [m for m, s in found if s == share and m != leader and means[m, s].n >= FEWEST]
    if leader is None or not others:
        return []
    gaps = [difference(found[leader, share], found[m, share], labels) for m in others]
    # The leader is the highest of all, so that every pair has been looked at.
    among = [
        difference(found[a, share], found[b, share], labels) for a, b in combinations(others, 2)
    ]
    p = tables.corrected([*gaps, *among])[: len(gaps)]
    # Means over all draws chose the leader; a pair compares the draws that it shares.
    behind = [
        m for m, gap, each in zip(others, gaps, p, strict=True) if each <= ALPHA and gap.mean > 0
    ]
    level = [m for m in others if m not in behind]
    with_ = "With all labels" if share == 1 else f"With {share:.0%} of the labels"
    text = (
        f"{with_}, the highest mean is that of {NAMES[leader]}, {percent(means[leader, share])}%. "
    )
    if behind:
        listed = ", ".join(
            f"{NAMES[m]} ({percent(gap, sign=True)} points)"
            for m, gap in zip(others, gaps, strict=True)
            if m in behind
        )
        text += f"It is ahead of {listed}. "
    if level:
        cheapest = min([leader, *level], key=COSTS.index)
        text += f"These runs do not tell it from {', '.join(NAMES[m] for m in level)}. "
        text += f"The cheapest of these is {NAMES[cheapest]}: begin with that. "
    if told := [detectable(gap.error, gap.df) for gap in gaps if gap.error and gap.n >= FEWEST]:
        text += (
            f"A difference under about {percent(min(told))} points between two methods would most "
            "likely go unseen with so many test images and draws."
        )
    rule = (
        "paired differences to the best, Holm's correction at 5% over all pairs; smallest "
        "difference: found with a probability of 80%; costs in the order "
        + ", ".join(NAMES[m] for m in COSTS)
    )
    return [Sentence(text, rule)]


def _more_labels(found, means, labels: np.ndarray, leader: str) -> list[Sentence]:
    lower = [s for m, s in found if m == leader and s < 1 and means[m, s].n >= FEWEST]
    if not lower:
        return []
    before = max(lower)
    gain = difference(found[leader, 1.0], found[leader, before], labels)
    grown = f"from {before:.0%} of the labels to all of them, the gain of {NAMES[leader]} is"
    if gain.low > 0:
        text = f"More labels pay: {grown} {percent(gain, sign=True)} points."
    else:
        text = (
            f"It is open whether more labels pay: {grown} {percent(gain, sign=True)} points. "
            "More test images would tell."
        )
    return [Sentence(text, "the 95% interval of the last gain on the curve is above zero, or not")]


def _hardest(images: ImageData, predicted, leader: str) -> list[Sentence]:
    if not len(predicted):
        return []
    labels, k = images.test.labels.numpy(), len(images.classes)
    counts = np.zeros((k, k))
    for each in predicted:
        np.add.at(counts, (labels, each), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    worst = int(shares.diagonal().argmin())
    rest = shares[worst].copy()
    rest[worst] = -1
    taken = int(rest.argmax())
    if shares[worst, worst] == 1:
        return []
    return [
        Sentence(
            f"The hardest class is {images.classes[worst]}: of its {int((labels == worst).sum())} "
            f"test images {percent(shares[worst, worst], 0)}% are named rightly "
            f"({NAMES[leader]}), and {percent(rest[taken], 0)}% are taken for "
            f"{images.classes[taken]}. "
            "Look at these for wrong labels before anything else.",
            "lowest recall of the best method with all labels",
        )
    ]
