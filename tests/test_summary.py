import csv

import pytest
from conftest import toy_run

from fewlabels import paths, summary
from fewlabels.errors import UserError
from fewlabels.statistics import mean_interval


def read():
    with summary.write().open() as stream:
        return list(csv.DictReader(stream))


def test_one_row_per_mean_in_order(toy, record):
    record(toy_run(0), toy_run(1), toy_run(2), toy_run(0, labels=20))
    rows = read()
    columns = "chapter dataset data_md5 labels method backbone protocol metric n mean low high"
    assert " ".join(rows[0]) == columns
    assert [row["labels"] for row in rows] == ["20", "100"]
    interval = mean_interval([0.5, 0.6, 0.7])
    assert rows[1] == {
        "chapter": "toy",
        "dataset": "toy",
        "data_md5": "0" * 32,
        "labels": "100",
        "method": "guess",
        "backbone": "",
        "protocol": "report",
        "metric": "accuracy",
        "n": "3",
        "mean": "0.6",
        "low": f"{interval.low:.6g}",
        "high": f"{interval.high:.6g}",
    }


def test_one_run_has_no_interval(toy, record):
    record(toy_run(0))
    (row,) = read()
    assert (row["n"], row["mean"], row["low"], row["high"]) == ("1", "0.5", "", "")


def test_another_chapter_leaves_the_rows_as_they_are(toy, record):
    record(toy_run(0), toy_run(1))
    before = summary.write().read_text()
    (paths.RESULTS / "toy").rename(paths.RESULTS / "aaa")
    record(toy_run(0), toy_run(1))
    after = summary.write().read_text().splitlines()
    assert after[2:] == before.splitlines()[1:]


def test_without_records_it_says_so(toy):
    with pytest.raises(UserError, match="run a chapter first"):
        summary.write()
