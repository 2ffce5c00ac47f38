import ast
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from fewlabels import chapters, files, paths
from fewlabels.book import freeze, ledger
from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.evidence.statistics import PairedDifference
from fewlabels.evidence.tables import MINUS, Table
from fewlabels.evidence.verdicts import FIGURE_WORDS, FORMER, OPEN, Printed, Verdict
from fewlabels.reference import published
from fewlabels.runs import kept

NAME = "replication-ledger"
SOURCES = ("rotnet", "rotation", "chest", "ssl", "fewdata")

MADE = {"run_seconds": 60, "devices": "cpu", "command": "fewlabels run toy", "records": "abc"}


def entry(id, values, key="accuracy", rounding=1, **more):
    row = {"claim": published.claim(id), "ours": "70", "verdict": Verdict("holds", "because")}
    return row | {"n": 3, "figures": [Printed(key, values, rounding)]} | more


def test_a_printed_figure_by_hand():
    (row,) = ledger._rows(entry("R3", [70.0, 72.0, 74.0], note="Because."), MADE)
    assert (row["claim"], row["kind"], row["quantity"], row["published"], row["unit"]) == (
        *("R3", "figure", "accuracy"),
        *("73", "%"),
    )
    assert (row["ours"], row["spread"], row["n"], row["margin"]) == ("72", "2", 3, "3")
    # Student's quantile for two degrees of freedom, s = 2, sqrt(1 + 1/3), half a unit of rounding.
    assert float(row["beyond"]) == pytest.approx(4.302653 * 2 * 1.154701 + 0.5, abs=1e-3)
    assert row["figure"] == "cannot tell"
    (far,) = ledger._rows(entry("R3", [10.0, 10.1, 10.2]), MADE)
    assert far["figure"] == "contradicted"


def test_runs_of_one_network_count_as_one():
    part = Printed("accuracy", [70.0, 72.0, 74.0, 75.0], 1, luck=["a", "a", "b", None])
    (row,) = ledger._rows(entry("R3", []) | {"figures": [part]}, MADE)
    assert (row["n"], float(row["ours"])) == (3, pytest.approx((71 + 74 + 75) / 3, abs=1e-4))


def test_two_runs_say_nothing_about_a_third():
    (row,) = ledger._rows(entry("R3", [70.0, 72.0]), MADE)
    assert (row["ours"], row["low"], row["spread"], row["beyond"]) == ("71", "", "", "")
    assert row["figure"] == "not tested"


def test_counts_are_compared_exactly():
    row = entry("C5", [13_696], key="trainable_transfer", rounding=0)
    head, cnn = ledger._rows(row, MADE)
    assert (head["unit"], head["ours"], head["figure"]) == ("parameters", "13696", "agrees")
    # The claim's n, where the figure has no runs of its own.
    assert (cnn["published"], cnn["n"], cnn["claim_n"]) == ("2326082", 3, 3)


def test_a_claim_without_figures_has_one_row_in_points():
    difference = PairedDifference(-0.027, 0.008, 19, 20, "by hand")
    verdict = Verdict("no difference", "", 0.03, "1 point")
    row = {"claim": published.claim("R8"), "ours": difference, "verdict": verdict}
    (found,) = ledger._rows(row, MADE)
    assert (found["unit"], found["ours"], found["n"]) == ("points", "-2.7", 20)
    # Student's quantile for 19 degrees of freedom is 2.093024.
    assert float(found["low"]) == pytest.approx(-2.7 - 2.093024 * 0.8, abs=1e-3)
    assert (found["verdict"], found["above"], found["p"]) == ("no difference", "1 point", "0.03")
    assert found["in_words"].startswith("\N{MINUS SIGN}2.7 [")


def test_a_figure_that_the_source_does_not_print_is_refused():
    with pytest.raises(UserError, match="claim R3 prints no recall"):
        ledger._rows(entry("R3", [70.0], key="recall"), MADE)


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("accuracy_full", "%"),
        ("difference_quarter", "points"),
        ("trainable_cnn", "parameters"),
        ("seconds_mlp", "s"),
        ("epoch", "epoch"),
        ("minutes", "minutes"),
    ],
)
def test_units(key, unit):
    assert published.unit(key) == unit


def test_every_claim_is_in_the_committed_table_in_the_order_of_the_sources():
    table = ledger.read()
    assert list(dict.fromkeys(table["claim"])) == list(published.claims())
    for id, group in table.groupby("claim"):
        assert group["verdict"].nunique() == 1, id
        words = next(w for kinds, w in ledger.GROUPS.values() if published.claim(id).kind in kinds)
        assert set(group["verdict"]) <= set(words), id
        assert set(group["figure"]) <= {*FIGURE_WORDS, ""}, id
        keys = list(published.claim(id).published or {""})
        assert group["quantity"].tolist() == keys, id
    tested = table[~table["verdict"].isin(OPEN)]
    assert (tested["n"] > 0).any() and (tested["reason"] != "").all()


def test_no_chapter_has_other_records_than_the_committed_table():
    assert freeze.stale_claims() == []


@pytest.mark.parametrize("change", ["other records", "a claim less"])
def test_a_chapter_with_other_records_or_claims_than_the_table_is_named(toy, monkeypatch, change):
    own = {claim.id: replace(claim, chapter="toy") for claim in [*published.claims().values()][:3]}
    monkeypatch.setattr(published, "claims", lambda chapter=None: own)
    rows = [{"chapter": "toy", "claim": id, "records": freeze.digest("toy")} for id in own]
    file = toy / "results/claims.csv"
    file.parent.mkdir()
    file.write_text(files.table(["chapter", "claim", "records"], rows))
    assert freeze.stale_claims() == []
    rows[0]["records"] = "0" * 12
    told = rows[1:] if change == "a claim less" else rows
    file.write_text(files.table(["chapter", "claim", "records"], told))
    assert freeze.stale_claims() == ["toy"]


def test_claims_are_made_without_computing_moving_or_writing_anything(tmp_path, monkeypatch):
    """A copy of a chapter's records, one of which is missing, truncated, or altered."""
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    chapter = "rotation-equivariance"
    folder = tmp_path / chapter
    shutil.copytree(paths.RESULTS / chapter, folder)
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    name = next(each for each in kept.names(folder) if each.startswith("angle-"))
    text, victim = kept.text(folder, name).decode(), folder / f"{name}.json"
    for part in folder.glob("*.jsonl"):
        part.write_text("".join(line for line in part.open() if f'"{name}"' not in line[:40]))
    for damaged in (text[:1000], text.replace('"mae": ', '"mae": 1'), None):
        victim.unlink(missing_ok=True) if damaged is None else victim.write_text(damaged)
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        with pytest.raises(UserError) as told:
            ledger.rows(chapter)
        assert victim.stem in str(told.value)
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert not (tmp_path / "cache").exists()


def test_a_table_that_is_missing_or_foreign_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    with pytest.raises(UserError, match=r"claims\.csv is missing: .*fewlabels claims"):
        ledger.read()
    (tmp_path / "claims.csv").write_text("claim,source\nR1,rotnet\n")
    with pytest.raises(UserError, match="lacks chapter, kind"):
        ledger.read()


def test_missing_runs_are_refused_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))
    values = profiles.parameters("rotnet-mnist", "smoke")
    with pytest.raises(
        UserError, match=r"is missing, and \d+ more of its runs: `fewlabels run rotnet"
    ):
        ledger.entries("rotnet-mnist", values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": ["physics"]}, "sources is 'physics'; allowed: rotnet, rotation"),
        ({"sources": []}, r"sources is \[\]"),
        ({"sources": "rotnet"}, "sources is 'rotnet'"),
        ({"yours": ["toy"]}, "yours is 'toy'; allowed: rotnet-mnist"),
        ({"yours": [NAME]}, f"yours is '{NAME}'"),
        ({"profile": "slow"}, "profile is 'slow'"),
    ],
)
def test_settings_name_what_is_wrong(change, message):
    with pytest.raises(UserError, match=message):
        chapters.load(NAME).Settings(**profiles.parameters(NAME) | change)


def test_the_chapter_runs_nothing_and_is_made_from_the_table_and_the_claims():
    chapter, settings = chapters.load(NAME), profiles.settings(NAME)
    assert chapter.plan(settings) == []
    files = [paths.RESULTS / name for name in ("claims.csv", "summary.csv")]
    assert chapter.inputs(settings) == [*files, published.CLAIMS]


def made_up(**verdicts):
    """A table of these claims, R1="agrees", without figures."""
    columns = dict.fromkeys(ledger.COLUMNS, "")
    rows = [
        columns
        | {"claim": id, "source": published.claim(id).source, "kind": published.claim(id).kind}
        | {"chapter": published.claim(id).chapter, "verdict": word}
        for id, word in verdicts.items()
    ]
    numbers = dict.fromkeys(ledger.NUMBERS, float("nan")) | dict.fromkeys(ledger.COUNTS, 0)
    return pd.DataFrame(rows).assign(**numbers)


def test_verdicts_are_counted_by_what_they_are_about():
    table = made_up(R1="agrees", R3="contradicted", R4="agrees", R5="holds", D2="no", D5="yes")
    assert [*ledger.by_verdict(table).itertuples(index=False, name=None)] == [
        ("printed figures and counts", "agrees", 2, "R1, R4"),
        ("printed figures and counts", "contradicted", 1, "R3"),
        ("differences, orders and limits", "holds", 1, "R5"),
        ("questions", "yes", 1, "D5"),
        ("questions", "no", 1, "D2"),
    ]
    assert ledger.by_verdict(table.iloc[:0]).empty


def test_figures_that_several_claims_print_count_once():
    table = made_up(S3="contradicted", S10="undecided", R1="agrees")
    table = table.assign(
        published="55.65", ours=47.7, low=46.0, high=49.4, figure="contradicted", n=3
    )
    assert ledger.distinct(table)["claim"].tolist() == ["S3", "R1"]


def test_changed_verdicts_are_those_that_mean_something_else():
    former = published.former_verdicts()
    # Of the claims that the register had then, in its order.
    assert former["claim"].tolist() == [c for c in published.claims() if c in {*former["claim"]}]
    assert len(former) == 57
    assert set(former["verdict"]) == set(FORMER)
    # R1 held and R5 was within noise; C5 was reversed, and D1 held.
    found = ledger.beside_former(
        made_up(R1="cannot tell", R5="undecided", C5="contradicted", D1="yes")
    )
    assert found["claim"].tolist() == ["R1", "R5", "C5", "D1"]
    assert found["same"].tolist() == [False, True, True, True]
    (first,) = found[~found["same"]].to_dict("records")
    assert (first["before"], first["now"]) == ("holds", "cannot tell")
    assert "a point" in first["why"]


def test_what_is_left_of_many_differences_at_once():
    table = made_up(R5="holds", R7="holds", R8="undecided", R1="agrees", S4="not tested")
    table["p"] = [0.001, 0.04, 0.5, 0.001, float("nan")]
    found = ledger.all_at_once(table)
    # Holm over three; R1 is no difference.
    assert found["claim"].tolist() == ["R5", "R7", "R8"]
    assert found["corrected"].tolist() == pytest.approx([0.003, 0.08, 0.5])
    assert ledger.all_at_once(table.iloc[3:])["corrected"].empty
    # A bound, which is undecided by no test, counts as 1.
    table.loc[2, "p"] = float("nan")
    assert ledger.all_at_once(table)["corrected"].tolist() == pytest.approx([0.003, 0.08, 1])


def test_what_runs_could_have_shown_and_how_many_it_takes():
    table = made_up(R5="undecided", R8="undecided", D4="undecided", R1="undecided")
    # Student's quantile for nine degrees is 2.262157: error 1 / sqrt(10), spread 1.
    half = 2.262157 / 10**0.5
    table = table.assign(unit="points", n=10, ours=0.1, low=0.1 - half, high=0.1 + half)
    table["published"] = ["-2", "", "", ""]
    table.loc[table["claim"] == "R1", "unit"] = "%"
    found = ledger.power(table).set_index("claim")
    # D4's units are splits of one set of photographs.
    assert found.index.tolist() == ["R5", "R8"]
    assert found["spread"].tolist() == pytest.approx([1, 1], abs=1e-5)
    # The noncentrality at 80% for nine degrees is 3.1522.
    assert found["found"].tolist() == pytest.approx([3.1522 / 10**0.5] * 2, abs=1e-3)
    assert found["claimed"].tolist() == pytest.approx([-2, float("nan")], nan_ok=True)
    assert found["needed_claimed"].tolist() == pytest.approx([5, float("nan")], nan_ok=True)
    assert found["margin"].tolist() == [2, 2] and found["needed_margin"].tolist() == [5, 5]
    assert ledger.power(table.iloc[:0]).empty


@pytest.mark.parametrize(
    ("figure", "unit", "text"),
    [
        ("98", "%", "98"),
        ("-2", "points", f"{MINUS}2"),
        ("13696", "parameters", "13,696 parameters"),
        ("10", "epoch", "epoch 10"),
        ("13 to 17", "s", "13 to 17 s"),
    ],
)
def test_a_printed_figure_has_its_unit(figure, unit, text):
    assert ledger.with_unit(figure, unit) == text


def test_captions_name_the_claims_on_rebuilt_data():
    table = made_up(R1="agrees", S2="agrees", S3="contradicted", S4="not tested")
    table["n"] = [3, 3, 3, 0]
    table.loc[1:, "deviation"] = "bloodmnist is a rebuild, not the official file."
    assert ledger.rebuilt(table) == "On rebuilt data sets, not the official files: S2, S3."
    assert ledger.rebuilt(table.iloc[:1]) == ""
    many = table.iloc[[1] * 13].assign(claim=[*(f"S{k}" for k in range(12)), "F1"])
    assert ledger.rebuilt(many).endswith("files: 13 of the claims F and S.")


def shown(**changes):
    """What the notebook's cells end in, in their order: tables by their labels."""
    names, found = {}, {}
    for place, cell in enumerate(profiles.cells(chapters.notebook(NAME))):
        if cell["cell_type"] != "code":
            continue
        *body, last = ast.parse(cell["source"]).body
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(body, []), NAME, "exec"), names)
            each = eval(compile(ast.Expression(last.value), NAME, "eval"), names)
            found[each.label if isinstance(each, Table) else place] = each
        else:
            exec(compile(ast.Module([*body, last], []), NAME, "exec"), names)
        if "parameters" in profiles.tags(cell):
            names |= changes
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_one_source_alone_has_every_table(source):
    found = shown(sources=[source])
    everything = shown()
    assert found.keys() == everything.keys()
    table = everything["tbl-ledger-claims"].frame
    own = [
        f"[**{id}**]{{#{id}}} "
        for id, claim in published.claims().items()
        if claim.source == source
    ]
    expected = table[table["Claim"].str.startswith(tuple(own))]
    assert found["tbl-ledger-claims"].frame.values.tolist() == expected.values.tolist()


def test_the_summary_counts_claims_apart_from_questions_and_names_them(monkeypatch):
    verdicts = {"R1": "agrees", "R3": "contradicted", "R5": "holds", "R7": "undecided"}
    waits, fails = {"S4": "not tested"}, {"C4": "not tested"}
    table = made_up(**verdicts, **waits, **fails, D2="no", D5="yes")
    table.loc[table["claim"] == "S4", "reason"] = "Too few runs (n = 2)."
    table.loc[table["claim"] == "C4", "reason"] = "Too few runs (n = 1). 1 of 6 runs learn."
    # A second figure of one claim is not a second claim.
    monkeypatch.setattr(ledger, "read", lambda: pd.concat([table, table[:1]], ignore_index=True))
    found = shown()
    texts = [each.data for each in found.values() if hasattr(each, "data")]
    (answer,) = (text for text in texts if "#answer-" in text)
    said = "Of the 6 claims of four sources, [2]{.number} are confirmed (0 in networks trained for"
    assert said in answer and "[1]{.number} are refuted (0 in such networks)" in answer
    assert "for 0 there is no difference that counts, 1 cannot be decided with our runs" in answer
    assert "2 are not tested (1 because runs are missing)" in answer
    (strip,) = (text for text in texts if "#strip" in text)
    assert strip.count("](08-replication-ledger.ipynb#") == 8
    counts = found["tbl-ledger-counts"].frame
    assert [*counts["Verdict"]][-2:] == ["[yes]{.verdict .yes}", "[no]{.verdict .no}"]
    refuted = found["tbl-ledger-refuted"].frame["Claim"]
    assert [claim.split("**")[1] for claim in refuted] == ["R3", "D2"]
    assert found["tbl-ledger-figures"].frame["Figure"].tolist() == ["none"]
    first, *others = found["tbl-ledger-changed"].frame["Why"]
    assert first.startswith("Twenty label draws") and {*others} == {"New runs."}


def test_your_verdicts_stand_beside_the_books(monkeypatch):
    row = {"claim": published.claim("R3"), "ours": "70", "verdict": Verdict("holds", "because")}
    asked = []
    monkeypatch.setattr(ledger, "entries", lambda name, values: asked.append(values) or [row])
    (mine,) = shown(yours=["rotnet-mnist"], profile="smoke")["tbl-ledger-yours"].frame.values
    assert asked == [profiles.parameters("rotnet-mnist", "smoke")]
    assert mine[0].startswith("**R3** ") and list(mine[2:]) == ["holds", "70"]
