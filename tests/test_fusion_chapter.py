"""Chapter 6: its plan, what its notebook prints, and its verdicts."""

import ast
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up import METHODS, SUPERVISED, claims_of, models, words

from fewlabels import chapters, data
from fewlabels import evidence as ev
from fewlabels.book import summary
from fewlabels.chapters import fusion as chapter
from fewlabels.chapters import profiles, ssl_medmnist
from fewlabels.errors import UserError
from fewlabels.evidence import figures, fused
from fewlabels.reference import published

NOTEBOOK = chapters.notebook(chapter.NAME)
MEAN = "mean_class_accuracy"
ALL, QUARTER = "100%", "25%"
TWO_CONTRASTIVE, TWO_TRANSFORMERS, ALL_FOUR = (
    fused.key("product", names) for names in (("simclr", "moco"), ("aim", "mae"), METHODS)
)
UNTRIED = [fused.key(rule, METHODS) for rule in ("most confident", "stacking")]


# The plan


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("minutes", "ten"),
        ("minutes", float("nan")),
        ("minutes", float("inf")),
        ("seeds", 1.5),
        ("seeds", 0),
        ("epochs", 0),
        ("methods", "simclr"),
        ("methods", ["simclr", "rotation"]),
        ("methods", ["simclr"]),
        ("methods", []),
        ("methods", ["simclr", "simclr"]),
    ],
)
def test_settings_refuse_what_cannot_be_by_name(key, value):
    with pytest.raises(UserError, match=f"^{key} is "):
        profiles.settings(chapter.NAME, **{key: value})


@pytest.mark.parametrize("budget", ["reduced", "source"])
def test_every_run_is_one_of_chapter_five(budget):
    own, theirs = (
        profiles.settings(name, budget=budget) for name in (chapter.NAME, ssl_medmnist.NAME)
    )
    with data.as_in_the_book():
        known = {run.id for run in ssl_medmnist.plan(theirs)}
        planned = chapter.plan(own)
        assert len(planned) == 3 * 2 * 2 * 5
        assert {run.id for run in planned} <= known
    assert all(run.probabilities for run in planned)
    assert {run.protocol for run in planned} == {"report", own.grid}
    assert chapter.store(own).folder == ssl_medmnist.store(theirs).folder


def test_the_quick_profile_shares_runs_with_chapter_fives():
    own, theirs = (
        chapters.load(name).plan(profiles.settings(name, "quick"))
        for name in (chapter.NAME, ssl_medmnist.NAME)
    )
    assert {run.cell()["method"] for run in {*own} & {*theirs}} == {SUPERVISED, "simclr"}


def test_the_summary_does_not_repeat_chapter_fives_rows():
    assert summary.rows(chapter.NAME) == []


def test_no_run_is_started_without_minutes(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))

    def refuse(*given, **named):
        raise AssertionError("a run was started")

    monkeypatch.setattr(import_module("fewlabels.evidence.frame"), "run_all", refuse)
    assert profiles.settings(chapter.NAME).minutes == 0
    smoke = profiles.settings(chapter.NAME, "smoke", minutes=0.0)
    assert ev.done(ev.runs(chapter, smoke)).empty
    with pytest.raises(AssertionError, match="a run was started"):
        ev.runs(chapter, replace(smoke, minutes=-1.0))


# Verdicts


def as_printed(shift=None, n=5, noise=0.001):
    """Rows of draws around the source's own figures; ``shift``: method -> points added to it."""
    table = published.ssl_medmnist().set_index(["dataset", "labels", "method", "metric"])
    table = table[table["backbone"] != "frozen"]["value_percent"] / 100
    names = {each: each for each in (SUPERVISED, *METHODS)}
    names |= {TWO_CONTRASTIVE: "fusion-simclr-moco", TWO_TRANSFORMERS: "fusion-aim-mae"}
    names |= dict.fromkeys([ALL_FOUR, *UNTRIED], "fusion-all")
    rows = []
    for dataset, (labels, share), (method, theirs), draw in product(
        ("bloodmnist", "dermamnist"),
        ((ALL, "full"), (QUARTER, "quarter")),
        names.items(),
        range(n),
    ):
        row = {"dataset": dataset, "labels": labels, "method": method, "draw": draw}
        row |= {"name": method, "luck": None, "overlap": None, "record": fused.Made(method)}
        for metric in ("accuracy", MEAN):
            step = 0.02 if method in UNTRIED else 0
            row[metric] = table[dataset, share, theirs, metric] + step
            row[metric] += noise * (draw - n // 2) * (1 + len(method) / 50)
            row[metric] += (shift or {}).get(method, 0) / 100
        rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture
def claims(monkeypatch):
    monkeypatch.setattr(fused, "with_fusions", lambda rows, methods: rows)
    return partial(claims_of, monkeypatch, chapter.NAME)


def test_the_sources_own_figures_confirm_its_claims(claims):
    found = words(claims(as_printed(), budget="source"))
    assert list(found) == [f"F{k}" for k in range(1, 22)]
    assert found.pop("F6") == "yes"
    # These rows have no recalls, and the source has no product of three.
    open_ = ("F12", "F13", "F15", "F19", "F20", "F21")
    assert {found.pop(name) for name in open_} == {"not tested"}
    # Its table contradicts F16: 5.58 points are not above 5.59. Parts of F17 are open.
    assert (found.pop("F16"), found.pop("F17")) == ("opposite", "undecided")
    assert set(found.values()) == {"holds"}


def test_at_the_reduced_budget_figures_are_not_scored_and_being_behind_is_a_bound(claims):
    rows = claims(as_printed())
    assert rows["F4"]["verdict"].word == "undecided"
    assert "a bound only" in rows["F4"]["verdict"].reason
    assert "product of all four against supervised, accuracy" in rows["F4"]["verdict"].reason
    assert rows["F2"]["verdict"].word == "holds"
    scored = {figure.key for figure in rows["F5"]["figures"] if figure.instead is None}
    assert scored == {SUPERVISED}
    assert {row["protocol"] for row in rows.values()} == {"reduced"}
    assert "25 epochs of pretraining" in rows["F1"]["deviation"]


@pytest.mark.parametrize(
    ("shift", "name"),
    [
        ({ALL_FOUR: -3}, "F1"),
        ({TWO_CONTRASTIVE: +2}, "F2"),
        ({TWO_TRANSFORMERS: -3}, "F3"),
        ({ALL_FOUR: +3}, "F4"),
        ({"mae": -10}, "F5"),
        ({UNTRIED[1]: -5}, "F6"),
        ({"simclr": +3}, "F14"),
        ({ALL_FOUR: -3}, "F18"),
    ],
)
def test_figures_the_other_way_refute_a_claim(claims, shift, name):
    refuted = "no" if name == "F6" else "opposite"
    assert words(claims(as_printed(shift), budget="source"))[name] == refuted


def test_without_runs_every_claim_is_not_tested(claims):
    rows = claims(as_printed().assign(record=None, accuracy=np.nan, mean_class_accuracy=np.nan))
    assert set(words(rows).values()) == {"not tested"}
    assert all(row["ours"] is None for row in rows.values())


def test_printed_figures_go_to_the_ledger_under_the_claims_own_names(claims):
    for row in claims(as_printed(), budget="source").values():
        figures = row.get("figures", ())
        assert [figure.key for figure in figures] == [*(row["claim"].published or {})]
        for figure in figures:
            expected = row["claim"].published[figure.key]
            assert np.mean(figure.values) == pytest.approx(expected, abs=0.1)


# Tables and figures


def shown(single, monkeypatch, **values):
    """What every cell of the notebook shows, of these models on the generated cells."""
    monkeypatch.setattr(ev, "runs", lambda *_: single)
    names, found = {}, []
    values = profiles.parameters(chapter.NAME, "smoke") | {"store": "results"} | values
    for cell in profiles.cells(NOTEBOOK):
        if cell["cell_type"] == "code":
            tree = ast.parse(cell["source"])
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, NOTEBOOK.name, "exec"), names)
            names |= values if "parameters" in profiles.tags(cell) else {}
            if last:
                found.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    tables = {each.label: str(each) for each in found if hasattr(each, "label")}
    drawn = [each for each in found if hasattr(each, "axes")]
    absent = [each.words for each in found if isinstance(each, figures.Absent)]
    text = "\n".join(each.data for each in found if hasattr(each, "data"))
    return SimpleNamespace(text=text, tables=tables, figures=drawn, absent=absent)


def test_tables_and_figures_of_full_data(monkeypatch):
    found = shown(models(draws=4), monkeypatch, seeds=4)
    # F20 and F21 have their reasons in the register.
    assert found.tables.pop("tbl-fusion-claims").count("not run") == 2
    everything = "".join(found.tables.values()) + found.text
    assert "nan" not in everything and "not run" not in everything
    # In the answer and in the takeaways; one data set plays both parts here.
    assert " ".join(found.text.split()).count("1 group of draws, so no interval)") == 2
    assert [len(figure.axes) for figure in found.figures[-2:]] == [2, 2]
    # K = 2 has two groups, K = 3 and 4 one each: no interval.
    lines = [x for x in found.tables["tbl-fusion-seeds"].splitlines() if "all labels" in x]
    assert [line.split("|")[4].strip() for line in lines] == ["2", "1", "1"]
    assert not any("[" in line for line in lines)


def test_tables_and_figures_without_runs_say_so(monkeypatch):
    nothing = models(draws=2).drop(columns=["accuracy", MEAN]).assign(record=None)
    found = shown(nothing, monkeypatch)
    assert "no cell has three draws of every method yet" in found.text
    assert "not run" not in found.text and "nan" not in found.text and "0 of 0" not in found.text
    assert all("not run" in table.lower() for table in found.tables.values())
    # Claims of which nothing was run share a line below a figure that has no axes then.
    (glance,) = found.figures
    assert "Not run" in " ".join(text.get_text() for text in glance.texts)
    assert len(found.absent) == 4 and all(words.startswith("Not run: ") for words in found.absent)


def test_two_methods_have_their_answer_before_all_four(monkeypatch):
    some = models(draws=3)
    some.loc[some["method"].isin(["aim", "mae"]), "record"] = None
    found = shown(some, monkeypatch, seeds=3)
    answer = "Multiplying the probabilities of SimCLR and MoCo is clearly better than MoCo"
    assert answer in found.text
    assert "Whether fusing all methods helps is open" in found.text
    first = found.figures[0].axes[0]
    labels = [" ".join(tick.get_text().split()) for tick in first.get_yticklabels()]
    assert labels and all("MoCo minus MoCo" in label for label in labels)


def test_more_models_than_draws_are_not_compared_and_a_lost_run_leaves_the_rest(monkeypatch):
    some = models(draws=3)
    some.loc[(some["method"] == "aim") & (some["draw"] == 2), "record"] = None
    found = shown(some, monkeypatch, seeds=3)
    lines = found.tables["tbl-fusion-seeds"].split("\n")
    (missing,) = [line for line in lines if line.startswith("Not run: ")]
    assert "4" in missing.split(" · ")[-1]
    assert not [
        line for line in lines if line.startswith("|") and line.split("|")[3].strip() == "4"
    ]
    rules = found.tables["tbl-fusion-rules-blood"]
    assert "not run" not in rules and "| 2 |" in " ".join(rules.split())
