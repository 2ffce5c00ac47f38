import csv
from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import toy_run
from PIL import Image

from fewlabels import chapters, data
from fewlabels.book import cli, freeze, summary
from fewlabels.chapters import profiles
from fewlabels.data import chest_xray
from fewlabels.errors import UserError
from fewlabels.evidence.statistics import fraction_interval
from fewlabels.runs import manifest, records


def read():
    with summary.write().open() as stream:
        return list(csv.DictReader(stream))


def more_epochs(toy, epochs):
    """The toy chapter's own number of epochs, and so of its runs."""
    file = toy / "chapters/01-toy.ipynb"
    file.write_text(file.read_text().replace("epochs = 2", f"epochs = {epochs}"))


def add(monkeypatch, part, more):
    """What is read holds ``more(run)`` as well in one of its parts."""
    real = records.Store.get

    def get(store, run):
        found = real(store, run)
        return replace(found, **{part: getattr(found, part) | more(run)})

    monkeypatch.setattr(records.Store, "get", get)


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


def test_n_counts_the_runs_that_could_be_given_the_metric(toy, record, monkeypatch):
    more_epochs(toy, 3)
    record(*(toy_run(draw) for draw in range(3)))
    auc = {0: 0.5, 1: float("nan"), 2: 0.7}
    add(monkeypatch, "metrics", lambda run: {"auc": auc[run.draw]})
    assert [(row["metric"], row["n"], row["mean"]) for row in read()] == [
        ("accuracy", "3", "0.6"),
        ("auc", "2", "0.6"),
    ]


def test_n_counts_what_runs_share_once(toy, record, monkeypatch):
    more_epochs(toy, 4)
    record(*(toy_run(draw) for draw in range(4)))
    add(monkeypatch, "config", lambda run: {"start": {"seed": max(run.draw, 1)}})
    # The first two start from one network: their mean of 0.55 is one of three.
    (row,) = read()
    assert (row["n"], row["mean"]) == ("3", f"{(0.55 + 0.7 + 0.8) / 3:.6g}")


def test_rows_are_sorted_by_the_number_of_labels(toy, record, monkeypatch):
    runs = [toy_run(0), toy_run(0, labels=1000), toy_run(0, labels=20)]
    monkeypatch.setattr(chapters.load("toy"), "plan", lambda settings: runs)
    record(*runs)
    assert [row["labels"] for row in read()] == ["20", "100", "1000"]


def test_one_run_has_no_interval(toy, record):
    more_epochs(toy, 1)
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


def unchanged(toy):
    return {path: path.read_bytes() for path in (toy / "results").rglob("*") if path.is_file()}


def test_missing_records_are_an_error_with_the_remedy(toy, record):
    told = r"toy-\w+\.json is missing, and 1 more of its runs: `fewlabels run toy`"
    with pytest.raises(UserError, match=told):
        summary.write()
    record(toy_run(0))
    with pytest.raises(UserError, match=rf"toy-{toy_run(1).id}\.json is missing: "):
        summary.write()


@pytest.mark.parametrize("damage", ["truncated", "gone", "changed"])
def test_a_damaged_record_is_named_and_nothing_is_touched(toy, record, damage):
    first, _ = record(toy_run(0), toy_run(1))
    summary.write()
    text = first.read_text()
    if damage == "truncated":
        first.write_text(text[: len(text) // 2])
    elif damage == "gone":
        first.unlink()
    else:
        first.write_text(text.replace('"seconds": ', '"seconds": 1'))
    before = unchanged(toy)
    with pytest.raises(UserError, match=f"{first.name} is .*git checkout"):
        summary.write()
    assert cli.main(["summary"]) == 2
    # Not even where the record has not been listed yet.
    manifest.path().unlink()
    with pytest.raises(UserError, match=first.name):
        summary.write()
    before.pop(manifest.path())
    assert unchanged(toy) == before


def test_a_chapter_that_shows_what_there_is_may_lack_runs(toy, record, monkeypatch):
    values = profiles.parameters("toy", "full") | {"minutes": 0}
    record(toy_run(0))
    monkeypatch.setattr(chapters.load("toy"), "Settings", lambda **_: SimpleNamespace(epochs=2))
    monkeypatch.setattr(profiles, "parameters", lambda name, profile: values)
    assert [row["n"] for row in summary.rows("toy")] == [1]


@pytest.fixture
def other_data(tmp_path, monkeypatch):
    """Turns to a folder in which data sets are others than the book's."""
    for name in ("bloodmnist", "dermamnist", "pneumoniamnist"):
        file = tmp_path / "medmnist" / f"{name}.npz"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"another file")
    for part in ("train", "test"):
        for name in ("NORMAL", "PNEUMONIA"):
            place = tmp_path / "chest_xray" / part / name
            place.mkdir(parents=True)
            Image.new("L", (20, 20)).save(place / "person1_virus_1.jpeg")

    def forget():
        for kept in (data._md5, data._load, chest_xray._checksum):
            kept.cache_clear()

    def turn():
        monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path))
        forget()

    yield turn
    forget()


@pytest.mark.parametrize("name", chapters.names())
def test_no_row_of_the_book_depends_on_the_data_that_lie_here(name, other_data):
    """As where a reader keeps the official files, of which some are not the book's."""
    before = summary.rows(name), freeze.fingerprint(name)["records"]
    other_data()
    assert data.md5("chest_xray") != chest_xray.RESIZED
    assert (summary.rows(name), freeze.fingerprint(name)["records"]) == before


def test_claims_are_not_made_from_another_data_file(other_data):
    other_data()
    with data.as_in_the_book(), pytest.raises(UserError, match="chest_xray is another file here"):
        data.load("chest_xray")
