"""The appendix "Protocol and statistics" follows from what it is made from."""

import importlib

import pandas as pd
import pytest

from fewlabels import paths
from fewlabels.reference import published


@pytest.fixture(scope="module")
def coverage():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(paths.ROOT / "benchmarks")
        yield importlib.import_module("coverage")


def test_the_tables_of_the_appendix_follow_from_the_simulation_and_the_margins(coverage):
    frame = pd.read_csv(coverage.TABLE, dtype={"n": str})
    text = coverage.pages.STATISTICS.read_text(encoding="utf-8")
    for label, table in coverage.page(frame).items():
        shown = text.split(f"<!-- {label} -->")[1].split(f"<!-- end of {label} -->")[0]
        assert shown.strip() == str(table).strip(), f"{label}: python benchmarks/coverage.py"
    own = [claim.id for claim in published.claims().values() if claim.margin]
    assert all(f"| {id}: " in text for id in own)


def test_intervals_and_verdicts_err_as_often_as_they_say(coverage):
    frame = pd.read_csv(coverage.TABLE, dtype={"n": str}).set_index(["what", "of", "n"])["percent"]
    for n in ("3", "6", "20"):
        assert frame["mean, t", "normal", n] == pytest.approx(95, abs=1.5)
        for name in ("normal around 75%", "beta, mean 97%", "54 images, 98% right"):
            assert frame["mean of fractions, t on the logit scale", name, n] > 93
        for figures in ("one figure", "4 figures"):
            assert frame["contradicted", f"runs alike, {figures}", n] < 6
        assert frame["agrees", "runs apart by the margin, spread a tenth of it", n] < 6
        assert frame["no difference", "a difference of the margin", n] < 6
        wrong = sum(
            frame[word, "difference of 0 standard deviations", n] for word in ("holds", "opposite")
        )
        assert wrong < 6.5


def test_a_small_simulation_runs(coverage):
    rows = [*coverage.intervals(3), *coverage.rates(10)]
    assert {len(row) for row in rows} == {4}
    assert all(0 <= row[3] <= 100 for row in rows)
