import shutil

import pandas as pd
import pytest

from fewlabels import ledger, notebooks, paths, published
from fewlabels.chapters.replication_ledger import Settings, show
from fewlabels.errors import UserError
from fewlabels.statistics import PairedDifference
from fewlabels.verdicts import FIGURE_WORDS, FORMER, OPEN, Printed, Verdict

MADE = {"run_seconds": 60, "devices": "cpu", "command": "fewlabels run toy", "records": "abc"}
WITHOUT_DATA = ("rotation-equivariance", "chest-xray-transfer", "autoencoders-vae")
"""Chapters whose verdicts follow from the records alone."""


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
    assert ledger.unit(key) == unit


def test_every_claim_is_in_the_committed_table_in_the_order_of_the_sources():
    table = ledger.read()
    assert list(dict.fromkeys(table["claim"])) == list(published.claims())
    for id, group in table.groupby("claim"):
        assert group["verdict"].nunique() == 1, id
        words = next(w for kinds, w in show.GROUPS.values() if published.claim(id).kind in kinds)
        assert set(group["verdict"]) <= set(words), id
        assert set(group["figure"]) <= {*FIGURE_WORDS, ""}, id
        keys = list(published.claim(id).published or {""})
        assert group["quantity"].tolist() == keys, id
    tested = table[~table["verdict"].isin(OPEN)]
    assert (tested["n"] > 0).any() and (tested["reason"] != "").all()


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_the_committed_table_follows_from_the_records(name):
    fresh = pd.DataFrame(ledger.rows(name), columns=ledger.COLUMNS, dtype=object)
    fresh = fresh.fillna("").astype(str)
    committed = pd.read_csv(paths.RESULTS / "claims.csv", dtype=str, keep_default_na=False)
    committed = committed[committed["chapter"] == name].reset_index(drop=True)
    pd.testing.assert_frame_equal(fresh, committed)


def test_no_chapter_has_other_records_than_the_committed_table():
    assert ledger.stale() == []


@pytest.mark.parametrize("change", ["other records", "a claim less"])
def test_a_chapter_with_other_records_or_claims_than_the_table_is_named(monkeypatch, change):
    table, before = ledger.read(), ledger.stale()
    own = table["chapter"] == "rotnet-mnist"
    table = table.assign(records=table["records"].mask(own, "0" * 12))
    if change == "a claim less":
        table = ledger.read()[lambda found: found["claim"] != "R3"]
    monkeypatch.setattr(ledger, "read", lambda: table)
    assert "rotnet-mnist" not in before
    assert ledger.stale() == ["rotnet-mnist", *before]


def test_claims_are_made_without_computing_moving_or_writing_anything(tmp_path, monkeypatch):
    """A copy of a chapter's records, one of which is missing, truncated, or altered."""
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    name = "rotation-equivariance"
    shutil.copytree(paths.RESULTS / name, tmp_path / name)
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    victim = sorted((tmp_path / name).glob("angle-*.json"))[7]
    text = victim.read_text()
    for damaged in (text[:1000], text.replace('"mae": ', '"mae": 1'), None):
        victim.unlink() if damaged is None else victim.write_text(damaged)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / name).rglob("*")}
        with pytest.raises(UserError) as told:
            ledger.rows(name)
        assert victim.name in str(told.value)
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / name).rglob("*")} == before
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
    values = notebooks.parameters("rotnet-mnist", "smoke")
    with pytest.raises(
        UserError, match=r"is missing, and \d+ more of its runs: `fewlabels run rotnet"
    ):
        ledger.entries("rotnet-mnist", values)


def test_settings_name_what_is_wrong():
    with pytest.raises(UserError, match="sources is 'physics'"):
        Settings(sources=["physics"])
    with pytest.raises(UserError, match=r"sources is \[\]"):
        Settings(sources=[])
    with pytest.raises(UserError, match="yours is 'toy'"):
        Settings(yours=["toy"])
    with pytest.raises(UserError, match="profile is 'slow'"):
        Settings(profile="slow")


def made_up(**verdicts):
    """A table of these claims, R1="agrees", without figures."""
    columns = dict.fromkeys(ledger.COLUMNS, "")
    rows = [
        columns | {"claim": id, "kind": published.claim(id).kind, "verdict": word}
        for id, word in verdicts.items()
    ]
    return pd.DataFrame(rows).assign(p=float("nan"), n=0, source="rotnet")


def test_the_summary_counts_claims_apart_from_questions_and_names_them():
    table = made_up(R1="agrees", R3="contradicted", R5="holds", R7="undecided", D2="no", D5="yes")
    # A second figure of one claim is not a second claim.
    text = show.summary(pd.concat([table, table.iloc[:1]])).data
    assert "make 4 claims and ask 2 questions" in text
    assert "Printed figures and counts: agrees **1** (R1), contradicted **1** (R3)." in text
    assert "Differences, orders and limits: holds **1** (R5), undecided **1** (R7)." in text
    assert "Questions: yes **1** (D5), no **1** (D2)." in text


def test_figures_that_several_claims_print_count_once():
    table = made_up(S3="contradicted", S10="undecided", R1="agrees")
    table = table.assign(
        published="55.65", ours=47.7, low=46.0, high=49.4, figure="contradicted", n=3
    )
    table["source"] = ["ssl", "ssl", "rotnet"]
    assert show.distinct(table)["claim"].tolist() == ["S3", "R1"]


def test_changed_verdicts_are_those_that_mean_something_else():
    former = published.former_verdicts()
    assert former["claim"].tolist() == list(published.claims())
    assert set(former["verdict"]) == set(FORMER)
    # R1 held and R5 was within noise; C5 was reversed, and D1 held.
    table = made_up(R1="cannot tell", R5="undecided", C5="contradicted", D1="yes")
    frame = show.changed_table(table).frame
    assert frame["Claim"].tolist() == ["R1"]
    assert frame["Before"].tolist() == ["holds"] and frame["Now"].tolist() == ["cannot tell"]
    assert "a point" in frame["Why"].iloc[0]
    assert show.changed_table(made_up(S1="agrees")).frame["Why"].iloc[0] == "New runs."


def test_what_is_left_of_many_differences_at_once():
    table = made_up(R5="holds", R7="holds", R8="undecided", R1="agrees")
    table["p"] = [0.001, 0.04, 0.5, 0.001]
    # Holm over three: 0.003, 0.08, 0.5. R1 is no difference.
    text = show.multiplicity(table)
    assert "over all 3 tested differences, 1 of the 2 that are decided remain so" in text


def test_what_runs_could_have_shown_and_how_many_it_takes():
    table = made_up(R5="undecided").assign(unit="points", published="-2", n=10)
    # Student's quantile for nine degrees is 2.262157: error 1 / sqrt(10), spread 1.
    half = 2.262157 / 10**0.5
    table = table.assign(ours=0.1, low=0.1 - half, high=0.1 + half, quantity="difference")
    (row,) = show.power_table(table).frame.to_dict("records")
    assert (row["Spread"], row["Found with our n"], row["To find it"]) == ("1.00", "1.0", "5")
    assert row["To find the margin"] == "5 (2)"


def test_tables_are_made_from_any_choice_of_sources():
    for sources in (["rotnet"], ["ssl"], ["fewdata", "chest"]):
        settings = Settings(sources=sources)
        table = show.load(settings)
        for make in (
            *(show.claims_table, show.untested_table, show.power_table, show.counts_table),
            show.changed_table,
        ):
            assert len(make(table).frame)


@pytest.mark.parametrize("source", ["rotnet", "rotation", "chest", "ssl", "fewdata"])
def test_one_source_alone_has_every_table_and_figure(source):
    settings = Settings(sources=[source])
    table = show.load(settings)
    for make in (
        *(show.summary, show.counts_table, show.claims_table, show.reasons_table, show.forest),
        *(show.figures_table, show.deviations_table, show.untested_table, show.power_table),
        *(show.spread_table, show.provenance_table, show.changed_table),
    ):
        assert make(table) is not None
    assert show.errata_table(settings).label == "tbl-ledger-errata"


def test_captions_name_the_claims_on_rebuilt_data():
    table = ledger.read()
    measured = table[(table["n"] > 0) & (table["chapter"] == "ssl-medmnist")]
    said = show.claims_table(table).caption
    assert all(claim in said for claim in measured["claim"] if claim != "S16")
    assert "R1" not in said
