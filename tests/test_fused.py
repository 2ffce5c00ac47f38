"""Fusions as rows of the tidy frame: members, what is chosen, and the control by seeds."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from made_up import METHODS, SUPERVISED, model, models

from fewlabels import data
from fewlabels import evidence as ev
from fewlabels.errors import UserError
from fewlabels.evidence import fused
from fewlabels.evidence.fused import MEAN
from fewlabels.learn import evaluation, fusion

ALL, QUARTER = "100%", "25%"


def members(draw=0, labels=ALL, names=METHODS):
    return fused.members({name: model(name, draw, labels) for name in names}, "cells")


@pytest.fixture(scope="module")
def single():
    return models(draws=4)


@pytest.fixture(scope="module")
def rows(single):
    return fused.with_fusions(single, METHODS)


def values(rows, method, labels=ALL, metric=MEAN):
    """Draw -> metric."""
    found = ev.where(rows, method=method, labels=labels)
    return dict(zip(found["draw"], found[metric], strict=True))


def test_a_fusion_has_a_row_for_every_draw_and_rule(rows):
    # Five models; eleven products, nine other rules over all four, three choices.
    assert len(ev.done(rows)) == len(rows) == 4 * 2 * (5 + 11 + 9 + 3)
    assert not rows.duplicated(["labels", "draw", "method"]).any()
    own = members(draw=2)
    for rule, function in fused.RULES.items():
        expected = fusion.mean_class_accuracy(function(own.test), own.test_labels)
        assert values(rows, fused.key(rule, METHODS))[2] == expected
    pair = fusion.product(own.take(("moco", "mae")).test)
    expected = evaluation.evaluate(pair, own.test_labels)
    (row,) = ev.where(rows, method="product of moco x mae", labels=ALL, draw=2).to_dict("records")
    assert (row["rule"], row["members"], row["size"]) == ("product", "moco x mae", 2)
    for metric in ("accuracy", MEAN, "calibration_error"):
        assert row[metric] == pytest.approx(expected[metric])
    assert row["recall_class_1"] == pytest.approx(
        (pair.argmax(1) == 1)[own.test_labels == 1].mean()
    )
    assert np.array_equal(ev.classes(row["record"]), pair.argmax(axis=1))


def test_questions_of_the_grammar_pair_a_fusion_with_its_members(rows):
    whole = ev.where(rows, method=fused.key("product", METHODS))
    gain = ev.difference(
        ev.where(whole, labels=ALL), ev.where(rows, method="moco", labels=ALL), MEAN
    )
    by_hand = [
        values(rows, fused.key("product", METHODS))[d] - values(rows, "moco")[d] for d in range(4)
    ]
    assert gain.n == 4 and gain.mean == pytest.approx(np.mean(by_hand))
    # With all labels and with a quarter a draw starts from the same pretraining.
    assert ev.mean(whole, MEAN).n == 4
    table = ev.table(
        rows, {"Model": "method"}, {"n": ev.count(labels=ALL)}, "tbl-a", "A.", pick=[fused.CHOSEN]
    )
    assert table.frame["n"].tolist() == ["4"]


def test_what_is_chosen_follows_from_validation_images_alone():
    own = members()
    scrambled = replace(own, test=np.roll(own.test, 1, axis=2))
    first, second = (fused._fused(each, complete=True) for each in (own, scrambled))
    for name in (fused.CHOSEN_MEMBER, fused.CHOSEN_SUBSET, fused.CHOSEN):
        assert first[name][1] == second[name][1]
        assert not np.allclose(first[name][0], second[name][0])
    named = dict(zip(own.names, own.valid, strict=True))
    truth = data.load("cells").valid.labels.numpy()

    def validated(names):
        return fusion.mean_class_accuracy(
            fusion.product(np.stack([named[m] for m in names])), truth
        )

    best = max(fusion.subsets(own.names), key=validated)
    assert len(best) > 1 and first[fused.CHOSEN_SUBSET][1] == fused.key("product", best)
    alone = max(named, key=lambda m: fusion.mean_class_accuracy(named[m], own.valid_labels))
    probabilities, choice = first[fused.CHOSEN_MEMBER]
    assert choice == alone
    right = (probabilities.argmax(axis=1) == own.test_labels).mean()
    assert right == model(alone, 0).metrics["accuracy"]


@pytest.mark.parametrize("known", ["valid", "test"])
def test_stacking_is_chosen_where_it_is_right_on_validation_images(monkeypatch, known):
    own = members()
    labels = {"valid": own.valid_labels, "test": own.test_labels}
    said = {
        part: np.eye(4)[each if part == known else (each + 1) % 4] for part, each in labels.items()
    }
    monkeypatch.setattr(fusion, "stacking", lambda *_: (said["test"], said["valid"]))
    choice = fused._fused(own, complete=True)[fused.CHOSEN][1]
    assert choice.startswith(fused.STACKING) == (known == "valid")


def test_temperatures_follow_from_validation_images_alone():
    sure = {m: model(m, 0, flat=0.3 * k) for k, m in enumerate(METHODS, start=1)}
    own = fused.members(sure, "cells")
    warm, other = own.tempered(), replace(own, test=np.roll(own.test, 1, axis=2)).tempered()
    assert np.array_equal(warm.valid, other.valid)
    for k in range(len(own.names)):
        heat = fusion.temperature(own.valid[k], own.valid_labels)
        assert heat != pytest.approx(fusion.temperature(own.test[k], own.test_labels), rel=0.01)
        assert np.array_equal(warm.test[k], fusion.tempered(own.test[k], heat))


def test_members_that_are_all_alike_leave_the_first_alone():
    alike = model("moco", 0)
    own = fused.members({m: alike for m in METHODS}, "cells")
    probabilities, choice = fused._fused(own, complete=True)[fused.CHOSEN_SUBSET]
    assert choice == METHODS[0]
    right = (probabilities.argmax(axis=1) == own.test_labels).mean()
    assert right == pytest.approx(alike.metrics["accuracy"])


def test_a_missing_member_leaves_the_fusions_without_it(single):
    short = single[single["draw"] == 0].copy()
    short.loc[(short["method"] == "aim") & (short["labels"] == ALL), "record"] = None
    found = fused.with_fusions(short, METHODS)
    made = set(ev.done(ev.where(found, labels=ALL))["method"])
    assert "product of simclr x moco x mae" in made
    assert not any("aim" in method or "chosen" in method for method in made)
    assert fused.key("stacking", METHODS) in set(ev.done(ev.where(found, labels=QUARTER))["method"])


def test_fusions_of_runs_that_have_not_been_made_are_not_run(single):
    planned = single.drop(columns=["accuracy", MEAN]).assign(record=None)
    found = fused.with_fusions(planned, METHODS)
    assert len(found) == 4 * 2 * 28 and ev.done(found).empty
    whole = ev.where(found, method=fused.key("product", METHODS), labels=ALL)
    assert ev.fraction(whole, MEAN).n == 0 and ev.difference(whole, whole, MEAN).n == 0
    assert fused.seed_groups(planned, METHODS, SUPERVISED).empty
    assert fused.pairs(planned, METHODS).empty
    assert fused.with_fusions(planned.iloc[:0], METHODS).empty


def test_members_of_another_file_than_the_one_at_hand_are_not_fused(single):
    other = single[single["draw"] == 0].copy()
    other["record"] = [
        SimpleNamespace(**vars(each) | {"data": {"cells": "another"}}) for each in other["record"]
    ]
    assert set(ev.done(fused.with_fusions(other, METHODS))["rule"]) == {"single"}


def test_members_without_a_data_file_are_not_fused(single, monkeypatch):
    monkeypatch.setattr(data, "at_hand", lambda name: False)
    monkeypatch.setattr(data, "load", lambda name: pytest.fail("data are loaded"))
    assert set(ev.done(fused.with_fusions(single, METHODS))["rule"]) == {"single"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"data": {"cells": "other"}},
            "^member moco was made from another file of cells than simclr",
        ),
        ({"predictions": {"classes": np.zeros(60, np.uint8)}}, "^member moco is missing"),
        ({"metrics": {"accuracy": 0.1}}, "^member moco has an accuracy of .* another test set"),
        (
            {
                "predictions": {"valid": model("moco", 0).predictions["valid"]}
                | {"test": np.full((9, 4), 0.25)}
            },
            "^member moco has scored 9 images and there are 60 labels",
        ),
    ],
)
def test_a_member_of_other_images_is_refused_by_name(change, told):
    odd = SimpleNamespace(**vars(model("moco", 0)) | change)
    with pytest.raises(UserError, match=told):
        fused.members({"simclr": model("simclr", 0), "moco": odd}, "cells")


def test_groups_of_seeds_are_independent_only_where_they_share_no_draw(single):
    groups = fused.seed_groups(single, METHODS, SUPERVISED)
    here = ev.where(groups, labels=ALL)
    assert here["size"].value_counts().to_dict() == {2: 6, 3: 4, 4: 1}
    apart = ev.where(here, disjoint=True)
    assert apart["group"].tolist() == [(0, 1), (2, 3), (0, 1, 2), (0, 1, 2, 3)]
    assert ev.mean_difference(ev.where(apart, size=2), "gain").n == 2


def test_methods_and_seeds_fuse_the_very_same_models(single, rows):
    """A group by hand: draws 0 and 1."""
    group = fused.seed_groups(single, METHODS, SUPERVISED).iloc[0]
    assert group["group"] == (0, 1) and group["labels"] == ALL
    own = [members(draw) for draw in (0, 1)]
    by_draw = [
        values(rows, fused.key("product", pair))[draw]
        for pair in fusion.subsets(METHODS, 2)[:6]
        for draw in (0, 1)
    ]
    assert group["methods"] == pytest.approx(np.mean(by_draw))
    truth = own[0].test_labels
    seeds = [
        fusion.mean_class_accuracy(fusion.product(np.stack([each.test[m] for each in own])), truth)
        for m in range(4)
    ]
    assert group["seeds"] == pytest.approx(np.mean(seeds))
    assert group["gain"] == pytest.approx(np.mean(by_draw) - np.mean(seeds))
    known = [
        np.mean([fusion.mean_class_accuracy(each.valid[m], each.valid_labels) for each in own])
        for m in range(4)
    ]
    assert group["best"] == seeds[int(np.argmax(known))]
    alone = [values(rows, m)[draw] for m, draw in product(METHODS, (0, 1))]
    assert group["one"] == pytest.approx(np.mean(alone))
    beside = np.stack([members(draw, names=[SUPERVISED]).test[0] for draw in (0, 1)])
    assert group["control"] == fusion.mean_class_accuracy(fusion.product(beside), truth)


def test_a_group_that_lacks_a_supervised_run_says_so(single):
    short = single[single["draw"] < 2]
    short = short[~((short["method"] == SUPERVISED) & (short["draw"] == 1))]
    groups = fused.seed_groups(short, METHODS, SUPERVISED)
    assert groups["control"].isna().all() and groups["seeds"].notna().all()


def test_every_pair_is_counted_once(single):
    pairs = fused.pairs(single, METHODS)
    counts = pairs.groupby(["labels", "of"]).size()
    assert counts[ALL, fused.METHODS] == 6 * 4 and counts[ALL, fused.SEEDS] == 6 * 4
    first = pairs.iloc[0]
    own = members(names=("simclr", "moco"))
    predicted = own.test.argmax(axis=2)
    assert first["disagreement"] == fusion.disagreement(*predicted)
    assert first["double_fault"] == fusion.double_fault(*predicted, own.test_labels)
    together = fusion.product(own.test).argmax(axis=1)
    alone = (predicted == own.test_labels).mean()
    assert first["alone"] == alone
    assert first["gain"] == pytest.approx((together == own.test_labels).mean() - alone)
