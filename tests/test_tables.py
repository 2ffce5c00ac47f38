import math

import pandas as pd
import pytest

from fewlabels.errors import UserError
from fewlabels.evidence import tables
from fewlabels.evidence.statistics import Interval, PairedDifference
from fewlabels.reference import published

MINUS = "\N{MINUS SIGN}"


def interval(mean, low, high, n=20):
    return Interval(mean, low, high, n, "by hand")


def cells(table):
    """The pipe table's rows, header first, without the rule."""
    lines = [line for line in str(table).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [rows[0], *rows[2:]]


def rule(table):
    return [line for line in str(table).splitlines() if line.startswith("|")][1].strip("| ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (interval(0.958, 0.949, 0.967), "95.8 [94.9, 96.7]"),
        (interval(1.0, 1.0, 1.0), "100.0 [100.0, 100.0]"),
        (interval(0.958, math.nan, math.nan, n=1), "95.8 (one run)"),
        (0.5, "50.0"),
        (math.nan, "not run"),
        (None, "not run"),
    ],
)
def test_percent(value, text):
    assert tables.percent(value) == text


def test_differences_carry_their_sign():
    difference = PairedDifference(-0.021, 0.0105, 19, 20, "by hand")
    text = f"{MINUS}2.1 [{MINUS}4.3, +0.1]"
    assert tables.percent(difference, sign=True) == text
    # A difference that rounds to zero has no minus.
    assert tables.percent(-0.0001, sign=True) == "+0.0"
    assert tables.percent(-0.0001) == "0.0"
    # An end does: this interval holds zero, the next does not.
    assert tables.percent(interval(0.005, -0.0001, 0.01), sign=True) == f"+0.5 [{MINUS}0.0, +1.0]"
    assert tables.percent(interval(0.005, 0.0001, 0.01), sign=True) == "+0.5 [+0.0, +1.0]"
    assert tables.percent(interval(0.005, -0.0, 0.01), sign=True) == "+0.5 [+0.0, +1.0]"


def test_number_in_other_units():
    assert tables.number(interval(8.25, 7.9, 9.1), decimals=2) == "8.25 [7.90, 9.10]"
    assert tables.number(2326082, decimals=0) == "2,326,082"
    assert tables.number(-1.5) == f"{MINUS}1.5"


def test_show_writes_a_cross_reference_block():
    frame = pd.DataFrame({"method": ["a", "b|c"], "n": [3, 12345], "x": [0.25, math.nan]})
    table = tables.show(frame, "tbl-one", "Two methods, n = 3.", decimals=2)
    text = table._repr_markdown_()
    assert text.startswith("::: {#tbl-one}\n\n| method | n | x |\n")
    assert text.endswith("|\n\nTwo methods, n = 3.\n\n:::\n")
    assert cells(table)[1:] == [["a", "3", "0.25"], [r"b\|c", "12,345", "not run"]]
    # Text to the left, numbers to the right.
    method, n, x = rule(table).split(" | ")
    assert method.startswith(":-") and not method.endswith(":")
    assert n.endswith("-:") and x.endswith("-:")


def test_intervals_and_missing_marks_count_as_numbers():
    column = [f"{MINUS}2.1 [{MINUS}4.3, +0.1]", "95.8 (one run)", "not run", "<0.001", "98"]
    frame = pd.DataFrame({"number": column, "text": ["28 px", "1", "2", "3", "4"]})
    number, text = rule(tables.show(frame, "tbl-x", "Caption.")).split(" | ")
    assert number.endswith("-:")
    assert text.startswith(":-")


def test_a_named_index_becomes_columns():
    frame = pd.DataFrame({"x": [1]}, index=pd.Index(["row"], name="method"))
    assert cells(tables.show(frame, "tbl-x", "Caption.")) == [["method", "x"], ["row", "1"]]


def test_long_text_wraps_and_short_columns_do_not():
    long = "a sentence that goes on and on " * 6
    frame = pd.DataFrame({"text": [long], "ours": ["95.8 [94.9, 96.7]"], "verdict": ["not tested"]})
    text, ours, verdict = (
        len(part) for part in rule(tables.show(frame, "tbl-x", "C.")).split(" | ")
    )
    assert ours >= len("95.8 [94.9, 96.7]")
    assert verdict >= len("not tested")
    assert text + ours + verdict == pytest.approx(tables.PAGE, abs=1)


@pytest.mark.parametrize(("word", "more"), [("PNEUMONIA", 3), ("BloodMNIST", 2), ("MoCo", 0)])
def test_a_word_with_many_capitals_is_wider(word, more):
    frame = pd.DataFrame({"class": [word, "x"], "text": ["a sentence that goes on " * 9] * 2})
    small = frame.replace(word, word.lower())
    capitals, letters = (
        len(rule(tables.show(each, "tbl-x", "C.")).split(" | ")[0]) for each in (frame, small)
    )
    assert capitals == letters + more


def test_one_long_cell_does_not_take_the_page_from_a_column_of_sentences():
    claims = ["a sentence that goes on and on " * 4] * 9
    ours = ["12"] * 8 + ["one cell with a long remark " * 6]
    frame = pd.DataFrame({"claim": claims, "ours": ours})
    claim, our = (len(part) for part in rule(tables.show(frame, "tbl-x", "C.")).split(" | "))
    assert claim > our


@pytest.mark.parametrize(
    ("frame", "label", "caption", "message"),
    [
        (pd.DataFrame({"x": [1]}), "one", "Caption.", "tbl-"),
        (pd.DataFrame({"x": [1]}), "tbl-One", "Caption.", "a-z"),
        (pd.DataFrame({"x": [1]}), "tbl-one", " ", "no caption"),
        (pd.DataFrame({"x": []}), "tbl-one", "Caption.", "empty"),
        (pd.DataFrame({("x", "y"): [1]}), "tbl-one", "Caption.", "several levels"),
    ],
)
def test_show_refuses(frame, label, caption, message):
    with pytest.raises(UserError, match=message):
        tables.show(frame, label, caption)


def test_a_table_that_may_be_empty_says_so():
    frame = pd.DataFrame({"x": [], "y": []})
    header, row = cells(tables.show(frame, "tbl-x", "Caption.", nothing="none"))
    assert (header, row) == (["x", "y"], ["none", tables.NO_FIGURE])


def test_columns_of_which_nothing_was_run_are_named_below():
    frame = pd.DataFrame({"Class": ["a", "b"], "Source": [1, 2], "n": ["0", "0"], "Ours": math.nan})
    table = tables.show(frame, "tbl-x", "Caption.")
    assert cells(table) == [["Class", "Source"], ["a", "1"], ["b", "2"]]
    assert str(table).endswith("\n\nNot run: Ours.\n")
    frame["Ours"] = [math.nan, 3.0]
    table = tables.show(frame, "tbl-x", "Caption.")
    assert cells(table)[1] == ["a", "1", "0", "not run"] and table.below == ""


def test_what_was_not_run_is_named_in_few_words():
    keys = [(a, b, c) for a in "xy" for b in ("1%", "5%") for c in ("p", "q, r")]
    assert tables.named(keys) == "x, y · 1%, 5% · p; q, r"
    assert tables.named(keys[:-1]) == "x · 1%, 5% · p; q, r. y · 1% · p; q, r. y · 5% · p"
    # Nothing in common: the first groups are named, the rest is counted.
    alone = [(str(k), str(-k)) for k in range(9)]
    assert tables.named(alone).endswith("5 · -5. And 3 more")


def test_claims_table():
    rows = [
        {
            "claim": published.claim("C5"),
            "ours": "4,098 and 2,262,434",
            "n": 1,
            "verdict": "contradicted",
            "note": "Counted.",
        },
        {"claim": published.claim("R8"), "ours": None, "verdict": "not tested"},
    ]
    table = tables.claims_table(rows, "tbl-x", "Caption.")
    header, first, second = cells(table)
    assert header == ["Claim", "Published", "Ours", "n", "Verdict"]
    assert first == [
        "[**C5**](08-replication-ledger.ipynb#C5) The transfer model trains 13,696 parameters, the "
        "CNN 2,326,082.",
        "trained parameters, transfer 13,696; trained parameters, CNN 2,326,082",
        "4,098 and 2,262,434",
        "1",
        "[contradicted]{.verdict .contradicted}",
    ]
    assert second[1:] == ["\N{EN DASH}", "not run", "0", "[not tested]{.verdict .not-tested}"]
    assert "- **C5** [contradicted]{.verdict .contradicted} Counted. In the source, " in table.below


def test_a_deviation_that_claims_share_stands_once():
    rows = [
        {"claim": published.claim(id), "ours": None, "verdict": "not tested", "deviation": "Short."}
        for id in ("R1", "R8")
    ]
    below = tables.claims_table(rows, "tbl-x", "Caption.").below
    assert below.count("Short.") == 1
    assert "How our runs differ (R1, R8): Short." in below


def test_markup_takes_no_width():
    plain = pd.DataFrame({"Claim": ["R1 a text of a few words, too long for a line"], "n": ["3"]})
    marked = plain.replace("R1", "[**R1**](08-replication-ledger.ipynb#R1)", regex=True)
    rules = [
        str(tables.show(each, "tbl-x", "Caption.")).splitlines()[3] for each in (plain, marked)
    ]
    assert abs(len(rules[0]) - len(rules[1])) <= len("****")


def test_every_claim_of_the_book_can_be_a_row():
    rows = [
        {"claim": c, "ours": None, "verdict": "not tested"} for c in published.claims().values()
    ]
    table = tables.claims_table(rows, "tbl-x", "Caption.")
    assert len(cells(table)) == 1 + len(published.claims())
    published_ranges = dict(zip(table.frame["Claim"], table.frame["Published"], strict=True))
    e6 = next(text for claim, text in published_ranges.items() if claim.startswith("[**E6**]"))
    assert e6 == "seconds MLP 69 to 99; seconds CNN 55 to 81"


def test_a_question_is_printed_with_the_hypothesis_that_is_answered():
    row = {"claim": published.claim("D2"), "ours": None, "verdict": "not tested"}
    claim = tables.claims_table([row], "tbl-x", "Caption.").frame["Claim"].item()
    assert "Taken to ask: The sheet's example, a vertical flip, raises test accuracy." in claim


def test_a_row_with_a_wrong_key_names_the_right_ones():
    with pytest.raises(UserError, match="claim, ours, verdict"):
        tables.claims_table([{"claim": "x", "value": 3}], "tbl-x", "Caption.")


def test_where_there_is_no_interval_the_number_says_why():
    assert [tables.number(interval(2, math.nan, math.nan, n)) for n in (1, 2, 3)] == [
        *("2.0 (one run)", "2.0 (two runs)", "always 2.0")
    ]


def test_a_share_comes_with_its_interval():
    hits = [True] * 3 + [False] * 7
    assert tables.share(hits, "seeds") == "3 of 10 seeds (30%, 95% interval 11 to 60%)"
    assert tables.share([], "seeds") == "0 of 0 seeds"


@pytest.mark.parametrize(
    ("hits", "word"),
    [(0, "never"), (1, "seldom"), (2, "sometimes"), (4, "sometimes"), (5, "mostly"), (6, "always")],
)
def test_how_often_in_a_word(hits, word):
    assert tables.how_often(hits, 6) == word


def test_what_is_rounding_is_told_by_its_size():
    assert tables.at_most(5.96e-5) == "at most 6e-5"
    assert tables.at_most(2e-11) == "at most 2e-11"
    assert tables.at_most(0.0) == "0"


def test_a_text_beside_many_numbers_is_not_squeezed_to_its_longest_word():
    figures = {f"Metric {k}": ["17.63 [17.48, 17.71]"] for k in range(4)}
    frame = pd.DataFrame({"Method": ["a sheet, of few words, all of them short"], **figures})
    rule = str(tables.show(frame, "tbl-wide", "A caption.")).splitlines()[3]
    assert len(rule.split("|")[1].strip()) == 20


def test_without_a_run_there_is_nothing_to_compare():
    assert set(tables.compared({}).columns) >= {"comparison", "mean", "low", "high", "n"}


def test_comparisons_are_corrected_for_those_that_were_run():
    # Errors for 19 degrees of freedom, t = 2.093024 at 97.5%: t = 2.5 and p = 0.0218; t = 5.
    found = {
        "a": PairedDifference(0.02, 0.008, 19, 20, "by hand"),
        "c": PairedDifference(-0.03, 0.006, 19, 20, "by hand"),
        "d": PairedDifference(-0.03, 0.006, 1, 2, "by hand"),
    }
    frame = tables.compared(found)
    assert frame["comparison"].tolist() == ["a", "c", "d"]
    # Two tests: two runs have none.
    assert frame["p"].tolist()[:2] == pytest.approx([0.0217, 0.0002], abs=1e-4)
    assert math.isnan(frame["p"][2]) and tables.p_value(frame["p"][2]) == "\N{EN DASH}"
