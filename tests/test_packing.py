"""A folder for another machine: packed, run there with nothing of this one, and merged."""

import base64
import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from toy_runs import measured

from fewlabels import chapters, data, paths
from fewlabels.book import cli, packing
from fewlabels.book.visit import _archives, _images, _work
from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.runs import kept, manifest, reading, records, sweep

NAME = "ssl-medmnist"
TINY = {
    "blood": "cells",
    "derma": "cells",
    "budget": "source",
    "seeds": 1,
    "side_seeds": 0,
    "tuned_seeds": 0,
    "choice_seeds": 0,
    "weight_draws": 0,
    "transfer_draws": 0,
    "methods": ["rotation"],
    "epochs": 1,
    "images": 100,
    "tiny": True,
    "device": "cpu",
    "workers": 1,
}


@pytest.fixture
def book(tmp_path, monkeypatch):
    """The book as if chapter 5 were of a few runs on generated cells, without any record."""
    whole = profiles.defaults

    def defaults(notebook):
        return whole(notebook) | (TINY if NAME in notebook.name else {})

    monkeypatch.setattr(profiles, "defaults", defaults)
    monkeypatch.setattr(chapters, "names", lambda: [NAME])
    monkeypatch.setattr(chapters.load(NAME), "PACKED", {})
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path / "data"))
    (tmp_path / "data/medmnist").mkdir(parents=True)
    (tmp_path / "data/medmnist/bccd_cells.npz").write_bytes(b"of no use here")
    return tmp_path


def plan():
    return chapters.planned(NAME, profiles.settings(NAME))


def compute(run) -> Path:
    """A run's record in the book."""
    store = records.Store(paths.RESULTS / NAME)
    sweep.run_all([run], store, device="cpu", workers=1, progress=lambda *_: None)
    return store.path(run)


@pytest.fixture
def record(book):
    """The record of one run, taken out of the book again."""
    file = compute(plan()[1])
    kept = book / file.name
    file.rename(kept)
    return kept


def archive(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as made:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                made.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            made.addfile(info, io.BytesIO(member[1]))
    return path


def wheel_of(name: str, place: Path) -> Path:
    """An installed pure distribution as a wheel again."""
    own = importlib.metadata.distribution(name)
    path = place / f"{name}-{own.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        for file in own.files:
            if "__pycache__" not in file.parts and file.name not in ("INSTALLER", "REQUESTED"):
                made.write(file.locate(), file.as_posix())
    return path


def run_there(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """``run.sh`` in an environment that knows nothing of this one."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHON": sys.executable}
    command = ["bash", str(folder / "run.sh"), *arguments]
    done = subprocess.run(command, env=environment | more, capture_output=True, text=True)
    assert not [*home.iterdir()]
    return done


def test_packed_run_elsewhere_and_merged_records_are_those_of_a_local_run(
    book, capsys, monkeypatch
):
    first, *others = plan()
    compute(first)
    there = book / "there"
    there.mkdir()
    (there / "wheels").mkdir()
    wheel_of("threadpoolctl", there / "wheels")
    names = {each.metadata["Name"] for each in importlib.metadata.distributions()}
    have = book / "have.txt"
    have.write_text("Package Version\n--- ---\n" + "\n".join(f"{n} 1" for n in names))
    have.write_text(have.read_text().replace("threadpoolctl 1\n", ""))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(there / "wheels"))
    folder = there / "folder"
    command = ["pack", NAME, "--to", str(folder), "--have", str(have), "--limit", "60MB"]
    assert cli.main(command) == 0
    told = capsys.readouterr().out
    assert f"left out: 1 runs of {NAME}" in told
    assert "1 data files that these runs do not read" in told
    assert len([*folder.glob("wheels/threadpoolctl-*.whl")]) == len([*folder.glob("wheels/*")]) == 1
    assert not (folder / "data").exists()
    assert not [*folder.rglob(".git")]

    out = there / "out"
    out.mkdir()
    done = run_there(folder, "--minutes", "20", OUT=str(out))
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"{len(others)} runs made, 0 left, ")
    assert "images a second" in last and last.endswith(" seconds idle")
    assert (folder / "site/threadpoolctl.py").exists()
    assert sorted(p.name for p in there.iterdir()) == ["folder", "home", "out", "wheels"]
    (made,) = out.iterdir()

    assert cli.main(["merge", str(made)]) == 0
    assert f"{NAME}: {len(others)} new" in capsys.readouterr().out
    manifest.check()
    store = records.Store(paths.RESULTS / NAME)
    local = records.Store(book / "local")
    shutil.rmtree(book / "cache")
    sweep.run_all(others, local, device="cpu", workers=1, progress=lambda *_: None)
    for run in others:
        assert measured(store.get(run)) == measured(local.get(run))
    before = {path: path.read_bytes() for path in paths.RESULTS.rglob("*") if path.is_file()}
    assert cli.main(["merge", str(made)]) == 0
    assert f"{NAME}: {len(others)} already there" in capsys.readouterr().out
    assert before == {
        path: path.read_bytes() for path in paths.RESULTS.rglob("*") if path.is_file()
    }
    with pytest.raises(UserError, match="no run of ssl-medmnist is missing"):
        [*packing.pack([NAME], book / "again", {})]


def test_weights_travel_with_the_record_that_names_them_and_time_that_is_over_starts_no_run(book):
    start = next(run for run in plan() if run.kind == "pretraining")
    record = compute(start)
    folder = book / "folder"
    lines = [*packing.pack([NAME], folder, {})]
    assert (folder / f"results/{NAME}/{record.name}").read_bytes() == record.read_bytes()
    assert (folder / f"cache/weights/{record.stem}.pt").exists()
    assert any(line.startswith("left out: all wheels") for line in lines)
    named = [run for part in json.loads((folder / "plan.json").read_text()) for run in part["runs"]]
    assert record.name not in named
    done = run_there(folder, "--minutes", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"0 runs made, {len(named)} left, ")
    assert not [*folder.glob("*.tar.gz")]


def test_a_folder_above_the_limit_or_in_the_way_is_refused_and_nothing_is_left(book, capsys):
    folder = book / "folder"
    assert cli.main(["pack", NAME, "--to", str(folder), "--limit", "0.5MB"]) == 2
    error = capsys.readouterr().err
    assert "above the limit" in error and "  src\n" in error
    assert not folder.exists()
    assert sorted(p.name for p in book.iterdir()) == ["data"]
    folder.mkdir()
    with pytest.raises(UserError, match="is there already"):
        [*packing.pack([NAME], folder, {})]


def test_missing_runs_are_named_in_the_order_of_the_plan(book, capsys):
    assert cli.main(["status", "--missing"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [f"{r.kind}-{r.id}" for r in plan()]
    assert lines[1].endswith("cells 100% supervised scratch report 0")


def test_every_data_set_has_a_place_or_is_generated():
    places = {*packing.FILES, "cells", "digits", "generated_xrays"}
    assert {*data.DATASETS} <= places


def test_the_books_chapter_is_packed_with_the_data_that_its_runs_read(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_DATA", str(tmp_path / "data"))
    wanted = {"bloodmnist", "dermamnist", "HAM10000_metadata", "bccd_cells"}
    for name in wanted:
        packing._copy(Path(__file__), tmp_path / f"data/medmnist/{name}.npz")
    chapter = chapters.load(NAME)
    settings = profiles.settings(NAME, **chapter.PACKED)
    with data.as_in_the_book():
        planned = chapter.plan(settings)
        assert {*planned} <= {
            *chapter.beyond(profiles.settings(NAME)),
            *chapter.plan(profiles.settings(NAME)),
        }
        [*packing._data(planned, tmp_path / "target")]
    copied = {path.stem for path in tmp_path.glob("target/medmnist/*")}
    assert copied == {"bloodmnist", "dermamnist"}


def forged(path: Path, **changes) -> bytes:
    """A record with other content, and a checksum that is right."""
    content = json.loads(path.read_text())["record"] | changes
    body = json.dumps(content, indent=1, sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{{"format": 1, "sha256": "{digest}", "record":\n{body}\n}}\n'.encode()


def test_what_does_not_fit_is_refused_with_a_line_each_and_the_rest_is_taken(book, record, capsys):
    whole, other = record.read_bytes(), compute(plan()[0])
    bomb = {"dtype": "uint8", "shape": [1], "zlib_base64": _zeros(1 << 27)}
    metrics = json.loads(whole)["record"]["metrics"]
    own = f"{NAME}/{record.name}"
    lies = {
        f"{NAME}/classes-000000000000.json": (whole, "the book plans no such run"),
        f"toy/{record.name}": (whole, "the book plans no such run"),
        f"{NAME}/../{record.name}": (whole, "no file of the form"),
        f"/{own}": (whole, "no file of the form"),
        f"{NAME}/{other.name}": (whole, "the record of another run"),
    }
    contents = [
        (whole.replace(b'"accuracy": 0.', b'"accuracy": 1.'), "does not match its checksum"),
        (whole[:-200], "cannot be read"),
        (forged(record, metrics=metrics | {"accuracy": 1.5}), "accuracy is 1.5"),
        (forged(record, predictions={"test": bomb}), "cannot be read"),
        (forged(record, predictions={}), "cannot be made again"),
        (forged(record, curves=[]), "cannot be read"),
        (forged(record, cell={"dataset": "bloodmnist"}), "the record of another run"),
        (forged(record, config={"kind": "classes"}), "its id is not that"),
        (b"[" * 100_000, "cannot be read"),
    ]
    members = [(name, content) for name, (content, _) in lies.items()]
    members += [(own, content) for content, _ in contents]
    path = archive(book / "made.tar.gz", *members, (own, whole))
    assert cli.main(["merge", str(path)]) == 1
    reasons = [why for _, why in (*lies.values(), *contents)]
    *refused, taken = capsys.readouterr().out.splitlines()
    for line, why in zip(refused, reasons, strict=True):
        assert line.startswith("refused ") and why in line
    assert taken == f"{NAME}: 1 new"
    assert kept.text(paths.RESULTS / NAME, record.stem) == whole
    # One that is there stays.
    path = archive(book / "other.tar.gz", (own, forged(record, seconds=0.0)))
    assert cli.main(["merge", str(path)]) == 1
    assert "another record of this run is there, and stays" in capsys.readouterr().out
    assert kept.text(paths.RESULTS / NAME, record.stem) == whole


def _zeros(count: int) -> str:
    return base64.b64encode(zlib.compress(bytes(count), 9)).decode()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]
)
@pytest.mark.parametrize("name", ["results", f"{NAME}/classes-000000000000.json", "../../evil"])
def test_nothing_but_plain_files_leaves_an_archive(book, record, kind, name):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, str(book / "aim")
    behind = (f"{name}/x", b"written")
    before = {path: path.read_bytes() for path in book.rglob("*") if path.is_file()}
    path = archive(book.parent / f"{book.name}.tar.gz", info, behind)
    lines, refused = packing.merge([path])
    assert refused == len(lines) == 2
    assert before == {path: path.read_bytes() for path in book.rglob("*") if path.is_file()}


@pytest.mark.parametrize("what", ["text", "cut", "flipped", "bomb", "claim"])
def test_what_is_no_archive_or_unpacks_to_too_much_is_refused(book, monkeypatch, what):
    name = f"{NAME}/classes-000000000000.json"
    path = archive(book / "made.tar.gz", (name, np.random.default_rng(0).bytes(100_000)))
    if what == "text":
        path.write_text("no archive")
    elif what == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif what == "flipped":
        content = path.read_bytes()
        path.write_bytes(content[:5000] + bytes(5000) + content[10_000:])
    elif what == "bomb":
        monkeypatch.setattr(packing, "LARGEST", 50_000)
    else:
        info = tarfile.TarInfo(name)
        info.size = 1 << 40
        path.write_bytes(gzip.compress(info.tobuf()))
    with pytest.raises(UserError, match="no archive of records, cut short or too large"):
        packing.merge([path])
    assert not (book / "results").exists()


def test_what_cannot_be_merged_says_why(book):
    for path, words in (
        (book / "nope.tar.gz", "no such file or directory. Name a file that is there."),
        (book, "is a directory. Name a file, not a folder."),
        (archive(book / "empty.tar.gz"), "holds no record: name an archive that `run.sh`"),
    ):
        with pytest.raises(UserError, match=rf"^{path} .*{words}"):
            packing.merge([path])


def test_a_list_of_packages_that_is_no_text_is_named(book):
    (book / "have.txt").write_bytes(b"\xff\xfen\0u\0")
    with pytest.raises(UserError, match=r"have\.txt is no text: name what `pip list` says there"):
        [*packing._wheels([], book / "have.txt", "3.12", [], book)]


def test_records_go_into_parts_and_idle_seconds_are_those_without_a_run(book, record, monkeypatch):
    second = compute(plan()[2])
    (book / NAME).mkdir()
    record = record.rename(book / NAME / record.name)
    seconds = [reading.read(file).seconds for file in (record, second)]
    os.utime(record, (1000, 1000))
    os.utime(second, (1000, 1000))
    busy, images = _work([record, second])
    assert busy == pytest.approx(max(seconds))
    assert images == 100 + 25
    assert _images({"kind": "digits"}) == 0
    monkeypatch.setattr("fewlabels.book.visit.PART", 10)
    made = [*_archives([record, second], book)]
    assert [path.name for path in made] == ["records-1.tar.gz", "records-2.tar.gz"]
    second.unlink()
    lines, refused = packing.merge(made)
    assert (lines, refused) == ([f"{NAME}: 2 new"], 0)
