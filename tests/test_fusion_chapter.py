"""Chapter 6: members from chapter 5's records, what is chosen, the control, and verdicts."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from fewlabels.chapters.ssl_medmnist.planning import SOURCE_METHODS
from fewlabels.chapters.ssl_medmnist.results import ALL, MEAN, QUARTER
from fewlabels.chapters.ssl_medmnist.results import frame as grid_frame
from scipy.special import softmax

from fewlabels import chapters, data, evaluation, fusion, notebooks, paths, summary
from fewlabels.chapters import ssl_medmnist
from fewlabels.chapters.fusion import Settings, claims, planning, results, show
from fewlabels.chapters.ssl_medmnist import planning as grid
from fewlabels.errors import UserError

SETTINGS = Settings(**yaml.safe_load((paths.PARAMS / "smoke/fusion.yaml").read_text()))
MODELS = (results.SUPERVISED, *SOURCE_METHODS)


def record(model, draw, labels=ALL, strength=1.5, flat=1.0):
    """A made-up record on the generated cells: sure in proportion to 1 / flat."""
    predictions = {}
    whole = data.load("cells")
    for part, split in (("valid", whole.valid), ("test", whole.test)):
        truth = split.labels.numpy()
        rng = np.random.default_rng([MODELS.index(model), draw, len(labels), len(truth)])
        logits = 1.5 * rng.normal(size=(len(truth), 4)) + strength * np.eye(4)[truth]
        predictions[part] = softmax(logits / flat, axis=1).astype(np.float16)
    metrics = evaluation.evaluate(predictions["test"], truth)
    backbone = "scratch" if model == results.SUPERVISED else "fine-tuned"
    cell = {"dataset": "cells", "labels": labels, "method": model, "backbone": backbone}
    return SimpleNamespace(
        cell=cell | {"protocol": "report"},
        config={"draw": draw},
        data={"cells": "md5"},
        predictions=predictions,
        metrics=metrics,
        id=f"{model}{draw}{labels}",
        seconds=1.0,
    )


def singles(draws=4, **given):
    """Rows of single models, as chapter 5's frame has them."""
    cells = list(product(range(draws), (ALL, QUARTER), MODELS))
    records = [record(model, draw, labels, **given) for draw, labels, model in cells]
    return grid_frame([SimpleNamespace(kind="classes")] * len(records), records)


@pytest.fixture(scope="module")
def runs():
    return results.with_fusions(singles(), SETTINGS)


def test_a_fusion_has_a_row_for_every_draw_and_rule(runs):
    assert len(runs) == 4 * 2 * (5 + 10 + 10 + 3)
    assert not runs.duplicated(["labels", "draw", "method"]).any()
    here = results.cell(runs, "cells", ALL)
    own = results.members({m: record(m, 2) for m in SOURCE_METHODS}, "cells")
    for rule, function in results.RULES.items():
        expected = fusion.mean_class_accuracy(function(own.test), own.test_labels)
        assert results.values(here, results.key(rule, SOURCE_METHODS))[2] == expected
    pair = fusion.product(own.take(("moco", "mae")).test)
    expected = evaluation.evaluate(pair, own.test_labels)
    row = here[(here["method"] == "product of moco x mae") & (here["draw"] == 2)].iloc[0]
    for metric in ("accuracy", MEAN, "calibration_error"):
        assert row[metric] == pytest.approx(expected[metric])
    assert row["recall_class_1"] == pytest.approx(
        (pair.argmax(1) == 1)[own.test_labels == 1].mean()
    )


def test_what_is_chosen_follows_from_validation_images_alone():
    own = results.members({m: record(m, 0) for m in SOURCE_METHODS}, "cells")
    scrambled = replace(own, test=np.roll(own.test, 1, axis=2))
    first, second = (
        {row["method"]: row for row in results._fusions(each, complete=True)}
        for each in (own, scrambled)
    )
    for name in (results.CHOSEN_MEMBER, results.CHOSEN_SUBSET, results.CHOSEN):
        assert first[name]["choice"] == second[name]["choice"]
        assert first[name]["accuracy"] != second[name]["accuracy"]
    named = dict(zip(own.names, own.valid, strict=True))
    truth = data.load("cells").valid.labels.numpy()

    def validated(names):
        return fusion.mean_class_accuracy(
            fusion.product(np.stack([named[m] for m in names])), truth
        )

    best = max(fusion.subsets(own.names), key=validated)
    assert first[results.CHOSEN_SUBSET]["choice"] == results.named(results.key("product", best))
    alone = max(named, key=lambda m: fusion.mean_class_accuracy(named[m], own.valid_labels))
    assert first[results.CHOSEN_MEMBER]["choice"] == results.named(alone)
    assert first[results.CHOSEN_MEMBER]["accuracy"] == record(alone, 0).metrics["accuracy"]


def test_temperatures_follow_from_validation_images_alone():
    sure = {m: record(m, 0, flat=0.3 * k) for k, m in enumerate(SOURCE_METHODS, start=1)}
    own = results.members(sure, "cells")
    warm, other = own.tempered(), replace(own, test=np.roll(own.test, 1, axis=2)).tempered()
    assert np.array_equal(warm.valid, other.valid)
    for k in range(len(own.names)):
        heat = fusion.temperature(own.valid[k], own.valid_labels)
        assert heat != pytest.approx(fusion.temperature(own.test[k], own.test_labels), rel=0.01)
        assert np.array_equal(warm.test[k], fusion.tempered(own.test[k], heat))


def test_members_that_are_all_alike_leave_the_first_alone():
    alike = record("moco", 0)
    own = results.members({m: alike for m in SOURCE_METHODS}, "cells")
    rows = {row["method"]: row for row in results._fusions(own, complete=True)}
    assert rows[results.CHOSEN_SUBSET]["choice"] == "SimCLR"
    assert rows[results.CHOSEN_SUBSET][MEAN] == pytest.approx(alike.metrics[MEAN])


def test_a_missing_member_leaves_the_fusions_without_it():
    short = singles(draws=1)
    short = short[~((short["method"] == "aim") & (short["labels"] == ALL))]
    found = results.with_fusions(short, SETTINGS)
    methods = set(results.cell(found, "cells", ALL)["method"])
    assert "product of simclr x moco x mae" in methods
    assert not any("aim" in method or "chosen" in method for method in methods)
    assert results.key("stacking", SOURCE_METHODS) in set(
        results.cell(found, "cells", QUARTER)["method"]
    )


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
                "predictions": {"valid": record("moco", 0).predictions["valid"]}
                | {"test": np.full((9, 4), 0.25)}
            },
            "^member moco has scored 9 images and there are 60 labels",
        ),
    ],
)
def test_a_member_of_other_images_is_refused_by_name(change, told):
    odd = SimpleNamespace(**vars(record("moco", 0)) | change)
    with pytest.raises(UserError, match=told):
        results.members({"simclr": record("simclr", 0), "moco": odd}, "cells")


def test_groups_of_seeds_are_independent_only_where_they_share_no_draw(runs):
    groups = results.seed_groups(runs, SETTINGS)
    here = groups[groups["labels"] == ALL]
    assert here["size"].value_counts().to_dict() == {2: 6, 3: 4, 4: 1}
    apart = here[here["disjoint"]]
    assert apart["group"].tolist() == [(0, 1), (2, 3), (0, 1, 2), (0, 1, 2, 3)]


def test_methods_and_seeds_fuse_the_very_same_models(runs):
    """A group by hand: draws 0 and 1."""
    group = results.seed_groups(runs, SETTINGS).iloc[0]
    assert group["group"] == (0, 1) and group["labels"] == ALL
    own = {d: results.members({m: record(m, d) for m in SOURCE_METHODS}, "cells") for d in (0, 1)}
    here = results.cell(runs, "cells", ALL)
    pairs = [
        results.values(here, results.key("product", p))
        for p in fusion.subsets(SOURCE_METHODS, 2)[:6]
    ]
    assert group["methods"] == pytest.approx(np.mean([each[d] for each in pairs for d in (0, 1)]))
    seeds = [results._product(np.stack([own[0].test[m], own[1].test[m]]), own[0]) for m in range(4)]
    assert group["seeds"] == pytest.approx(np.mean(seeds))
    known = [
        np.mean([fusion.mean_class_accuracy(own[d].valid[m], own[d].valid_labels) for d in (0, 1)])
        for m in range(4)
    ]
    assert group["best"] == seeds[int(np.argmax(known))]
    single = [results.values(here, m)[d] for m in SOURCE_METHODS for d in (0, 1)]
    assert group["one"] == pytest.approx(np.mean(single))
    assert 0 < group["supervised"] < 1


def test_a_group_that_lacks_a_supervised_run_says_so():
    short = singles(draws=2)
    short = short[~((short["method"] == results.SUPERVISED) & (short["draw"] == 1))]
    groups = results.seed_groups(short, SETTINGS)
    assert groups["supervised"].isna().all() and groups["seeds"].notna().all()


def test_every_pair_is_counted_once(runs):
    pairs = results.pairs(runs, SETTINGS)
    counts = pairs.groupby(["labels", "kind"]).size()
    assert counts[ALL, results.METHODS] == 6 * 4 and counts[ALL, results.SEEDS] == 6 * 4
    first = pairs.iloc[0]
    own = results.members({m: record(m, 0) for m in ("simclr", "moco")}, "cells")
    predicted = own.test.argmax(axis=2)
    assert first["disagreement"] == fusion.disagreement(*predicted)
    assert first["double_fault"] == fusion.double_fault(*predicted, own.test_labels)
    together = fusion.product(own.test).argmax(axis=1)
    gain = (together == own.test_labels).mean() - (predicted == own.test_labels).mean()
    assert first["gain"] == pytest.approx(gain)


# Verdicts


@pytest.fixture(autouse=True)
def official(monkeypatch):
    """The luck of a rebuild's test images would need recalls."""
    monkeypatch.setattr(claims, "split_variance", lambda *_: 0.0)


def as_printed(shift=None, n=5, noise=0.001):
    """Rows of draws around the source's own figures; ``shift``: method -> points added to it."""
    rows = []
    models = {method: (method, "fine-tuned") for method in SOURCE_METHODS}
    models |= {results.SUPERVISED: (results.SUPERVISED, "scratch")}
    models |= {ours: (theirs, "fine-tuned") for theirs, ours in claims.FUSIONS.items()}
    for dataset, labels in product(("bloodmnist", "dermamnist"), (ALL, QUARTER)):
        untried = {name: claims.ALL_FOUR for name in claims.UNTRIED}
        for method in (*models, *untried):
            for draw in range(n):
                row = {"dataset": dataset, "labels": labels, "method": method, "draw": draw}
                for metric in ("accuracy", MEAN):
                    name = models[untried.get(method, method)]
                    figure = show.printed(dataset, labels, *name, metric) / 100
                    step = 0.02 if method in untried else 0
                    row[metric] = figure + step + noise * (draw - n // 2) * (1 + len(method) / 50)
                    row[metric] += (shift or {}).get(method, 0) / 100
                rows.append(row)
    return pd.DataFrame(rows)


def verdicts_of(runs, budget="source"):
    rows = claims.rows(runs, Settings(budget=budget))
    return {row["claim"].id: row["verdict"].word for row in rows}


def test_the_sources_own_figures_confirm_its_claims():
    found = verdicts_of(as_printed())
    assert list(found) == [f"F{k}" for k in range(1, 7)]
    assert found.pop("F6") == "yes"
    assert set(found.values()) == {"holds"}


def test_at_the_reduced_budget_figures_are_not_scored_and_being_behind_is_a_bound():
    rows = {row["claim"].id: row for row in claims.rows(as_printed(), Settings())}
    assert rows["F4"]["verdict"].word == "undecided"
    assert "a bound only" in rows["F4"]["verdict"].reason
    assert rows["F2"]["verdict"].word == "holds"
    scored = {figure.key for figure in rows["F5"]["figures"] if figure.instead is None}
    assert scored == {"supervised"}


@pytest.mark.parametrize(
    ("shift", "name"),
    [
        ({claims.ALL_FOUR: -3}, "F1"),
        ({claims.TWO_CONTRASTIVE: +2}, "F2"),
        ({claims.TWO_TRANSFORMERS: -3}, "F3"),
        ({claims.ALL_FOUR: +3}, "F4"),
        ({"mae": -10}, "F5"),
        ({claims.UNTRIED[1]: -5}, "F6"),
    ],
)
def test_figures_the_other_way_refute_a_claim(shift, name):
    assert verdicts_of(as_printed(shift))[name] == ("no" if name == "F6" else "opposite")


def test_without_runs_every_claim_is_not_tested():
    nothing = results.with_fusions(grid_frame([], []), Settings())
    assert set(verdicts_of(nothing).values()) == {"not tested"}


def test_printed_figures_go_to_the_ledger_under_the_claims_own_names():
    for row in claims.rows(as_printed(), Settings()):
        keys = [figure.key for figure in row.get("figures", ())]
        assert keys == list(row["claim"].published or {})
        for figure in row.get("figures", ()):
            assert np.mean(figure.values) == pytest.approx(
                row["claim"].published[figure.key], abs=0.1
            )


# Tables and figures


def everything(runs, settings):
    groups, pairs = results.seed_groups(runs, settings), results.pairs(runs, settings)
    rows = claims.rows(runs, settings)
    texts = [show.summary(runs, rows, groups, settings)]
    for role in ("bloodmnist", "dermamnist"):
        for table in (show.report_table, show.recalls_table, show.rules_table, show.chosen_table):
            texts.append(str(table(runs, settings, role)))
    texts += [str(show.seeds_table(groups, settings)), str(show.diversity_table(pairs, settings))]
    shown = [
        show.printed_figure(runs, settings),
        show.differences_figure(runs, settings),
        show.growth_figure(runs, groups, settings),
        show.diversity_figure(pairs, settings),
    ]
    return texts, shown


def test_tables_and_figures_of_full_data(runs):
    texts, shown = everything(runs, replace(SETTINGS, seeds=4))
    assert not any("nan" in text for text in texts)
    # The generated cells have no printed figures; K = 2 has two groups, K = 4 one.
    assert "product of 4 methods" in texts[0] and "one group" in texts[0]
    assert "not run" not in "".join(texts[1:])
    assert len(shown[2].axes) == len(shown[3].axes) == 2
    seeds = [line for line in texts[-2].splitlines() if line.startswith("| cells, all")]
    assert [line.split("|")[3].strip() for line in seeds] == ["2", "1", "1"]
    # Two groups have no interval.
    assert not any("[" in line for line in seeds)


def test_tables_and_figures_without_runs_say_so():
    settings = replace(SETTINGS, minutes=0.0)
    texts, shown = everything(results.with_fusions(grid_frame([], []), settings), settings)
    assert all("not run" in text for text in texts)
    assert all(figure.axes[0].texts[0].get_text() == "not run" for figure in shown)


def test_more_models_than_draws_are_not_compared(runs):
    short = runs[runs["draw"] < 3]
    text = str(show.seeds_table(results.seed_groups(short, SETTINGS), SETTINGS))
    line = next(line for line in text.splitlines() if line.startswith("| cells, all | 4"))
    assert "not run" in line and "| 0 |" in line


# The plan


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blood", "cifar"),
        ("store", "elsewhere"),
        ("minutes", "ten"),
        ("minutes", float("nan")),
        ("minutes", float("inf")),
        ("seeds", 1.5),
        ("seeds", 0),
        ("epochs", 0),
        ("methods", "simclr"),
        ("methods", ["simclr", "rotation"]),
        ("methods", ["simclr"]),
        ("methods", ["simclr", "simclr"]),
    ],
)
def test_settings_refuse_what_cannot_be_by_name(key, value):
    with pytest.raises(UserError, match=f"^{key} is "):
        Settings(**{key: value})


def test_the_full_profile_is_the_default_and_every_run_is_one_of_chapter_five():
    assert Settings(**notebooks.parameters("fusion", "full")) == Settings()
    theirs = ssl_medmnist.Settings(**notebooks.parameters("ssl-medmnist", "full"))
    with data.as_in_the_book():
        known = {run.id for run in ssl_medmnist.plan(theirs)}
        own = planning.plan(Settings())
        assert len(own) == 3 * 2 * 2 * 5
        assert {run.id for run in own} <= known
    assert all(run.probabilities for run in own)
    assert planning.store(Settings()).folder == ssl_medmnist.store(theirs).folder


def test_the_quick_profile_shares_runs_with_chapter_fives():
    own, theirs = (
        chapters.load(name).plan(
            chapters.load(name).Settings(**notebooks.parameters(name, "quick"))
        )
        for name in ("fusion", grid.NAME)
    )
    shared = set(own) & set(theirs)
    assert {run.cell()["method"] for run in shared} == {"supervised", "simclr"}


def test_the_summary_does_not_repeat_chapter_fives_rows():
    assert summary.rows("fusion") == []


def test_the_full_profile_starts_no_run_by_itself(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))

    def refuse(*given, **named):
        raise AssertionError("a run was started")

    monkeypatch.setattr(results, "run_all", refuse)
    assert len(results.measure(replace(SETTINGS, minutes=0.0))) == 0
    with pytest.raises(AssertionError, match="a run was started"):
        results.measure(SETTINGS)
