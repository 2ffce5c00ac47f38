import errno
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from toy_runs import Toy, measured, run_sweep, sweep_of_seven, wait_until

from fewlabels import data, paths
from fewlabels.errors import DiskError, UserError
from fewlabels.kinds.digits import DigitClassification
from fewlabels.kinds.rotnet import FeatureMap, RotationPretraining
from fewlabels.learn.training import Recipe
from fewlabels.runs import reading, records
from fewlabels.runs.records import Experiment, Outcome, Store

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def executed(log):
    """Draws of the toys that were computed, in that order."""
    return log.read_text().split() if log.exists() else []


def start(command, **variables):
    environment = os.environ | {f"TOY_{name}": str(value) for name, value in variables.items()}
    return subprocess.Popen([sys.executable, "-c", command], cwd=TESTS, env=environment)


# Identity

RECIPE = Recipe(20, 16, 0.01)
PRETRAINING = RotationPretraining("digits", "tuned", 0, 500, RECIPE)
DIGITS = DigitClassification(
    "digits", "tuned", "rotnet", "fine-tuned", 100, 0, RECIPE, pretraining=PRETRAINING
)
# One other value of every field that may differ by itself.
OTHERS = {
    PRETRAINING: {
        "dataset": "mnist",
        "protocol": "report",
        "seed": 1,
        "unlabelled": 501,
        "training": replace(RECIPE, rate=0.02),
        "scored_on": "validation",
    },
    DIGITS: {
        "backbone": "frozen",
        "labels": 110,
        "draw": 1,
        "training": replace(RECIPE, keep="best"),
        "augmented": True,
        "pretraining": replace(PRETRAINING, seed=1),
    },
    replace(DIGITS, pretraining=None, method="s4l", backbone="scratch", unlabelled=100): {
        "method": "fixmatch",
        "unlabelled": 101,
        "dataset": "mnist",
        "scored_on": "validation",
    },
    replace(DIGITS, pretraining=None, method="cnn", backbone="scratch"): {"protocol": "report"},
    replace(DIGITS, pretraining=None, method="cnn", backbone="scratch", protocol="report"): {
        "architecture": "six convolutions"
    },
    replace(PRETRAINING, protocol="report"): {"architecture": "two convolutions"},
    replace(DIGITS, backbone="frozen", readout="kNN"): {"readout": "linear probe"},
    FeatureMap("digits", PRETRAINING): {
        "images": 10,
        "dataset": "mnist",
        "pretraining": replace(PRETRAINING, seed=1),
    },
}


def test_every_field_of_every_kind_is_part_of_the_identity():
    covered = {}
    for run, others in OTHERS.items():
        covered.setdefault(type(run), set()).update(others)
        for field, value in others.items():
            assert replace(run, **{field: value}).id != run.id, field
    assert covered == {kind: {field.name for field in fields(kind)} for kind in covered}


def test_every_setting_of_the_recipe_is_part_of_the_identity():
    others = {
        "steps": 21,
        "batch_size": 17,
        "rate": 0.02,
        "optimiser": "sgd",
        "weight_decay": 0.1,
        "schedule": "cosine",
        "evaluations": 10,
        "keep": "best",
    }
    assert set(others) == {field.name for field in fields(Recipe)}
    changed = [replace(PRETRAINING, training=replace(RECIPE, **{k: v})) for k, v in others.items()]
    assert len({run.id for run in [PRETRAINING, *changed]}) == 9


def test_the_same_config_has_the_same_id_and_it_is_the_hash_of_config_and_data(monkeypatch):
    monkeypatch.setattr(data, "md5", lambda name: "abc")
    content = (
        b'{"config":{"dataset":"digits","draw":3,"fails":false,"kind":"toy","recipe":1,'
        b'"start":{"dataset":"digits","draw":2,"fails":false,"kind":"toy","recipe":1,'
        b'"start":null}},"data":{"digits":"abc"},"format":1}'
    )
    expected = hashlib.sha256(content).hexdigest()[:12]
    assert Toy("digits", 3, Toy("digits", 2)).id == expected


def test_other_data_and_another_recipe_make_another_run(monkeypatch):
    @dataclass(frozen=True)
    class Revised(Toy, recipe=2):
        pass

    before = Toy("digits", 3).id
    assert Revised("digits", 3).id != before
    # A new version of what a run starts from is another run too.
    assert Toy("digits", 4, Revised("digits", 3)).id != Toy("digits", 4, Toy("digits", 3)).id
    monkeypatch.setattr(data, "md5", lambda name: "0" * 32)
    assert Toy("digits", 3).id != before


def test_the_order_of_the_fields_does_not_matter():
    def kind_with(*names):
        @dataclass(frozen=True)
        class Ordered(Experiment, kind="ordered", recipe=1):
            __annotations__ = {"dataset": str} | {name: int for name in names}

        return Ordered

    one, other = kind_with("a", "b"), kind_with("b", "a")
    assert one("digits", a=1, b=2).id == other("digits", a=1, b=2).id
    assert one("digits", a=1, b=2).id != other("digits", a=2, b=1).id


# Records


def test_a_record_holds_the_run_and_where_it_was_made(store, fabric, log):
    start = store.run(Toy("digits", 0), fabric)
    run = Toy("digits", 1, Toy("digits", 0))
    record = store.run(run, fabric)
    assert record.id == run.id
    assert record.config["kind"] == "toy"
    assert record.config["recipe"] == 1
    assert record.config["start"]["draw"] == 0
    assert record.cell == run.cell()
    assert record.data == {"digits": "7696c07daa6d85010f8268703ab8b067"}
    (weights,) = (Path(os.environ["FEWLABELS_CACHE"]) / "weights").glob(f"*{start.id}.pt")
    assert record.inputs == {start.id: hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert start.inputs == {}
    assert record.versions["torch"] == torch.__version__.split("+")[0]
    assert record.hardware["device"] == "cpu"
    assert record.hardware["precision"] == "32-true"
    assert record.seconds > 0


def test_a_record_survives_its_trip_to_the_disk(store, fabric):
    run = Toy("digits", 0)
    computed, read = store.run(run, fabric), Store(store.folder).get(run)
    assert measured(computed) == measured(read)
    assert np.isnan(read.metrics["auc"])
    assert read.predictions["classes"].dtype == np.uint8
    assert read.predictions["probabilities"].dtype == np.float16
    assert read.predictions["probabilities"].shape == (64, 2)
    assert (computed.seconds, computed.finished) == (read.seconds, read.finished)
    assert [measured(record) for record in store.records()] == [measured(read)]
    assert [path.name for path in store.folder.iterdir()] == [f"toy-{run.id}.json"]


def test_a_finished_run_is_not_computed_again(store, fabric, log):
    for _ in range(3):
        store.run(Toy("digits", 0), fabric)
    assert executed(log) == ["0"]
    assert Store(store.folder).get(Toy("digits", 1)) is None


def altered(text):
    """One digit of one metric changed."""
    at = text.index('"accuracy": ') + len('"accuracy": 0.')
    return text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]


DAMAGES = {
    "truncated": lambda text: text[: len(text) // 2],
    "without its last byte": lambda text: text.rstrip()[:-1],
    "empty": lambda text: "",
    "one digit altered": altered,
    "another format": lambda text: text.replace('{"format": 1', '{"format": 2', 1),
    "not a record": lambda text: '["a", "list"]\n',
    "not text": lambda text: b"\xff\xfe\x00garbage",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_set_aside_and_computed_again(store, fabric, log, damage):
    run = Toy("digits", 0)
    before = store.run(run, fabric)
    damaged = damage(store.path(run).read_text())
    damaged = damaged if isinstance(damaged, bytes) else damaged.encode()
    store.path(run).write_bytes(damaged)
    with pytest.warns(UserWarning, match=f"toy-{run.id}.json was moved to .*set-aside"):
        assert store.get(run) is None
    assert (store.folder / "set-aside" / store.path(run).name).read_bytes() == damaged
    assert not store.path(run).exists()
    assert measured(store.run(run, fabric)) == measured(before)
    assert executed(log) == ["0", "0"]


def test_damaged_records_of_one_run_are_all_kept(store, fabric):
    run = Toy("digits", 0)
    for content in ("first", "second", "third"):
        store.run(run, fabric)
        store.path(run).write_text(content)
        with pytest.warns(UserWarning, match="set-aside"):
            store.get(run)
    kept = sorted((store.folder / "set-aside").iterdir(), key=lambda path: path.read_text())
    stem = f"toy-{run.id}"
    assert [path.name for path in kept] == [f"{stem}.json", f"{stem}-2.json", f"{stem}-3.json"]
    assert [path.read_text() for path in kept] == ["first", "second", "third"]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_reading_only_a_damaged_record_is_an_error_and_stays(store, fabric, log, damage):
    run = Toy("digits", 0)
    store.run(run, fabric)
    damaged = damage(store.path(run).read_text())
    store.path(run).write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    before = store.path(run).read_bytes()
    with records.reading_only():
        for read in (store.get, lambda run: store.run(run, fabric)):
            with pytest.raises(UserError, match=rf"toy-{run.id}\.json is damaged: .*git checkout"):
                read(run)
    with pytest.raises(records.Damaged, match=f"toy-{run.id}"):
        store.records()
    assert store.path(run).read_bytes() == before
    assert [path.name for path in store.folder.iterdir()] == [store.path(run).name]
    assert executed(log) == ["0"]


@pytest.mark.parametrize("workers", [1, 2])
def test_reading_only_nothing_is_computed(store, log, workers):
    with (
        records.reading_only(),
        pytest.raises(UserError, match=r"is missing, and 6 more of its runs"),
    ):
        run_sweep(str(store.folder), workers)
    assert executed(log) == []


def forged(path, **changes):
    """Change what a record says, with its checksum made again."""
    record = json.loads(path.read_text())["record"]
    body = json.dumps(record | changes, indent=1, sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(f'{{"format": 1, "sha256": "{digest}", "record":\n{body}\n}}\n')


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metrics": {"accuracy": "99"}}, "not all numbers"),
        ({"seconds": "<script>"}, "not all numbers"),
        ({"data": {"digits": "<b>"}}, "its id is not that of its config and data"),
        ({"config": {"kind": "toy", "dataset": "<b>"}}, "its id is not that"),
        ({"versions": ["torch"]}, "cannot be read"),
        ({"metrics": [1, 2]}, "cannot be read"),
        ({"predictions": {"classes": {"dtype": "O", "shape": [1], "zlib_base64": "eJw="}}}, "read"),
    ],
)
def test_a_record_that_was_tampered_with_is_not_used(store, fabric, changes, told):
    run = Toy("digits", 0)
    store.run(run, fabric)
    forged(store.path(run), **changes)
    with pytest.raises(records.Damaged, match=told):
        reading.read(store.path(run))
    with pytest.warns(UserWarning, match="set-aside"):
        assert store.get(run) is None


def test_text_of_a_record_holds_no_markup(store, fabric):
    run = Toy("digits", 0)
    store.run(run, fabric)
    bad = "<script>alert(1)</script> ![x](/etc/passwd) `{=html}` [AMD]"
    forged(
        store.path(run),
        hardware={"device": bad, "processor": "x86_64", "threads": 1, "precision": "32-true"},
        versions={bad: bad, "torch": "2.8.0+cu128"},
        finished=bad,
        cell={"method": bad},
    )
    found = store.get(run)
    texts = [found.finished, *found.hardware.values(), *found.versions, *found.versions.values()]
    assert not any(set("<>[]`{}!") & set(str(text)) for text in texts)
    assert (found.hardware["processor"], found.versions["torch"]) == ("x86_64", "2.8.0+cu128")
    # What tables call the run is not the record's to say.
    assert found.cell == run.cell()


def test_a_folder_or_a_very_deep_file_in_the_place_of_a_record_is_set_aside(store, fabric, log):
    run = Toy("digits", 0)
    store.path(run).mkdir(parents=True)
    with pytest.warns(UserWarning, match="it is a folder"):
        store.run(run, fabric)
    store.path(run).write_text("[" * 100_000)
    with pytest.warns(UserWarning, match="cannot be read"):
        store.run(run, fabric)
    assert executed(log) == ["0", "0"]


def test_another_runs_record_under_this_name_is_set_aside(store, fabric, log):
    run, other = Toy("digits", 0), Toy("digits", 1)
    store.run(other, fabric)
    shutil.copy(store.path(other), store.path(run))
    with pytest.warns(UserWarning, match="another run"):
        record = store.run(run, fabric)
    assert record.config["draw"] == 0
    assert executed(log) == ["1", "0"]
    assert store.get(other).config["draw"] == 1


def test_a_record_of_other_data_under_this_name_is_set_aside(store, fabric, log, monkeypatch):
    run = Toy("digits", 0)
    with monkeypatch.context() as patch:
        patch.setattr(data, "md5", lambda name: "0" * 32)
        store.run(run, fabric)
        other = store.path(run)
    shutil.move(other, store.path(run))
    with pytest.warns(UserWarning, match="another run"):
        assert store.get(run) is None


def refuses(code):
    def replace(*_):
        raise OSError(code, os.strerror(code))

    return replace


def test_a_full_disk_leaves_no_record(store, fabric, log, monkeypatch, tmp_path):
    run = Toy("digits", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuses(errno.ENOSPC))
        with pytest.raises(DiskError, match=r"no space left on device\. Free some space"):
            store.run(run, fabric)
    assert list(store.folder.iterdir()) == []
    assert list((tmp_path / "cache/weights").iterdir()) == []
    assert store.run(run, fabric).metrics["accuracy"] > 0.5
    assert executed(log) == ["0", "0"]


@pytest.mark.parametrize("folder", ["weights", "unfinished", "locks"])
def test_a_folder_of_another_user_in_the_cache_is_refused_before_the_work(
    store, fabric, log, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != folder)
    with pytest.raises(DiskError, match=rf"{folder} cannot be used: permission .*FEWLABELS_CACHE"):
        store.run(Toy("digits", 0), fabric)
    assert executed(log) == []


def test_a_run_that_fails_leaves_nothing(store, fabric):
    with pytest.raises(RuntimeError, match="toy 0 fails"):
        store.run(Toy("digits", 0, fails=True), fabric)
    assert store.records() == []


# Weights


def test_weights_are_those_the_run_ended_with(store, fabric, log):
    run = Toy("digits", 0)
    record = store.run(run, fabric)
    weights = store.weights(run, fabric)
    torch.manual_seed(0)
    points = torch.randn(64, 8)
    logits = points @ weights["weight"].T + weights["bias"]
    expected = logits.softmax(dim=1).numpy().astype(np.float16)
    assert np.allclose(record.predictions["probabilities"], expected, atol=1e-3)
    assert executed(log) == ["0"]


def test_lost_weights_are_computed_again_and_the_record_stays(store, fabric, log, tmp_path):
    run = Toy("digits", 0)
    store.run(run, fabric)
    weights = store.weights(run, fabric)
    content, changed = store.path(run).read_bytes(), store.path(run).stat().st_mtime_ns
    shutil.rmtree(tmp_path / "cache")
    again = store.weights(run, fabric)
    assert executed(log) == ["0", "0"]
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert store.path(run).read_bytes() == content
    assert store.path(run).stat().st_mtime_ns == changed


CUTS = {"cut": lambda content: content[:1000], "empty": lambda content: b"", "foreign": None}


@pytest.mark.parametrize("damage", CUTS.values(), ids=CUTS)
def test_damaged_weights_are_computed_again_before_the_run(store, fabric, log, tmp_path, damage):
    first, run = Toy("digits", 0), Toy("digits", 1, Toy("digits", 0))
    before = store.run(run, fabric)
    (kept,) = (tmp_path / "cache/weights").glob(f"*-{first.id}.pt")
    if damage is None:
        torch.save([1, 2], kept)
    else:
        kept.write_bytes(damage(kept.read_bytes()))
    store.path(run).unlink()
    with pytest.warns(UserWarning, match=f"{kept.name} was moved to .*set-aside"):
        again = store.run(run, fabric)
    assert measured(again) == measured(before) and again.inputs == before.inputs
    assert executed(log) == ["0", "1", "0", "1"]


def test_weights_of_a_run_nobody_made_yet_leave_its_record_too(store, fabric, log):
    store.weights(Toy("digits", 0), fabric)
    assert store.get(Toy("digits", 0)).metrics["accuracy"] > 0.5
    assert executed(log) == ["0"]


def test_a_run_is_the_same_whether_its_start_is_at_hand_or_not(store, fabric, log, tmp_path):
    first, run = Toy("digits", 0), Toy("digits", 1, Toy("digits", 0))
    store.run(first, fabric)
    at_hand = store.run(run, fabric)
    shutil.rmtree(tmp_path / "cache")
    store.path(run).unlink()
    assert measured(store.run(run, fabric)) == measured(at_hand)
    assert executed(log) == ["0", "1", "0", "1"]


def test_outcomes_without_weights_leave_none(store, fabric, tmp_path):
    @dataclass(frozen=True)
    class Light(Toy, kind="light"):
        def execute(self, fabric, store):
            return Outcome(metrics={"accuracy": 1.0})

    store.run(Light("digits", 0), fabric)
    assert list((tmp_path / "cache").rglob("*.pt")) == []


def kept_weights(run, tmp_path):
    (path,) = (tmp_path / "cache/weights").glob(f"*-{run.id}.pt")
    return path


def flipped(path):
    """One byte of the largest tensor changed: torch reads the file without a word."""
    content = bytearray(path.read_bytes())
    at = content.rindex(np.float32(torch.load(path)["weight"][0, 0].item()).tobytes())
    content[at] ^= 1
    path.write_bytes(content)


def nan(path):
    torch.save({name: each * float("nan") for name, each in torch.load(path).items()}, path)


@pytest.mark.parametrize("damage", [flipped, nan, lambda path: torch.save({}, path)])
def test_weights_other_than_the_record_names_are_made_again(store, fabric, log, tmp_path, damage):
    first, run = Toy("digits", 0), Toy("digits", 1, Toy("digits", 0))
    before = store.run(run, fabric)
    kept = kept_weights(first, tmp_path)
    assert store.get(first).weights == hashlib.sha256(kept.read_bytes()).hexdigest()
    damage(kept)
    store.path(run).unlink()
    with pytest.warns(UserWarning, match=f"{kept.name} was moved to .*not the file"):
        again = store.run(run, fabric)
    assert measured(again) == measured(before)
    assert executed(log) == ["0", "1", "0", "1"]
    assert store.has_weights(first)


def test_weights_that_come_out_otherwise_when_made_again_are_told_once(
    store, fabric, log, tmp_path, monkeypatch
):
    """As on another machine, which rounds otherwise."""
    run = Toy("digits", 0)
    store.run(run, fabric)
    record = store.path(run).read_bytes()
    kept_weights(run, tmp_path).unlink()
    real = Toy.execute

    def execute(self, fabric, store):
        outcome = real(self, fabric, store)
        return replace(outcome, weights={k: v + 1e-7 for k, v in outcome.weights.items()})

    with monkeypatch.context() as patch:
        patch.setattr(Toy, "execute", execute)
        with pytest.warns(UserWarning, match=f"weights of toy-{run.id} were made again and differ"):
            store.weights(run, fabric)
    # They are whole, and not made a third time.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.weights(run, fabric)
    assert executed(log) == ["0", "0"]
    assert store.path(run).read_bytes() == record
    # What starts from them says so.
    made = store.run(Toy("digits", 1, run), fabric).inputs[run.id]
    assert made == hashlib.sha256(kept_weights(run, tmp_path).read_bytes()).hexdigest()
    assert made != store.get(run).weights


def test_weights_of_records_from_before_they_named_them_are_used(store, fabric, log, tmp_path):
    run = Toy("digits", 0)
    store.run(run, fabric)
    forged(store.path(run), weights="")
    kept_weights(run, tmp_path).with_suffix(".sha256").unlink()
    store.weights(run, fabric)
    assert executed(log) == ["0"]


def test_half_written_weights_are_never_seen(store, fabric, tmp_path, monkeypatch):
    def half(value, stream):
        stream.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(KeyboardInterrupt):
            store.run(Toy("digits", 0), fabric)
    assert list((tmp_path / "cache/weights").iterdir()) == []


class Bomb:
    """Unpickling it makes a file."""

    def __reduce__(self):
        return Path.touch, (Path(os.environ["TOY_LOG"]).with_name("exploded"),)


def test_weights_that_hold_code_are_not_run(store, fabric, log, tmp_path):
    run = Toy("digits", 0)
    store.run(run, fabric)
    kept = kept_weights(run, tmp_path)
    torch.save({"weight": Bomb()}, kept)
    with pytest.warns(UserWarning, match="set-aside"):
        store.weights(run, fabric)
    # Neither where the record names no weights, nor where it names these.
    torch.save({"weight": Bomb()}, kept)
    kept.with_suffix(".sha256").unlink()
    forged(store.path(run), weights="")
    with pytest.warns(UserWarning, match="cannot be read"):
        store.weights(run, fabric)
    torch.save({"weight": Bomb()}, kept)
    forged(store.path(run), weights=hashlib.sha256(kept.read_bytes()).hexdigest())
    with pytest.raises(pickle.UnpicklingError):
        store.weights(run, fabric)
    assert not log.with_name("exploded").exists()


# Several processes


def test_two_processes_that_ask_at_once_compute_once(store, fabric, log):
    run = Toy("digits", 0)
    other = start(f"import toy_runs; toy_runs.run_one({str(store.folder)!r})", PAUSE=1)
    wait_until(lambda: executed(log), other)
    assert store.get(run) is None
    record = store.run(run, fabric)
    assert other.wait() == 0
    assert executed(log) == ["0"]
    assert measured(store.get(run)) == measured(record)


def children(pid):
    """Processes that a process has started."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [map(int, line.split()) for line in table.stdout.splitlines()]
    return [child for child, parent in pairs if parent == pid]


def alive(pid):
    """Whether the process runs (one that ended and that nobody has waited for does not)."""
    table = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(table.stdout.strip()) and "Z" not in table.stdout


def test_a_killed_sweep_started_again_ends_as_an_undisturbed_one(store, log, tmp_path, monkeypatch):
    killed = start(f"import toy_runs; toy_runs.run_sweep({str(store.folder)!r}, 2)", STOP=4)
    # Draws 0 to 3 are finished, and two others under way for ever.
    wait_until(lambda: len(list(store.folder.glob("*.json"))) == 4, killed)
    wait_until(lambda: len(executed(log)) == 6, killed)
    workers = children(killed.pid)
    assert len(workers) >= 2
    killed.kill()
    killed.wait()
    # A worker whose parent is gone goes too.
    end = time.monotonic() + 300
    while left := [*filter(alive, workers)]:
        if time.monotonic() > end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            pytest.fail("workers outlive the process that has started them")
        time.sleep(0.02)
    assert {record.config["draw"] for record in store.records()} == {0, 1, 2, 3}
    run_sweep(str(store.folder), workers=1)
    assert sorted(executed(log)) == sorted([*"0123456", *"45"])

    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "another cache"))
    run_sweep(str(tmp_path / "undisturbed"), workers=1)
    undisturbed = Store(tmp_path / "undisturbed")
    assert [measured(record) for record in store.records()] == [
        measured(record) for record in undisturbed.records()
    ]
    assert {r.id for r in undisturbed.records()} == {run.id for run in sweep_of_seven()}


def test_hardware_names_threads_and_precision():
    found = records.hardware(Fabric(accelerator="cpu", precision="bf16-mixed"))
    assert found["precision"] == "bf16-mixed"
    assert found["threads"] == torch.get_num_threads()
    assert found["devices"] == 1
    json.dumps(found)


def test_a_chapters_store_is_the_books_or_the_readers(log, tmp_path):
    assert Store.of_chapter("fusion", "results").folder == paths.RESULTS / "fusion"
    assert Store.of_chapter("fusion", "cache").folder == tmp_path / "cache" / "runs" / "fusion"
