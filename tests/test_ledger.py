import math
import shutil

import pandas as pd
import pytest

from fewlabels import ledger, notebooks, paths, published
from fewlabels.chapters.replication_ledger import Settings, show
from fewlabels.errors import UserError
from fewlabels.statistics import PairedDifference
from fewlabels.verdicts import WORDS, Printed, Verdict

MADE = {"run_seconds": 60, "devices": "cpu", "command": "fewlabels run toy", "records": "abc"}
WITHOUT_DATA = ("rotation-equivariance", "chest-xray-transfer", "autoencoders-vae")
"""Chapters whose verdicts follow from the records alone."""


def entry(id, values, key="accuracy", rounding=1, **more):
    row = {"claim": published.claim(id), "ours": "70", "verdict": Verdict("holds", "because")}
    return row | {"n": 3, "figures": [Printed(key, values, rounding)]} | more


def test_a_printed_figure_by_hand():
    (row,) = ledger._rows(entry("R3", [70.0, 72.0, 74.0], note="Because."), MADE)
    assert (row["claim"], row["quantity"], row["published"], row["unit"]) == (
        *("R3", "accuracy", "73"),
        "%",
    )
    # s = 2; Student's quantile for two degrees of freedom is 4.3027; sqrt(1 + 1 / 3) = 1.1547.
    half = 4.302653 * 2 * 1.154701
    assert (row["ours"], row["spread"], row["n"]) == ("72", "2", 3)
    assert float(row["expected_low"]) == pytest.approx(72 - half, abs=1e-3)
    assert float(row["expected_high"]) == pytest.approx(72 + half, abs=1e-3)
    assert row["inside"] == "yes"
    (far,) = ledger._rows(entry("R3", [10.0, 10.1, 10.2]), MADE)
    assert far["inside"] == "no"


def test_two_runs_say_nothing_about_a_third():
    (row,) = ledger._rows(entry("R3", [70.0, 72.0]), MADE)
    assert row["ours"] == "71"
    assert "inside" not in row and "spread" not in row


def test_counts_are_compared_exactly():
    head, cnn = ledger._rows(entry("C5", [13_696], key="trainable_transfer"), MADE)
    assert (head["unit"], head["ours"], head["inside"]) == ("parameters", "13696", "yes")
    assert (cnn["published"], cnn["n"]) == ("2326082", 0)


def test_a_claim_without_figures_has_one_row_in_points():
    difference = PairedDifference(-0.027, -0.044, -0.012, 20, 0.01, "by hand")
    row = {"claim": published.claim("R8"), "ours": difference, "verdict": Verdict("reversed", "")}
    (found,) = ledger._rows(row, MADE)
    assert (found["unit"], found["ours"], found["low"], found["high"]) == (
        *("points", "-2.7"),
        *("-4.4", "-1.2"),
    )
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
    assert set(table["verdict"]) <= set(WORDS)
    for id, group in table.groupby("claim"):
        assert group["verdict"].nunique() == 1, id
        keys = list(published.claim(id).published or {""})
        assert group["quantity"].tolist() == keys, id
    tested = table[table["verdict"] != "not tested"]
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
    with pytest.raises(UserError, match="lacks chapter, quantity"):
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


def made_up(*verdicts):
    ids = list(published.claims())[: len(verdicts)]
    columns = dict.fromkeys(ledger.COLUMNS, "")
    table = pd.DataFrame([columns | {"claim": i, "source": "rotnet"} for i in ids])
    return table.assign(verdict=verdicts)


def test_the_summary_counts_claims_and_names_them():
    table = made_up("holds", "reversed", "reversed", "within noise", "not tested")
    # A second figure of one claim is not a second claim.
    text = show.summary(pd.concat([table, table.iloc[:1]])).data
    assert "make 5 claims. We tested 4 of them" in text
    assert "**1 hold**, **2 are reversed** (R2, R3)" in text
    assert "1 the difference is within noise (R4). 1 are not tested" in text


def test_what_one_pair_of_runs_can_show():
    assert show.detectable(5.0) == pytest.approx(9.8, abs=0.01)
    # (1.96 + 0.84)^2 (5 / 2)^2 = 49.05
    assert show.pairs_needed(2.0, 5.0) == math.ceil(49.05)
    assert show.pairs_needed(-2.0, 5.0) == show.pairs_needed(2.0, 5.0)
    assert show.pairs_needed(10.0, 0.1) == 1
    with pytest.raises(UserError, match="difference is 0"):
        show.pairs_needed(0.0, 5.0)


def test_tables_are_made_from_any_choice_of_sources():
    for sources in (["rotnet"], ["ssl"], ["fewdata", "chest"]):
        settings = Settings(sources=sources)
        table = show.load(settings)
        for make in (show.claims_table, show.untested_table, show.power_table, show.counts_table):
            assert len(make(table).frame)


@pytest.mark.parametrize("source", ["rotnet", "rotation", "chest", "ssl", "fewdata"])
def test_one_source_alone_has_every_table_and_figure(source):
    settings = Settings(sources=[source])
    table = show.load(settings)
    for make in (
        *(show.summary, show.counts_table, show.claims_table, show.reasons_table, show.forest),
        *(show.figures_table, show.deviations_table, show.untested_table, show.power_table),
        *(show.spread_table, show.provenance_table),
    ):
        assert make(table) is not None
    assert show.errata_table(settings).label == "tbl-ledger-errata"


def test_captions_name_the_claims_on_rebuilt_data():
    table = ledger.read()
    measured = table[(table["n"] > 0) & (table["chapter"] == "ssl-medmnist")]
    said = show.claims_table(table).caption
    assert all(claim in said for claim in measured["claim"] if claim != "S16")
    assert "R1" not in said
