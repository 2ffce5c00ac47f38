from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import toy_run

from fewlabels import evidence as ev
from fewlabels import paths
from fewlabels.errors import UserError
from fewlabels.evidence import tables
from fewlabels.evidence.compare import Comparisons
from fewlabels.evidence.statistics import PairedDifference
from fewlabels.runs.records import Store


def made(**columns) -> pd.DataFrame:
    """Rows of runs that have been made, of one cell unless said."""
    count = len(next(iter(columns.values())))
    usual = {"name": "a", "kind": "toy", "draw": range(count), "luck": None, "overlap": None}
    usual["record"] = [SimpleNamespace(id=str(i)) for i in range(count)]
    return pd.DataFrame(usual | columns, index=range(count))


@pytest.fixture
def rows(record):
    """Three planned runs of the toy chapter, two of them made: accuracies 0.5 and 0.6."""
    record(toy_run(0), toy_run(1))
    found = ev.frame([toy_run(draw) for draw in range(3)], Store(paths.RESULTS / "toy"))
    found.attrs["chapter"] = "toy"
    return found


def test_every_planned_run_has_a_row_and_what_was_measured_where_it_was(rows):
    assert list(rows["draw"]) == [0, 1, 2]
    assert list(rows["name"]) == ["guess"] * 3
    assert rows["accuracy"].tolist()[:2] == [0.5, 0.6] and np.isnan(rows["accuracy"][2])
    assert len(ev.done(rows)) == 2


def test_a_name_that_no_planned_run_has_is_refused_with_those_there_are(rows):
    assert len(ev.where(rows, name="guess", draw=[0, 2])) == 2
    with pytest.raises(UserError, match="no planned run has name 'gues'; there is guess"):
        ev.where(rows, name="gues")
    with pytest.raises(UserError, match="no run has 'nam'; there is name"):
        ev.where(rows, nam="guess")
    # Cut to nothing by what comes before, the name is still known.
    assert ev.where(rows.iloc[:0], name="guess").empty


def test_a_metric_may_not_take_the_name_of_what_was_planned(record, monkeypatch):
    run = toy_run(0)
    record(run)
    monkeypatch.setattr(type(run), "cell", lambda self: {"accuracy": "a column already"})
    with pytest.raises(UserError, match="measures accuracy, which is a column already"):
        ev.frame([run], Store(paths.RESULTS / "toy"))


def test_runs_that_start_from_one_network_count_once():
    found = made(accuracy=[0.1, 0.3, 0.5, 0.7, 0.6, 0.8], luck=["x", "x", "y", "y", "z", "z"])
    interval = ev.mean(found, "accuracy")
    assert interval.n == 3
    # Means of 0.2, 0.6 and 0.7: deviation 0.264575, t of two degrees of freedom 4.302653.
    assert interval.mean == pytest.approx(0.5)
    assert interval.high - interval.mean == pytest.approx(4.302653 * 0.264575 / 3**0.5, rel=1e-5)


def test_splits_that_share_images_get_their_own_interval():
    plain = made(accuracy=[0.7, 0.8, 0.9])
    shared = plain.assign(overlap=1.0)
    one, other = ev.fraction(plain), ev.fraction(shared)
    assert other.low < one.low < one.high < other.high
    gain = [ev.difference(r.assign(accuracy=[0.8, 0.9, 0.99]), r) for r in (plain, shared)]
    # The variance is (1/3 + 1) s2 in place of s2 / 3.
    assert gain[1].error == pytest.approx(2 * gain[0].error)


def test_a_difference_pairs_the_draws_that_both_have():
    a = made(accuracy=[0.9, 0.7, 0.8, 0.5], draw=[3, 1, 2, 9])
    b = made(accuracy=[0.6, 0.6, 0.6], draw=[1, 2, 3], luck=["x", "y", "z"])
    found = ev.difference(a, b)
    assert found.n == 3 and found.mean == pytest.approx((0.1 + 0.2 + 0.3) / 3)
    assert ev.pairs(a, b)["luck"].nunique() == 3
    # Draws 2 and 3 share a network on one side, 1 and 2 on the other: all three share luck.
    chained = ev.difference(a.assign(luck=["p", "q", "p", None]), b.assign(luck=["z", "z", "y"]))
    assert chained.n == 1
    with pytest.raises(UserError, match="two runs of one draw"):
        ev.difference(pd.concat([a, a]), b)


def test_means_by_group_are_of_fractions_or_of_any_unit():
    found = made(error=[10.0, 20.0, 60.0], name=["a", "a", "b"])
    assert ev.means(found, "name", "error", of=ev.mean)["mean"].tolist() == [15, 60]
    with pytest.raises(UserError, match=r"outside 0\.\.1"):
        ev.means(found, "name", "error")


def test_what_was_not_run_prints_so(rows):
    nothing = rows[rows["record"].isna()]
    assert ev.fraction(nothing).n == 0 and ev.difference(nothing, rows).n == 0
    shown = ev.table(
        nothing,
        {"Method": "name"},
        {"n": ev.count(), "%": ev.percent(), "s": ev.median("seconds"), "Source": ev.beside({})},
        "tbl-x",
        "Nothing yet.",
    )
    assert str(shown) == "::: {#tbl-x}\n\nNot run: guess.\n\nNothing yet.\n\n:::\n"


def test_a_claim_about_nothing_says_that_it_was_not_run(rows):
    nothing = rows.assign(epoch=np.nan)
    row = ev.printed_number("R9", nothing, "epoch", "epoch", "epoch")
    assert row["ours"] is None and row["n"] == 0 and row["verdict"].word == "not tested"
    shown = ev.claims_table([row], "tbl-x", "Cap.").frame
    assert shown["Ours"].item() == "not run"


def test_a_metric_that_the_runs_do_not_have_is_refused(rows):
    with pytest.raises(UserError, match="no run measures 'acuracy'"):
        ev.fraction(rows, "acuracy")


def test_a_table_has_a_row_a_group_in_the_order_asked_for():
    found = made(accuracy=[0.2, 0.4, 0.9], name=["a", "a", "b"], labels=[10, 10, 20], seconds=1.0)
    by, columns = {"Method": "name", "Labels": "labels"}, {"n": ev.count(), "%": ev.percent()}
    shown = ev.table(found, by, columns, "tbl-x", "Cap.", order="accuracy")
    assert shown.frame["Method"].tolist() == ["b", "a"]
    shown = ev.table(
        found,
        {"Method": "name"},
        columns | {"of 10": ev.count(labels=10), "Source": ev.beside({"b": 91})},
        "tbl-x",
        "Cap.",
        pick={"a": "first", "b": "second"},
        above=[{"Method": "the source", "%": "90"}],
    )
    assert shown.frame["Method"].tolist() == ["the source", "first", "second"]
    assert shown.frame["of 10"].tolist() == ["\N{EN DASH}", "2", "0"]
    assert shown.frame["Source"].tolist() == ["\N{EN DASH}"] * 2 + ["91"]


def test_whole_numbers_and_booleans_head_a_row_as_they_fill_a_cell():
    found = made(accuracy=[0.2, 0.4], images=[1000, 60000], trained=[True, False], size=2500.0)
    by = {"Images": "images", "Trained": "trained"}
    columns = {"Parameters": ev.value("size", decimals=0), "MB": ev.value("size", 1e-3)}
    shown = ev.table(found, by, columns, "tbl-x", "Cap.").frame
    assert shown.iloc[0].tolist() == ["1,000", "yes", "2,500", "2.5"]
    assert shown.iloc[1].tolist() == ["60,000", "no", "2,500", "2.5"]


def test_a_column_counts_what_its_interval_counts():
    found = made(accuracy=[0.2, 0.4, 0.9], luck=["x", "x", "y"])
    columns = {"runs": ev.count(), "n": ev.units(), "of draw 1": ev.units(draw=1)}
    shown = ev.table(found, {"Method": "name"}, columns, "tbl-x", "Cap.")
    assert list(shown.frame.iloc[0]) == ["a", "3", "2", "1"]


def test_a_dash_stands_where_no_such_run_is_missing():
    known = {"labels": [10, 10, 20], "record": [object(), object(), None]}
    found = made(accuracy=[0.9, 0.8, np.nan], name=["a", "b", "b"], **known)
    columns = {"10": ev.percent(labels=10), "20": ev.percent(labels=20)}
    shown = ev.table(found, {"Method": "name"}, columns, "tbl-x", "Cap.").frame
    assert shown["20"].tolist() == ["\N{EN DASH}", "not run"]
    for cell in (ev.number("accuracy", labels=20), ev.value("accuracy", labels=20)):
        assert cell(found[:1], ()) == "\N{EN DASH}" and cell(found[1:], ()) == "not run"


def test_a_readers_runs_stand_beside_the_books_and_in_the_book_there_is_nothing(rows):
    by, caption = {"Method": "name"}, "Yours and the book's."
    book = SimpleNamespace(store="results")
    assert ev.beside_the_book(rows, book, by, "tbl-x", caption) is None
    yours = SimpleNamespace(store="cache")
    shown = ev.beside_the_book(rows[:1], yours, by, "tbl-x", caption, labels=100).frame
    assert shown.columns.tolist() == ["Method", "n", "Your run", "Book's n", "The book"]
    # The toy book has two of its two runs: accuracies 0.5 and 0.6.
    assert list(shown.iloc[0]) == ["guess", "1", "50.0 (one run)", "2", "55.0 (two runs)"]
    assert ev.beside_the_book(rows[:0], yours, by, "tbl-x", caption) is None


def test_what_a_notebook_has_added_is_added_to_the_books_runs(rows):
    def named(found):
        return found.assign(shown="guess of " + found["labels"].astype(str))

    by, settings = {"Method": "shown"}, SimpleNamespace(store="cache")
    given = ev.beside_the_book(named(rows), settings, by, "tbl-x", "Cap.", cut=named).frame
    assert list(given.iloc[0]) == ["guess of 100", "2", "55.0 (two runs)", "2", "55.0 (two runs)"]


def test_means_in_any_unit_by_group_and_a_number_without_its_interval():
    found = made(psnr=[17.0, 18.0, 19.0, 11.0], name=["a", "a", "a", "b"])
    a, b = ev.means(found, "name", "psnr", ev.mean).to_dict("records")
    assert (a["name"], a["mean"], a["n"]) == ("a", 18, 3)
    # s = 1; Student's quantile for two degrees of freedom is 4.3027.
    assert a["high"] - a["mean"] == pytest.approx(4.302653 / 3**0.5, rel=1e-5)
    assert b["n"] == 1 and np.isnan(b["low"])
    assert ev.number("psnr", 2, interval=False)(found, ()) == "16.25"
    assert ev.number("psnr", 0, scale=10, interval=False)(found[:3], ()) == "180"


def test_counts_stay_whole_and_a_run_without_one_gets_a_dash():
    found = made(name=["a", "b", "b"], parameters_total=[1200.0, np.nan, np.nan], loss=[0.5, 1, 2])
    columns = {"All": ev.value("parameters_total"), "Loss": ev.number("loss", 2, interval=False)}
    shown = ev.table(found, {"Method": "name"}, columns, "tbl-x", "Cap.")
    assert shown.frame["All"].tolist() == ["1,200", "\N{EN DASH}"]
    assert shown.frame["Loss"].tolist() == ["0.50", "1.50"]


def test_a_table_without_any_planned_run_says_so(rows):
    shown = ev.table(rows.iloc[:0], {"Method": "name"}, {"n": ev.count()}, "tbl-x", "Cap.")
    assert shown.frame.iloc[0].tolist() == ["no run is planned with these settings", "\N{EN DASH}"]


def test_groups_that_were_not_run_are_named_below():
    names = ["a", *"bcdefg"]
    known = {"name": names, "labels": [10] * 6 + [20], "record": [object(), *[None] * 6]}
    found = made(accuracy=[0.9, *[np.nan] * 6], **known)
    columns = {"n": ev.count(), "Source": ev.beside({("g", 20): 91}), "%": ev.percent()}

    def methods(picked):
        by = {"Method": "name", "Labels": "labels"}
        return ev.table(found[found["name"].isin([*picked])], by, columns, "tbl-x", "Cap.")

    some = methods(names)
    # A printed figure is something to say.
    assert some.frame["Method"].tolist() == ["a", "g"]
    assert some.below == "Not run: b, c, d, e, f · Labels = 10."
    assert methods("a").below == ""
    none = methods("bc")
    assert none.frame.empty and "Not run: b, c · Labels = 10." in str(none) and "|" not in str(none)


def test_what_predictions_say():
    truth = np.array([0, 0, 1, 1])
    record = SimpleNamespace(id="1", predictions={"classes": np.array([0, 1, 1, 1])}, curves={})
    found = made(accuracy=[0.75], record=[record])
    assert ev.recalls(found, truth, ["zero", "one"])[["zero", "one"]].values.tolist() == [[0.5, 1]]
    assert ev.confused(found, truth, 0, 1).tolist() == [0.25]
    # Where every run is tested on other images, the classes are given by draw.
    assert ev.right(found, {0: truth})[0].tolist() == [True, False, True, True]
    by_draw = ev.recalls(found, {0: 1 - truth}, ["zero", "one"])
    assert by_draw[["zero", "one"]].values.tolist() == [[0, 0.5]]
    probabilities = SimpleNamespace(predictions={"test": np.array([[0.4, 0.6], [0.9, 0.1]])})
    assert ev.classes(probabilities).tolist() == [1, 0]


def test_curves_over_steps_and_over_the_share_of_the_training():
    record = SimpleNamespace(id="r", curves={"step": [5.0, 10.0], "loss": [2.0, 1.0]})
    found = made(accuracy=[1.0], record=[record])
    assert ev.curves(found, {"loss": "training"})["epoch"].tolist() == [5, 10]
    share = ev.curves(found, {"loss": "training"}, "panel", scale=None)
    assert share["epoch"].tolist() == [50, 100] and set(share["panel"]) == {"panel"}
    assert set(share["luck"]) == {"r"}
    assert ev.curve(found, "loss").tolist() == [[2, 1]] and len(ev.curve(found[:0], "loss")) == 0
    shared = ev.curves(found.assign(luck="network"), {"loss": "training"})
    assert set(shared["luck"]) == {"network"}
    nothing = ev.curves(found[:0], {"loss": "training"})
    assert pd.concat([nothing, shared])["value"].dtype == float


def test_comparisons_that_were_not_run_are_named_below(rows):
    one = made(accuracy=[0.7, 0.8, 0.9])
    pairs = {"a - b": (one, one.assign(accuracy=0.5))}
    idle = {f"set {k}: {words}": (rows[2:], rows) for k in (1, 2) for words in ("c - d", "e - f")}
    found = ev.versus(pairs | idle)
    shown = found.table("tbl-x", "{count} comparison.")
    assert shown.frame["Comparison"].tolist() == ["a - b"]
    assert shown.below == "Not run: set 1, set 2 · c - d, e - f."
    assert shown.caption == "1 comparison."
    assert len(found.figure().axes) == 1
    nothing = ev.versus(idle)
    assert nothing.figure()._repr_markdown_() == shown.below
    assert nothing.table("tbl-x", "{count} comparisons.").frame.empty


def test_a_claim_that_the_settings_leave_no_part_is_not_tested():
    row = ev.compared("S33", [])
    assert row["verdict"].word == "not tested" and row["ours"] is None
    assert row["note"] == "These settings plan no part of it."


def test_cuts_below_each_other_keep_their_names(rows):
    found = ev.named({"first": ev.where(rows, draw=0), "both": ev.where(rows, draw=[0, 1])})
    assert found["model"].tolist() == ["first", "both", "both"]
    # A column that a notebook has added is no plan: nothing is refused in it.
    assert ev.where(found, model="third").empty
    with pytest.raises(UserError, match="no planned run has name"):
        ev.where(found, name="gues")


def test_how_many_runs_of_those_that_were_made(rows):
    learned = rows.assign(learned=[True, False, True])
    table = ev.table(learned, {"M": "name"}, {"n": ev.share(learned=True)}, "tbl-x", "Cap.")
    assert table.frame["n"].tolist() == ["1 of 2"]
    table = ev.table(rows, {"M": "name"}, {"n": ev.share(name="guess")}, "tbl-x", "Cap.")
    assert table.frame["n"].tolist() == ["2"]


def test_accuracy_on_some_of_the_images_and_class_by_class():
    truth = np.array([0, 0, 1, 1])
    # The probability of the second of two classes.
    record = SimpleNamespace(predictions={"test": np.array([0.1, 0.9, 0.6, 0.5])})
    assert ev.classes(record).tolist() == [0, 1, 1, 0]
    found = ev.hits(made(record=[record]), truth, {"ends": [0, 3], "middle": [1, 2], "none": []})
    assert found["ends"].tolist() == found["middle"].tolist() == [0.5]
    assert found["none"].isna().all()
    each = ev.by_class(made(record=[record]), truth, ["a", "b"])
    assert each["class"].tolist() == ["a", "b"] and each["support"].tolist() == [2, 2]
    assert each[["precision", "recall", "f1"]].to_numpy() == pytest.approx(0.5)
    assert ev.by_class(made(record=[None]), truth, ["a", "b"]).empty


def test_a_rerun_names_its_models_as_the_book_does(rows):
    def cut(runs):
        return ev.named({"first": ev.where(runs, draw=0), "both": ev.where(runs, draw=[0, 1])})

    yours = SimpleNamespace(store="cache")
    found = ev.beside_the_book(rows[:1], yours, {"M": "model"}, "tbl-x", "Cap.", cut=cut).frame
    assert found["M"].tolist() == ["first", "both"]
    assert found["Your run"].tolist() == ["50.0 (one run)"] * 2
    assert found["The book"].tolist() == ["50.0 (one run)", "55.0 (two runs)"]


def test_figures_of_two_classes():
    truth = np.array([0, 0, 1, 1] * 5)
    p = np.array([0.1, 0.7, 0.6, 0.9] * 5)
    record = SimpleNamespace(predictions={"test": p})
    found = made(record=[record, record], calibration_error=[0.1, 0.2])
    models = {"a": found, "none": found.iloc[:0]}
    first, nothing = ev.confusions(models, truth, ["no", "yes"]).axes
    assert {text.get_text() for text in first.texts} == {"50%\n5", "0%\n0", "100%\n10"}
    assert {text.get_text() for text in nothing.texts} == {"not run"}
    roc, rates = ev.rates(models, truth, "no", "yes", each=1).axes
    # One run: its curve and the dot of the usual threshold, at half of the negatives and all found.
    assert len(roc.lines) == 2 and len(rates.lines) == 1
    assert roc.lines[1].get_xydata().tolist() == [[50, 100]]
    _, curve, empty = ev.calibration(models, truth, "yes").axes[0].lines
    assert curve.get_xdata().tolist() == pytest.approx([10, 60, 70, 90])
    assert curve.get_ydata().tolist() == [0, 100, 0, 100]
    assert curve.get_label().startswith("a: calibration error 15.0 (two runs)% (n = 2)")
    assert not len(empty.get_xdata())


def test_dots_and_maps():
    one, other = ev.fraction(made(x=[0.2, 0.3, 0.4]), "x"), ev.fraction(made(x=[0.9]), "x")
    ax = ev.dots([("a", {"test": one, "valid": other}), ("b", {"test": other})], "x, %").axes[0]
    assert [line.get_xdata()[0] for line in ax.lines[1::2]] == pytest.approx([30, 90, 90])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    images, maps = np.zeros((2, 8, 8), np.uint8), np.ones((2, 2, 2), np.uint8)
    fig = ev.overlaid(images, maps, ["right", "wrong"], [True, False], columns=2)
    assert [ax.get_title() for ax in fig.axes] == ["right", "wrong"]
    assert [ax.title.get_fontweight() for ax in fig.axes] == ["normal", "bold"]
    assert fig.axes[0].images[1].get_array().shape == (8, 8)


def test_classes_of_a_group_are_mixed_up_more_often_than_others_by_hand():
    truth = np.array([0, 0, 1, 1, 2, 2])
    found = ev.mixed_up(
        made(
            record=[
                SimpleNamespace(predictions={"classes": np.array(each)})
                for each in ([0, 1, 1, 1, 2, 0], [0, 0, 1, 1, 2, 2])
            ]
        ),
        truth,
        [0, 1],
    )
    # 0 to 1: half, 1 to 0: none. Of the other four pairs 2 to 0 alone: half.
    assert found["mixed_up"].tolist() == [pytest.approx(1 / 4 - 1 / 8), 0]
    rows = made(record=[None])
    assert ev.mixed_up(rows, truth, [0, 1]).empty


def test_the_variance_of_other_test_images_by_hand():
    rows = made(recall_class_0=[0.4, 0.6], recall_class_1=[0.8, 0.8])
    truth = np.array([0, 0, 0, 1])
    # Three images right with 0.5 and one with 0.8, each a quarter of the accuracy.
    by_image = 2 * (3 * 0.5 * 0.5 + 0.8 * 0.2) / 4**2
    assert ev.split_variance(rows, truth) == pytest.approx(by_image)
    # The mean of 0.5 and 0.8, each half of the mean class accuracy.
    by_class = 2 * (0.5 * 0.5 / 3 + 0.8 * 0.2 / 1) / 2**2
    assert ev.split_variance(rows, truth, "mean_class_accuracy") == pytest.approx(by_class)
    assert ev.split_variance(rows.assign(record=None), truth) == 0


def test_a_span_names_both_ends_and_one_where_they_are_equal():
    low, high, absent = (
        PairedDifference(mean, 0.01, 2, n, "") for mean, n in ((-0.006, 3), (0.02, 3), (9, 0))
    )
    minus = "\N{MINUS SIGN}"
    assert ev.span([high, low, absent]) == f"{minus}0.6 to +2.0 points"
    assert ev.span([low, absent], "points more") == f"{minus}0.6 points more"
    assert ev.span([absent]) == "not run"


def test_a_caption_counts_the_comparisons_that_have_a_p_value():
    twenty, two = (PairedDifference(0.02, 0.008, n - 1, n, "by hand") for n in (20, 2))
    found = Comparisons(tables.compared({"a": twenty, "b": two}), ())
    assert "over 1 comparison" in str(
        found.table("tbl-toy", "Holm's correction over {count} comparisons.")
    )


def test_the_lowest_class_is_of_networks_and_its_figure_of_single_runs():
    recalls = pd.DataFrame({"5": [0.5, 0.7, 0.4, 0.6, 0.45, 0.65], "8": [0.7] * 6})
    row = ev.lowest("R6", recalls, "5", shared=["a", "a", "b", "b", "c", "c"])
    assert row["ours"].n == 3 and "lowest in 3 of 3 networks" in row["note"]
    (figure,) = row["figures"]
    # The means of networks lie 5 points apart, runs of one network 14: a single run scatters by
    # 25 + 200 / 2, the mean by 25 / 3; times t of two degrees, and half a point of rounding.
    beyond = figure.against(50).contradicted_beyond(1)
    assert beyond == pytest.approx(4.303 * (125 + 25 / 3) ** 0.5 + 0.5, abs=0.01)
