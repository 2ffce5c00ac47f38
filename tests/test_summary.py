import csv

import pytest
from conftest import toy_run

from fewlabels import chapters, summary
from fewlabels.errors import UserError
from fewlabels.statistics import fraction_interval


def read():
    with summary.write().open() as stream:
        return list(csv.DictReader(stream))


def more_epochs(toy, epochs):
    """The toy chapter's own number of epochs, and so of its runs."""
    file = toy / "chapters/01-toy.ipynb"
    file.write_text(file.read_text().replace("epochs = 2", f"epochs = {epochs}"))


def test_one_row_per_mean_of_the_planned_runs(toy, record):
    more_epochs(toy, 3)
    # The last one is of other settings: no chapter plans it.
    record(toy_run(0), toy_run(1), toy_run(2), toy_run(0, labels=20))
    (row,) = read()
    columns = "chapter dataset data_md5 labels method backbone protocol metric n mean low high"
    assert " ".join(row) == columns
    interval = fraction_interval([0.5, 0.6, 0.7])
    assert row == {
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


def test_rows_are_sorted_by_the_number_of_labels(toy, record, monkeypatch):
    runs = [toy_run(0), toy_run(0, labels=1000), toy_run(0, labels=20)]
    monkeypatch.setattr(chapters.load("toy"), "plan", lambda settings: runs)
    record(*runs)
    assert [row["labels"] for row in read()] == ["20", "100", "1000"]


def test_one_run_has_no_interval(toy, record):
    record(toy_run(0))
    (row,) = read()
    assert (row["n"], row["mean"], row["low"], row["high"]) == ("1", "0.5", "", "")


def test_a_kind_of_run_whose_splits_overlap_says_so(toy, record, monkeypatch):
    runs = [toy_run(0), toy_run(1), toy_run(2)]
    record(*runs)
    monkeypatch.setattr(chapters.load("toy"), "plan", lambda settings: runs)
    monkeypatch.setattr(type(runs[0]), "overlap", 0.5, raising=False)
    (row,) = read()
    interval = fraction_interval([0.5, 0.6, 0.7], test_to_train=0.5)
    assert (row["low"], row["high"]) == (f"{interval.low:.6g}", f"{interval.high:.6g}")


def test_without_records_it_says_so(toy):
    with pytest.raises(UserError, match="run a chapter first"):
        summary.write()
