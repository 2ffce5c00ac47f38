import json

import pytest
from conftest import toy_run

from fewlabels import chapters, data
from fewlabels.book import freeze, notebooks
from fewlabels.chapters import profiles
from fewlabels.errors import UserError

BEFORE = {
    "cells": ["a", "b", "c"],
    "parameters": {"draws": 20, "old": 1},
    "records": {"rotation-1": "x", "rotation-2": "y", "rotation-3": None, "rotation-4": "z"},
    "inputs": {"read.csv": "x"},
    "claims": {"claim R1": "x", "claims.yaml": "y"},
    "output": {"execute-results/html.json": "x"},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"inputs": {"read.csv": "y"}}, ["read.csv changed"]),
        (
            {"claims": {"claim R1": "y", "claim R2": "x", "claims.yaml": "y"}},
            ["claim R1 changed", "claim R2 added"],
        ),
        (
            {"output": {"execute-results/html.json": "y", "figure.svg": "x"}},
            ["frozen execute-results/html.json changed", "frozen figure.svg added"],
        ),
        ({"claims": {}}, ["claim R1 removed", "claims.yaml removed"]),
        ({"cells": ["a", "B", "c"]}, ["cell 2 changed"]),
        ({"cells": ["a", "n", "b", "c"]}, ["cell 2 added"]),
        ({"cells": ["a", "c"]}, ["former cell 2 removed"]),
        ({"cells": ["a", "B", "n", "c"]}, ["cell 2 changed", "cell 3 added"]),
        ({"cells": ["A", "c"]}, ["cell 1 changed", "former cell 2 removed"]),
        (
            {"parameters": {"draws": 10, "new": 1}},
            [
                "parameter new added",
                "parameter old removed",
                "parameter draws changed (20 -> 10)",
            ],
        ),
        (
            {"records": {"rotation-1": None, "rotation-2": "Y", "rotation-3": "w"}},
            [
                "record rotation-1 missing",
                "record rotation-2 changed",
                "record rotation-3 added",
                "record rotation-4 no longer planned",
            ],
        ),
    ],
)
def test_differences_name_what_changed(change, told):
    assert freeze.differences(BEFORE, BEFORE | change) == told


def store_fingerprint(name):
    """As freezing leaves it, without Quarto."""
    folder = notebooks.frozen(chapters.notebook(name))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fingerprint.json").write_text(json.dumps(freeze.fingerprint(name)))


def test_status_counts_runs_and_turns_stale(toy, record):
    assert freeze.status("toy") == freeze.Status(0, 2, ["not frozen"])
    first, second = record(toy_run(0), toy_run(1))
    store_fingerprint("toy")
    assert freeze.status("toy") == freeze.Status(2, 2, [])

    kept = second.read_bytes()
    second.write_bytes(kept + b" ")
    assert freeze.status("toy").stale == [f"record {second.stem} changed"]
    second.write_bytes(kept)
    first.unlink()
    assert freeze.status("toy") == freeze.Status(1, 2, [f"record {first.stem} missing"])


def test_a_changed_cell_or_tag_is_stale_but_outputs_are_not(toy):
    store_fingerprint("other")
    path = toy / "chapters/02-other.ipynb"
    content = json.loads(path.read_text())
    content["cells"][2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x"}]
    content["cells"][2]["execution_count"] = 7
    path.write_text(json.dumps(content))
    assert freeze.status("other").stale == []
    content["cells"][2]["metadata"]["tags"] = ["hide"]
    content["cells"][0]["source"] += "."
    path.write_text(json.dumps(content))
    assert freeze.status("other").stale == ["cell 1 changed", "cell 3 changed"]


def test_a_changed_parameter_is_stale(toy):
    store_fingerprint("toy")
    file = toy / "chapters/01-toy.ipynb"
    file.write_text(file.read_text().replace("epochs = 2", "epochs = 3"))
    stale = freeze.status("toy").stale
    assert "parameter epochs changed (2 -> 3)" in stale
    assert f"record toy-{toy_run(2).id} added" not in stale


def test_a_fingerprint_from_before_claims_and_output_were_in_it_is_stale():
    old = {key: value for key, value in BEFORE.items() if key not in ("claims", "output")}
    assert len(freeze.differences(old, BEFORE)) == 3


def test_a_chapter_is_not_frozen_on_other_data_than_the_books(toy, monkeypatch):
    run = toy_run(0)
    monkeypatch.setattr(type(run), "checksums", lambda self: {"toy": str(data._BOOK.get())})
    monkeypatch.setattr(chapters.load("toy"), "plan", lambda settings: [run])
    monkeypatch.setattr(notebooks, "execute", None)
    with pytest.raises(UserError, match="toy cannot be frozen: toy is another file here"):
        freeze.freeze("toy", None)


def test_a_damaged_fingerprint_is_stale(toy):
    store_fingerprint("other")
    file = notebooks.frozen(chapters.notebook("other")) / "fingerprint.json"
    for content in (file.read_text()[:50], "[]", '{"cells": 1}'):
        file.write_text(content)
        assert freeze.status("other").stale == ["fingerprint.json is damaged"]


def test_an_edited_page_or_figure_is_stale(toy):
    folder = notebooks.frozen(chapters.notebook("other"))
    (folder / "figure-html").mkdir(parents=True)
    (folder / "figure-html/a.svg").write_text("<svg/>")
    store_fingerprint("other")
    assert freeze.status("other").stale == []
    (folder / "figure-html/a.svg").write_text("<svg></svg>")
    assert freeze.status("other").stale == ["frozen figure-html/a.svg changed"]


def test_a_failed_execution_is_told_in_its_own_words():
    log = "Executing 'x'\n\x1b[31mfewlabels.errors.UserError: labels is 3\x1b[39m\nWARN: ...\n"
    assert freeze._reason(log.replace("\x1b[31m", "")) == "labels is 3"
    assert freeze._reason("fewlabels.errors.DiskError: x is full") == "x is full"
    assert freeze._reason("\n".join(map(str, range(100)))).splitlines()[0] == "60"


@pytest.mark.parametrize("name", chapters.names())
def test_committed_chapter_is_frozen_and_fresh(name):
    status = freeze.status(name)
    assert status.stale == []
    assert status.done == status.needed or status.partial


def test_a_chapter_that_starts_no_run_by_itself_is_frozen_with_what_is_there(toy, monkeypatch):
    values = profiles.parameters("toy", "full") | {"minutes": 0}
    monkeypatch.setattr(profiles, "parameters", lambda name, profile: values)
    monkeypatch.setattr(freeze, "fingerprint", lambda name: FINGERPRINT | {"parameters": values})
    assert freeze.status("toy").partial
    monkeypatch.setattr(profiles, "mismatch", lambda name: None)
    monkeypatch.setattr(freeze, "_require_books_data", lambda name: None)
    executed = []
    monkeypatch.setattr(notebooks, "execute", lambda *given: executed.append(given))
    monkeypatch.setattr(freeze, "_render", lambda *given: "stop here")
    with pytest.raises(notebooks.ChapterFailed, match="stop here"):
        freeze.freeze("toy", None)
    assert executed == []
    del values["minutes"]
    assert not freeze.status("toy").partial
    with pytest.raises(notebooks.ChapterFailed, match="stop here"):
        freeze.freeze("toy", None)
    assert len(executed) == 1


FINGERPRINT = {"cells": [], "records": {"toy-1": None}}


def test_a_chapter_that_shares_anothers_runs_turns_stale_with_them(toy, record, monkeypatch):
    other = chapters.load("other")
    monkeypatch.setattr(other, "plan", lambda settings: [toy_run(0)])
    store_fingerprint("other")
    assert freeze.status("other") == freeze.Status(0, 1, [])
    (file,) = record(toy_run(0))
    assert freeze.status("other").stale == [f"record {file.stem} added"]


def test_a_changed_input_is_stale(toy, monkeypatch):
    file = toy / "read.csv"
    monkeypatch.setattr(chapters.load("other"), "inputs", lambda settings: [file], raising=False)
    store_fingerprint("other")
    assert freeze.status("other").stale == []
    file.write_text("1")
    assert freeze.status("other").stale == ["read.csv added"]
    store_fingerprint("other")
    file.write_text("2")
    assert freeze.status("other").stale == ["read.csv changed"]


def test_figures_that_a_render_has_left_are_not_copied(toy, tmp_path):
    left = toy / "chapters/01-toy_files/figure-pdf"
    left.mkdir(parents=True)
    copy = tmp_path / "copy"
    copy.mkdir()
    freeze._copy_book(toy / "chapters/01-toy.ipynb", copy)
    assert (copy / "chapters/01-toy.ipynb").exists()
    assert not (copy / "chapters/01-toy_files").exists()
