import threading

import pytest
from conftest import toy_run

from fewlabels import paths
from fewlabels.book.cli import main
from fewlabels.errors import UserError
from fewlabels.runs import kept, manifest, reading
from fewlabels.runs.records import Store


@pytest.fixture
def three(toy, record):
    """The files of three runs, and what is in them."""
    return {file: file.read_bytes() for file in record(*map(toy_run, range(3)))}


def lines(part=""):
    return (paths.RESULTS / f"toy/records{part}.jsonl").read_text().splitlines()


def test_a_kept_record_is_a_line_with_the_same_text_checksum_and_content(three):
    store, runs = Store(paths.RESULTS / "toy"), [toy_run(k) for k in range(3)]
    before, listed = [store.get(run) for run in runs], manifest.records()
    assert manifest.keep("toy") == 3
    assert [file.name for file in store.folder.iterdir()] == ["records.jsonl"]
    assert [line.split('"')[3] for line in lines()] == sorted(file.stem for file in three)
    assert {file: kept.text(store.folder, file.stem) for file in three} == three
    assert [store.get(run) for run in runs] == before and all(map(store.has, runs))
    assert manifest.records() == manifest.listed() == listed
    assert manifest.keep("toy") == 0


def test_new_records_change_no_line_that_is_there(three, record):
    manifest.keep("toy")
    before = lines()
    record(*map(toy_run, range(3, 9)))
    assert manifest.keep("toy") == 6
    assert lines() == sorted(lines())
    assert [line for line in lines() if line in before] == before and len(lines()) == 9


def test_files_stay_below_the_limit_and_later_ones_leave_the_first_as_it_is(
    three, record, monkeypatch
):
    size = max(map(len, three.values())) + 100
    monkeypatch.setattr(kept, "PART", 2 * size)
    manifest.keep("toy")
    first = lines()
    assert (len(first), len(lines("-2"))) == (2, 1)
    record(*map(toy_run, range(3, 7)))
    manifest.keep("toy")
    assert lines() == first
    assert [len(lines(part)) for part in ("", "-2", "-3", "-4")] == [2, 2, 2, 1]
    assert all(file.stat().st_size <= 2 * size for file in (paths.RESULTS / "toy").iterdir())
    assert len(kept.names(paths.RESULTS / "toy")) == 7
    monkeypatch.setattr(kept, "PART", 10)
    record(toy_run(7))
    manifest.keep("toy")
    assert len(lines("-5")) == 1


def test_one_that_was_kept_and_comes_again_as_a_file_is_dropped(three):
    manifest.keep("toy")
    before = lines()
    for file, content in three.items():
        file.write_bytes(content)
    assert manifest.keep("toy") == 3
    assert lines() == before and not [*paths.RESULTS.glob("toy/*.json")]


def test_another_record_of_a_kept_run_is_refused_and_nothing_changes(three, record):
    manifest.keep("toy")
    (paths.RESULTS / "toy/records.jsonl").rename(paths.RESULTS / "kept")
    again, *_ = record(*map(toy_run, range(3)))
    (paths.RESULTS / "kept").rename(paths.RESULTS / "toy/records.jsonl")
    again.write_bytes(again.read_bytes().replace(b'"seconds": ', b'"seconds": 1'))
    told = reading.written(reading.replace(reading.found(again.parent, _), seconds=1.0)) if 0 else 0
