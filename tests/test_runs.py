import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from toy_runs import Toy, measured, run_sweep, sweep_of_seven, wait_until

from fewlabels import data, paths, runs
from fewlabels.experiments.rotnet import DigitClassification, FeatureMap, RotationPretraining
from fewlabels.runs import Experiment, Outcome, Store
from fewlabels.training import Recipe

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def fabric():
    return Fabric(accelerator="cpu")


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


def start(command, pause):
    environment = os.environ | {"TOY_PAUSE": str(pause)}
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
    class Revised(Toy):
        recipe = 2

    before = Toy("digits", 3).id
    assert Revised("digits", 3).id != before
    # A new version of what a run starts from is another run too.
    assert Toy("digits", 4, Revised("digits", 3)).id != Toy("digits", 4, Toy("digits", 3)).id
    monkeypatch.setattr(data, "md5", lambda name: "0" * 32)
    assert Toy("digits", 3).id != before


def test_the_order_of_the_fields_does_not_matter():
    def kind_with(*names):
        @dataclass(frozen=True)
        class Ordered(Experiment):
            kind = "ordered"
            recipe = 1

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


def test_a_damaged_record_does_not_hide_the_others(store, fabric):
    for draw in range(3):
        store.run(Toy("digits", draw), fabric)
    store.path(Toy("digits", 1)).write_text("{")
    with pytest.warns(UserWarning, match="set-aside"):
        found = store.records()
    assert {record.config["draw"] for record in found} == {0, 2}


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


def test_a_full_disk_leaves_no_record(store, fabric, log, monkeypatch):
    def write_half(path, text):
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError(28, "No space left on device")

    run = Toy("digits", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write_half)
        with pytest.raises(OSError, match="No space left"):
            store.run(run, fabric)
    assert list(store.folder.glob("*.json")) == []
    assert store.get(run) is None
    assert store.run(run, fabric).metrics["accuracy"] > 0.5
    assert executed(log) == ["0", "0"]


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
    class Light(Toy):
        kind = "light"

        def execute(self, fabric, store):
            return Outcome(metrics={"accuracy": 1.0})

    store.run(Light("digits", 0), fabric)
    assert list((tmp_path / "cache").rglob("*.pt")) == []


# Several processes


def test_two_processes_that_ask_at_once_compute_once(store, fabric, log):
    run = Toy("digits", 0)
    other = start(f"import toy_runs; toy_runs.run_one({str(store.folder)!r})", pause=1)
    wait_until(lambda: executed(log))
    assert store.get(run) is None
    record = store.run(run, fabric)
    assert other.wait(timeout=60) == 0
    assert executed(log) == ["0"]
    assert measured(store.get(run)) == measured(record)


def test_a_killed_sweep_started_again_ends_as_an_undisturbed_one(store, log, tmp_path, monkeypatch):
    killed = start(f"import toy_runs; toy_runs.run_sweep({str(store.folder)!r}, 2)", pause=0.5)
    wait_until(lambda: len(list(store.folder.glob("*.json"))) >= 3)
    killed.kill()
    killed.wait()
    finished = {record.config["draw"] for record in store.records()}
    assert 3 <= len(finished) < 7
    run_sweep(str(store.folder), workers=1)
    assert all(executed(log).count(str(draw)) == 1 for draw in finished)

    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "another cache"))
    run_sweep(str(tmp_path / "undisturbed"), workers=1)
    undisturbed = Store(tmp_path / "undisturbed")
    assert [measured(record) for record in store.records()] == [
        measured(record) for record in undisturbed.records()
    ]
    assert {r.id for r in undisturbed.records()} == {run.id for run in sweep_of_seven()}


def test_hardware_names_threads_and_precision():
    found = runs.hardware(Fabric(accelerator="cpu", precision="bf16-mixed"))
    assert found["precision"] == "bf16-mixed"
    assert found["threads"] == torch.get_num_threads()
    assert found["devices"] == 1
    json.dumps(found)


def test_a_chapters_store_is_the_books_or_the_readers(log, tmp_path):
    assert Store.of_chapter("fusion", "results").folder == paths.RESULTS / "fusion"
    assert Store.of_chapter("fusion", "cache").folder == tmp_path / "cache" / "runs" / "fusion"
