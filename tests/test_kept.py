import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import toy_run
from lightning.fabric import Fabric

from fewlabels import chapters, files, paths
from fewlabels.book import freeze, notebooks
from fewlabels.book.cli import main
from fewlabels.book.planned import planned
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


def test_another_record_of_a_kept_run_is_refused_and_nothing_changes(three):
    first = min(three)
    other = reading.written(replace(reading.read(first), seconds=1.0))
    manifest.keep("toy")
    before = lines()
    first.write_bytes(other)
    with pytest.raises(UserError, match=f"{first.name} differs from the line of its name"):
        manifest.keep("toy")
    assert lines() == before and first.read_bytes() == other
    # MANIFEST tells which of them is the book's.
    with pytest.raises(UserError, match="not the record that MANIFEST lists"):
        manifest.check()


def test_a_damaged_line_is_an_error_and_no_run_is_made_in_its_place(three):
    first = min(three)
    manifest.keep("toy")
    file, run = paths.RESULTS / "toy/records.jsonl", toy_run(0)
    file.write_text(file.read_text().replace('"accuracy": 0.5', '"accuracy": 0.9'))
    store = Store(file.parent)
    for ask in (store.get, lambda run: store.run(run, Fabric(accelerator="cpu"))):
        with pytest.raises(
            UserError, match=rf"records\.jsonl/{run.kind}-{run.id} is damaged: .*sum"
        ):
            ask(run)
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    # A file of its own, restored beside the line, counts.
    (first.parent / f"{run.kind}-{run.id}.json").write_bytes(three[store.path(run)])
    assert store.get(run).metrics == {"accuracy": 0.5}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "<<<<<<< ours\n",
        lambda text: text + text.splitlines()[0] + "\n",
        lambda text: text + "\n",
    ],
)
def test_a_line_that_is_no_record_or_comes_twice_is_named(three, change):
    manifest.keep("toy")
    file = paths.RESULTS / "toy/records.jsonl"
    file.write_text(change(file.read_text()))
    with pytest.raises(UserError, match=r"records\.jsonl, line 4: .*git checkout"):
        manifest.records()
    assert main(["verify"]) == 2


def test_a_record_in_two_files_is_named(three):
    manifest.keep("toy")
    file = paths.RESULTS / "toy/records.jsonl"
    file.with_name("records-2.jsonl").write_text(file.read_text().splitlines()[1] + "\n")
    with pytest.raises(UserError, match=r"records-2\.jsonl has toy-\w+, which another file has"):
        manifest.records()


def test_a_keep_that_was_stopped_is_ended_by_the_next(three, monkeypatch):
    unlink = Path.unlink

    def stop(path, **more):
        if path in three:
            raise KeyboardInterrupt
        unlink(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop)
        with pytest.raises(KeyboardInterrupt):
            manifest.keep("toy")
    assert len(lines()) == 3 and all(file.exists() for file in three)
    assert manifest.records() == manifest.listed()
    assert manifest.keep("toy") == 3
    assert len(lines()) == 3 and not any(file.exists() for file in three)


def test_a_reader_beside_it_never_misses_a_record(three):
    folder, missed, ended = paths.RESULTS / "toy", [], threading.Event()

    def look():
        while not ended.is_set():
            missed.extend(file for file in three if kept.text(folder, file.stem) != three[file])

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(50):
        manifest.keep("toy")
        for file, content in three.items():
            with files.whole(file) as stream:
                stream.write(content)
    ended.set()
    reader.join()
    assert missed == []


def test_the_command_collects_the_books_records_only(three, capsys, monkeypatch):
    assert main(["keep", "toy"]) == 0
    assert capsys.readouterr().out == "toy: 3 records collected\n"
    elsewhere = Store(paths.ROOT / "elsewhere/toy")
    elsewhere.run(toy_run(0), Fabric(accelerator="cpu"))
    monkeypatch.setattr(chapters.load("toy"), "store", lambda settings: elsewhere)
    assert main(["keep"]) == 0
    assert "toy: 0 records collected" in capsys.readouterr().out
    assert elsewhere.path(toy_run(0)).exists()


def test_status_counts_kept_records_and_a_page_stays_fresh(three, capsys):
    page = notebooks.frozen(chapters.notebook("toy"))
    page.mkdir(parents=True)
    (page / freeze.FINGERPRINT).write_text(json.dumps(freeze.fingerprint("toy")))
    manifest.keep("toy")
    assert freeze.status("toy") == freeze.Status(2, 2, [])


def test_status_needs_no_torch_once_it_knows_the_plan(toy):
    freeze.status("toy")
    (file,) = (toy.parent / "cache/planned").glob("toy.json")
    stored = json.loads(file.read_text())
    assert [*map(Path, stored["planned"]["records"])] == [
        Store(paths.RESULTS / "toy").path(toy_run(k)) for k in range(2)
    ]
    told = "import sys, fewlabels.book.cli, fewlabels.book.freeze; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_plan_is_made_again_where_the_notebook_has_changed(toy):
    assert len(planned("toy").records) == 2
    file = chapters.notebook("toy")
    file.write_text(file.read_text().replace("epochs = 2", "epochs = 3"))
    assert len(planned("toy").records) == 3
    (toy.parent / "cache/planned/toy.json").write_text("{")
    assert len(planned("toy").records) == 3
