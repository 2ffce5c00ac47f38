"""Runs of chapter 4 that choose their settings inside the training part of their split."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fewlabels.chapters import few_data_caltech as chapter
from fewlabels.chapters import profiles
from fewlabels.data import photographs
from fewlabels.errors import UserError
from fewlabels.evidence import remeasured
from fewlabels.kinds.chosen_photographs import ChosenTuning, Search, Searched, best, moved
from fewlabels.kinds.few_photographs import ScratchClassification, parts
from fewlabels.kinds.photograph_features import FeatureClassification, FineTuning
from fewlabels.learn.training import Recipe
from fewlabels.nets.pretrained import Pretrained

CLASSES = ("cross", "disc", "square", "triangle")
COMMON = {"dataset": "shapes", "classes": CLASSES, "split": 0}
HEAD = FeatureClassification(
    **COMMON,
    size=32,
    source=Pretrained("resnet18", "random"),
    training=Recipe(10, 16, rate=0.001, evaluations=1),
)
TUNING = ChosenTuning("shapes", HEAD, 1, rates=(1e-6, 1e-3), steps=4, points=2)
SEARCH = Search(
    **COMMON,
    size=16,
    scored_on="validation",
    candidates=((1e-6, (4, 4), 0.0), (0.01, (4, 4), 0.0), (0.01, (4,), 0.5)),
    steps=12,
    points=2,
    folds=3,
)

pytestmark = pytest.mark.usefixtures("one_thread", "store")


@pytest.fixture
def other_test_labels(monkeypatch):
    """Every test photograph of the split belongs to another class than it did."""
    _, test = parts("shapes", CLASSES, 0, 0, "test")
    parts("shapes", CLASSES, 0, 0, "validation")
    load = photographs.load

    def changed(*asked):
        found = load(*asked)
        labels = found.labels.clone()
        labels[test] = (labels[test] + 1) % len(CLASSES)
        return replace(found, labels=labels)

    # The split itself stays: it is kept from before.
    monkeypatch.setattr(photographs, "load", changed)


def test_rate_and_steps_are_chosen_without_a_look_at_test_images(store, fabric, request):
    before = store.run(TUNING, fabric)
    request.getfixturevalue("other_test_labels")
    after = TUNING.execute(fabric, store)
    assert after.metrics["nll"] != before.metrics["nll"]
    assert after.curves == before.curves
    for name in ("chosen_rate", "chosen_steps", "moved_head", "moved_1"):
        assert after.metrics[name] == before.metrics[name]


def test_the_search_never_sees_a_test_image(store, fabric, monkeypatch):
    train, test = (set(each.tolist()) for each in parts("shapes", CLASSES, 0, 0, "test"))
    seen = []
    between = ScratchClassification.between

    def noted(run, fabric, known, held):
        seen.append((set(known.tolist()), held.tolist()))
        return between(run, fabric, known, held)

    monkeypatch.setattr(ScratchClassification, "between", noted)
    SEARCH.execute(fabric, store)
    assert len(seen) == len(SEARCH.candidates) * SEARCH.folds
    for known, held in seen:
        assert known | set(held) == train and not known & set(held)
    # Every training image is scored once by every candidate.
    scored = [image for _, held in seen[: SEARCH.folds] for image in held]
    assert sorted(scored) == sorted(train)
    assert not train & test


def test_the_lowest_validation_loss_decides_and_trains_on_the_whole_part(store, fabric):
    record = store.run(TUNING, fabric)
    losses = {rate: record.curves[f"loss_{rate:g}"] for rate in TUNING.rates}
    rate = min(losses, key=lambda each: min(losses[each]))
    steps = record.curves["step"][int(np.argmin(losses[rate]))]
    assert (record.metrics["chosen_rate"], record.metrics["chosen_steps"]) == (rate, steps)
    recipe = Recipe(int(steps), 32, rate, evaluations=1)
    alone = FineTuning("shapes", HEAD, 1, recipe).execute(fabric, store)
    assert np.array_equal(alone.predictions["classes"], record.predictions["classes"])
    held = FineTuning("shapes", TUNING.held_out, 1, Recipe(4, 32, 1e-3, evaluations=2))
    assert held.execute(fabric, store).curves["valid_loss"] == losses[1e-3]


def test_the_searched_network_has_what_the_search_chose(store, fabric):
    search = store.run(SEARCH, fabric)
    at, steps = int(search.metrics["chosen"]), int(search.metrics["chosen_steps"])
    assert (at, search.curves["step"].index(steps)) == best(search.curves, 3)
    rate, filters, dropout = SEARCH.candidates[at]
    for more in (1, 2):
        record = store.run(Searched("shapes", SEARCH, "horizontal flip", more), fabric)
        alone = ScratchClassification(
            **COMMON,
            size=16,
            training=Recipe(more * steps, 32, rate, evaluations=1),
            filters=filters,
            dropout=dropout,
            augmentation="horizontal flip",
        ).execute(fabric, store)
        assert np.array_equal(alone.predictions["classes"], record.predictions["classes"])


def test_accuracy_decides_a_search_and_of_equals_the_loss():
    curves = {
        "step": [10.0, 20.0],
        "accuracy_0": [0.5, 0.75],
        "loss_0": [0.1, 0.9],
        "accuracy_1": [0.75, 0.7],
        "loss_1": [0.8, 0.2],
    }
    assert best(curves, 2) == (1, 0)
    assert best(curves, 1) == (0, 1)


def test_how_far_weights_moved_by_hand():
    before, after = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        for module, values in ((before, (3.0, 4.0)), (after, (3.0, 3.0))):
            module.weight.fill_(values[0])
            module.bias.fill_(values[1])
    assert moved(before, after) == pytest.approx(1 / 5)


def test_a_head_alone_leaves_the_blocks_as_they_were(store, fabric):
    record = store.run(replace(TUNING, blocks=0, rates=(1e-3,)), fabric)
    assert record.metrics["moved_head"] > 0
    assert "moved_1" not in record.metrics
    both = store.run(replace(TUNING, blocks=2, rates=(1e-3,)), fabric)
    assert both.metrics["moved_1"] > 0 and both.metrics["moved_2"] > 0


@pytest.mark.parametrize("run", [TUNING, Searched("shapes", SEARCH)], ids=["tuning", "searched"])
def test_accuracy_can_be_made_again_from_the_record(store, fabric, run):
    record = store.run(run, fabric)
    low, high = remeasured.spans(record)["accuracy"]
    assert low <= record.metrics["accuracy"] <= high


@pytest.mark.parametrize(
    ("run", "change"),
    [
        (SEARCH, {"scored_on": "test"}),
        (SEARCH, {"candidates": ()}),
        (SEARCH, {"folds": 1}),
        (SEARCH, {"points": 13}),
        (TUNING, {"rates": ()}),
        (TUNING, {"rates": (-1.0,)}),
        (TUNING, {"points": 5}),
        (TUNING, {"blocks": -1}),
        (Searched("shapes", SEARCH), {"longer": 0}),
        (Searched("shapes", SEARCH), {"augmentation": "mixup"}),
    ],
)
def test_impossible_settings_are_refused_by_name(run, change):
    with pytest.raises(UserError, match=next(iter(change))):
        replace(run, **change)


def test_a_run_that_chooses_is_scored_on_test_images():
    with pytest.raises(UserError, match="scored_on"):
        replace(TUNING, head=TUNING.held_out)


def test_every_split_chooses_for_both_networks():
    s = profiles.settings(chapter.NAME)
    found = [(run.head.source.architecture, run.blocks) for run in chapter.chosen(s)]
    assert {key: found.count(key) for key in found} == {
        ("resnet18", 0): 10,
        ("resnet18", 1): 10,
        ("resnet18", 2): 10,
        ("resnet50", 0): 10,
        ("resnet50", 1): 10,
    }
    assert sum(isinstance(run, Search) for run in chapter.searched(s)) == 10
