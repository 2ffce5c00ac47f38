"""Advice on a reader's own images: numbers by hand, and the page from end to end."""

import json
import math
import os

import numpy as np
import pytest
import torch

from fewlabels.book import advise as page
from fewlabels.data import ImageData, Split
from fewlabels.errors import DiskError, UserError
from fewlabels.evidence import advice
from fewlabels.evidence.statistics import PairedDifference
from fewlabels.kinds.advice import OwnClassifier


def test_the_error_holds_draws_and_test_images():
    # Class 0: four images, class 1: two. By hand from the two parts of the variance.
    labels = np.array([0, 0, 0, 0, 1, 1])
    values = np.array([[1, 1, 1, 0, 1, 0], [1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 1, 0]], dtype=float)
    per_draw = [(0.75 + 0.5) / 2, (0.5 + 1) / 2, (1 + 0.5) / 2]
    images = [1, 1, 2 / 3, 1 / 3, 1, 1 / 3]
    own = np.var(per_draw, ddof=1) / 3
    luck = (np.var(images[:4], ddof=1) / 4 + np.var(images[4:], ddof=1) / 2) / 4
    found = advice.estimate(values, labels)
    assert found.mean == pytest.approx(np.mean(per_draw))
    assert found.error == pytest.approx(math.sqrt(own + luck))
    assert found.df == pytest.approx((own + luck) ** 2 / (own**2 / 2 + luck**2 / 4))
    assert found.n == 3


def test_equal_draws_still_have_the_luck_of_the_test_images():
    labels = np.repeat([0, 1], 50)
    values = np.tile(np.tile([1.0, 0.0], 50), (3, 1))
    found = advice.estimate(values, labels)
    assert found.mean == 0.5
    # Binomial: sqrt(0.25 / 100), with the factor n / (n - 1) of a variance from 50 images.
    assert found.error == pytest.approx(math.sqrt(0.25 / 100 * 50 / 49))
    assert found.low == pytest.approx(0.5 - 1.98 * found.error, abs=1e-3)


def test_intervals_cover_what_they_should():
    """Hits of images that differ in difficulty, over draws that differ in skill."""
    random, inside, rounds = np.random.default_rng(0), 0, 400
    labels = np.repeat([0, 1], 100)
    for _ in range(rounds):
        difficulty = random.normal(0, 1, 200)
        skill = random.normal(0, 0.3, 3)
        chance = 1 / (1 + np.exp(-(1 + skill[:, None] + difficulty)))
        values = (random.random((3, 200)) < chance).astype(float)
        found = advice.estimate(values, labels)
        grid = random.normal(0, 1.0, 20_000) + random.normal(0, 0.3, 20_000)
        inside += found.low <= (1 / (1 + np.exp(-(1 + grid)))).mean() <= found.high
    assert 0.92 < inside / rounds < 1


def images(counts=(20, 20), copies=0) -> ImageData:
    generator = torch.Generator().manual_seed(0)

    def split(sizes):
        labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        return Split(
            torch.randint(0, 256, (len(labels), 3, 28, 28), generator=generator).byte(), labels
        )

    train, valid, test = split(counts), split([3] * len(counts)), split([40] * len(counts))
    if copies:
        test.images[:copies] = train.images[:copies]
    classes = tuple("abcdefgh"[: len(counts)])
    return ImageData("mine", "mine", classes, "", train, test, valid)


def hits(share: float, count: int, draws=3, start=0) -> dict[int, np.ndarray]:
    """The first ``share`` of every class's 40 test images right, a few moved from draw to draw."""
    one = np.arange(40) < round(40 * share)
    return {d: np.roll(np.tile(one, count), start + d % 2) for d in range(draws)}


def texts(found, chosen=None, predicted=()) -> str:
    return " ".join(each.text for each in advice.advice(chosen or images(), found, predicted))


def test_what_is_ahead_and_what_cannot_be_told_apart():
    found = {
        ("scratch", 1.0): hits(0.9, 2),
        ("untrained", 1.0): hits(0.55, 2),
        ("imagenet", 1.0): hits(0.875, 2),
    }
    said = texts(found)
    assert "the highest mean is that of a small network from scratch, 90.0 [" in said
    assert "ahead of untrained features (+35.0 [" in said
    assert "do not tell it from ImageNet features" in said
    assert "The cheapest of these is ImageNet features" in said


def test_guessing_is_called_guessing():
    assert "Nothing here is told from guessing (50.0%)" in texts({("scratch", 1.0): hits(0.5, 2)})
    assert "guessing" not in texts({("scratch", 1.0): hits(0.9, 2)})


def test_whether_more_labels_pay():
    grown = {("scratch", 1.0): hits(0.9, 2), ("scratch", 0.5): hits(0.6, 2)}
    assert "More labels pay: from 50% of the labels to all of them, the gain" in texts(grown)
    level = {("scratch", 1.0): hits(0.9, 2), ("scratch", 0.5): hits(0.875, 2)}
    assert "It is open whether more labels pay" in texts(level)


def test_two_draws_are_too_few_for_advice():
    assert texts({("scratch", 1.0): hits(0.9, 2, draws=2)}) == ""


def test_copies_and_unequal_classes_are_told():
    assert "2 of 80 test images equal a training" in texts({}, images(copies=2))
    assert "unequal: 30 training images of a, 10 of b" in texts({}, images((30, 10)))
    assert texts({}, images((29, 10))) == ""


def test_the_hardest_class_and_what_it_is_taken_for():
    chosen = images((9, 9, 9))
    predicted = chosen.test.labels.numpy().copy()
    predicted[80:110] = 1
    found = {("scratch", 1.0): hits(0.9, 3)}
    said = texts(found, chosen, [predicted])
    assert (
        "The hardest class is c" in said
        and "of its 40 test images 25%" in said
        and "75% are taken for b" in said
    )


def test_means_of_methods_with_too_few_draws_do_not_lead():
    means = {
        ("scratch", 1.0): PairedDifference(0.9, 0.1, 2, 2, ""),
        ("simclr", 1.0): PairedDifference(0.8, 0.1, 2, 3, ""),
    }
    assert advice.best(means, 1.0) == "simclr" and advice.best(means, 0.5) is None


def test_a_page_from_arrays(tmp_path, monkeypatch):
    """The whole way on 90 small images: a first page, a second go that runs nothing anew."""
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FEWLABELS_DATA", raising=False)
    for name, value in {
        "STEPS": 2,
        "PAIR_STEPS": 1,
        "FIXMATCH_STEPS": 1,
        "DRAWS": ((0, 1, 2),),
        "REFRESHED": 60,
        "SHARES": (0.1, 1.0),
    }.items():
        monkeypatch.setattr(page, name, value)
    monkeypatch.setattr(page, "run_all", lambda *a, **k: run_here(*a, **k))
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    pixels = (random.integers(0, 60, (90, 28, 28)) + 60 * labels[:, None, None]).astype(np.uint8)
    done = []
    place = tmp_path / "page.html"
    found = page.advise(pixels, labels, page=place, progress=lambda *each: done.append(each))
    assert found.done == found.planned == len(done)
    assert {*found.curve["name"]} == {
        *("untrained", "scratch", "simclr", "simclr fine-tuned", "fixmatch")
    }
    # 20% and 10% of 30 a class are set aside: 21 of each train, and two of each are a tenth.
    assert {*found.curve["labels"]} == {6, 63}
    text = place.read_text()
    assert text.count("<img") == 1 and "http-equiv" not in text and 'src="http' not in text
    assert "ImageNet features are left out" in text
    cell = json.loads(place.with_suffix(".ipynb").read_text())["cells"][1]["source"]
    again = eval(cell.split("found = ")[1].split("  #")[0], {"fewlabels": page})
    assert again.curve.equals(found.curve)
    again = page.advise(pixels, labels, page=place, progress=lambda *each: done.append(each))
    assert len(done) == again.planned and again.curve.equals(found.curve)
    stopped = page.advise(pixels[::-1].copy(), labels[::-1].copy(), minutes=0, page=str(place))
    assert stopped.done == 0 and "0 of" in place.read_text()


def run_here(runs, store, device, **options):
    from fewlabels.runs.sweep import run_all

    return run_all(runs, store, "cpu", workers=1, **options)


def test_the_order_of_runs_brings_every_method_before_more_draws():
    runs = page.plan("cells", "any", "resnet18_imagenet_pq.pth.xz")
    classified = [r for r in runs if isinstance(r, OwnClassifier)]
    assert [*dict.fromkeys(r.method for r in classified[:30])][:3] == [
        *("untrained", "imagenet", "scratch")
    ]
    first = [r.draw for r in classified]
    assert first == sorted(first, key=lambda d: d > 2)
    # The smallest class of the cells has 16 of 160 images: a tenth of them is two.
    assert {r.share for r in classified} == {0.1, 0.25, 0.5, 1.0}
    assert {r.share for r in classified if r.method == "fixmatch"} == {0.1}


def test_a_page_has_a_name(tmp_path):
    with pytest.raises(UserError, match=r"end it in .html"):
        page.advise("cells", page=tmp_path / "page.txt")


@pytest.mark.parametrize(
    ("images", "labels", "more", "words"),
    [
        ("cells", None, {"minutes": math.nan}, "minutes is nan; allowed: a number"),
        ("cells", None, {"minutes": -5}, "minutes is -5; allowed: a number"),
        ("cells", None, {"minutes": "x"}, "minutes is 'x'; allowed: a number"),
        ("cells", None, {"page": "page.txt"}, "page.txt is no name of a page"),
        ("cells", [0, 1], {}, "labels go with arrays only"),
        (np.zeros((20, 28, 28)), np.arange(20) % 2, {}, "images is float64"),
        (np.zeros((20, 28, 28), np.uint8), None, {}, "labels are missing"),
    ],
)
def test_what_does_not_fit_is_told_before_the_runs(monkeypatch, images, labels, more, words):
    monkeypatch.setattr(page, "run_all", None)
    with pytest.raises(UserError, match=rf"^{words}"):
        page.advise(images, labels, **more)


def test_a_page_where_nothing_can_be_written_is_refused_before_the_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "run_all", None)
    monkeypatch.setattr(os, "access", lambda *_: False)  # Root may write anywhere.
    with pytest.raises(DiskError, match=rf"^{tmp_path} cannot be used: permission denied"):
        page.advise("cells", page=tmp_path / "page.html")
