"""Sweeps that are stopped by a signal, by the clock or by the system, and go on."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_runs import Toy, measured, run_sweep, wait_until

from fewlabels.errors import UserError
from fewlabels.runs import under_way
from fewlabels.runs.expected import Expected
from fewlabels.runs.records import Store
from fewlabels.runs.sweep import run_all

TESTS = Path(__file__).parent


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    return Store(tmp_path / "results")


def quiet(done, missing, record):
    pass


def record(run, seconds, device="cpu"):
    config = run.describe()
    return SimpleNamespace(config=config, seconds=seconds, hardware={"device": device})


def test_runs_take_as_long_as_those_that_differ_in_their_repetition():
    expected = Expected(cpu=True)
    first = Toy("digits", 0)
    for seconds in (10, 60, 20):
        expected.learn(record(Toy("digits", 9, first), seconds))
    expected.learn(record(Toy("digits", 8, Toy("digits", 3)), 30, device="a card"))
    run = Toy("digits", 1, Toy("digits", 2))
    assert expected.seconds(run) == 20
    assert expected.seconds(first) is None
    assert expected.seconds(replace(run, fails=True)) is None
    assert expected.left([run], 2) == "1 run remains, about 20 seconds"
    assert expected.left([run] * 30, 2) == "30 runs remain, about 5 minutes"
    assert expected.left([first, run], 2) == (
        "2 runs remain, about 20 seconds, no record says how long 1 of them take"
    )
    assert expected.left([first], 1) == "1 run remains, no record says how long"


def test_nothing_is_started_that_will_not_end_in_time(store, tmp_path, monkeypatch, capsys):
    short, long = Toy("digits", 0), Toy("digits", 0, fails="NonFiniteLoss")
    known = {False: 40.0, "NonFiniteLoss": 50.0}
    monkeypatch.setattr(Expected, "seconds", lambda self, run: known[run.fails])
    how = {"device": "cpu", "workers": 1, "progress": quiet}
    clock = [time.time()]
    real = Toy.execute

    def execute(self, fabric, store):
        clock[0] += 40
        return real(replace(self, fails=False), fabric, store)

    monkeypatch.setattr(Toy, "execute", execute)
    monkeypatch.setattr(time, "time", lambda: clock[0])
    runs = [short, replace(short, draw=1), long]

    def executed():
        return (tmp_path / "log").read_text().split()

    # After the first run 20 seconds are left: too few for either of the others.
    found = run_all(runs, store, **how, minutes=1)
    assert [each is not None for each in found] == [True, False, False]
    told = "2 runs remain, about 90 seconds. Started again, the sweep goes on."
    assert capsys.readouterr().out.strip() == told
    assert executed() == ["0"]
    # Less than any of them takes: one is begun, because no such time will ever be enough.
    assert run_all(runs, store, **how, minutes=0.5)[1:] == [None, None]
    assert executed() == ["0", "1"]


def test_the_end_of_the_time_stops_a_training_which_goes_on(store, tmp_path, monkeypatch):
    run = Toy("digits", 0)
    undisturbed = run_all([run], Store(tmp_path / "undisturbed"), "cpu", workers=1, progress=quiet)
    how = {"device": "cpu", "workers": 1, "progress": quiet}
    with monkeypatch.context() as patch:
        patch.setenv("TOY_STEP", "0.2")
        assert run_all([run], store, **how, minutes=0.5 / 60) == [None]
    (state,) = (tmp_path / "cache/unfinished").glob("*/0.pt")
    assert state.exists()
    (found,) = run_all([run], store, **how, minutes=10)
    assert measured(found) == measured(undisturbed[0])


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_signal_stops_a_sweep_which_goes_on(store, tmp_path, monkeypatch, workers, number):
    command = f"import toy_runs; toy_runs.run_sweep({str(store.folder)!r}, {workers})"
    stopped = subprocess.Popen(
        [sys.executable, "-c", command],
        cwd=TESTS,
        env=os.environ | {"TOY_STEP": "0.3"},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(list(store.folder.glob("*.json"))) == 1, stopped)
    log = tmp_path / "log"
    wait_until(lambda: len(log.read_text().split()) == 1 + workers, stopped)
    time.sleep(0.5)
    stopped.send_signal(number)
    _, error = stopped.communicate()
    assert error.strip().splitlines()[-1].startswith("KeyboardInterrupt: ")
    assert "runs remain" in error and stopped.returncode != 0
    # What was under way has kept its state, and the sweep's folder is gone.
    made = len(list(store.folder.glob("*.json")))
    kept = list((tmp_path / "cache/unfinished").glob("*/0.pt"))
    assert made + len(kept) == 1 + workers
    assert kept and list((tmp_path / "cache/sweeps").iterdir()) == []

    run_sweep(str(store.folder), workers=1)
    run_sweep(str(tmp_path / "undisturbed"), workers=1)
    undisturbed = Store(tmp_path / "undisturbed").records()
    assert [*map(measured, store.records())] == [*map(measured, undisturbed)]


def test_a_killed_worker_takes_only_its_run_along(store):
    bad = Toy("digits", 7, fails="killed")
    runs = [bad, *(Toy("digits", draw) for draw in range(3)), Toy("digits", 8, start=bad)]
    how = {"device": "cpu", "workers": 2, "progress": quiet}
    told = f"digits 10 toy report .toy-{bad.id}. was killed .*All else is kept.*workers 1"
    with pytest.raises(UserError, match=told):
        run_all(runs, store, **how)
    assert {record.config["draw"] for record in store.records()} == {0, 1, 2}
    with pytest.warns(UserWarning, match=f"left out: the process of {told}"):
        found = run_all(runs, store, **how, keep_going=True)
    assert [each is not None for each in found] == [False, True, True, True, False]


def test_what_a_run_says_is_seen_and_what_killed_sweeps_left_is_cleared(store):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = under_way.place(f"{under_way.own_name().rsplit('-', 1)[0]}-{dead.pid}")
    left.mkdir(parents=True)
    # Of a machine whose name begins as this one's does.
    host, _, pid = left.name.rpartition("-")
    other = left.with_name(f"{host}-1-{pid}")
    other.mkdir()
    with under_way.opened() as folder:
        assert not left.exists() and other.exists()
        watch = under_way.Watch(folder, time.time() + 100, "toy")
        assert not watch.stop()
        watch.tell(3, 6)
        watch.tell(4, 6)  # So soon that it is not said.
        under_way.say(folder, "sweep", label="2 runs remain", done=1, of=3)
        name = under_way.own_name()
        (((_, own), (made, at)),) = under_way.steps(folder).items()
        assert (own, made) == ("toy", 3) and at == pytest.approx(time.time(), abs=60)
        assert list(under_way._told(folder)) == [
            ("sweep", {"label": "2 runs remain", "done": 1, "of": 3}),
            (name, {"label": "toy", "done": 3, "of": 6, "at": at}),
        ]
        watch.over()
        assert [name for name, _ in under_way._told(folder)] == ["sweep"]
        assert under_way.Watch(folder, time.time() - 1, "late").stop()
        under_way.closed(folder)
        watch.tell(6, 6)  # Nobody listens any more.
        assert under_way.Watch(folder, time.time() + 100, "toy").stop()


def test_a_sweep_ends_while_others_write_into_its_folder(store):
    stop = threading.Event()

    def write():
        while not stop.is_set():
            under_way.say(folder, "worker", done=1)

    for _ in range(20):
        with under_way.opened() as folder:
            writer = threading.Thread(target=write)
            writer.start()
        assert not folder.exists()
        stop.set()
        writer.join()
        stop.clear()
    assert not any(folder.parent.iterdir())


def test_bars_say_what_the_folder_says(store, capsys):
    with under_way.opened() as folder, under_way.bars(folder):
        under_way.say(folder, "sweep", label="2 runs remain", done=1, of=3)
        under_way.say(folder, "worker", label="toy 7", done=5, of=6)
        told, end = "", time.monotonic() + 60
        while "5/6" not in told and time.monotonic() < end:
            time.sleep(0.1)
            told += capsys.readouterr().err
    assert "2 runs remain" in told and "1/3" in told and "toy 7" in told


CHAPTER = """
from pathlib import Path
from fewlabels.book import notebooks
try:
    notebooks.execute(Path({notebook!r}), Path({output!r}), dict())
except KeyboardInterrupt as stop:
    print("stopped:", stop)
"""


def test_a_signal_to_the_command_reaches_the_notebook_which_keeps_what_trains(store, tmp_path):
    cell = f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nimport toy_runs\n"
    cell += f"toy_runs.run_sweep({str(store.folder)!r}, 2)"
    cells = [{"cell_type": "code", "metadata": {}, "source": cell, "outputs": [], "id": "a"}]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}}
    notebook = tmp_path / "notebook.ipynb"
    notebook.write_text(json.dumps(content | {"nbformat": 4, "nbformat_minor": 5}))
    command = CHAPTER.format(notebook=str(notebook), output=str(tmp_path / "out.ipynb"))
    environment = os.environ | {"TOY_STEP": "0.5"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", command], env=environment, **pipes)
    log = tmp_path / "log"
    wait_until(lambda: log.exists() and len(log.read_text().split()) == 3, process)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate()
    # A line for the run that was made, and what remains.
    lines = told.strip().splitlines()
    assert lines[0].startswith("1/7  digits 10 toy report  ")
    assert re.fullmatch(r"stopped: \d runs remain, .*", lines[-1])
    assert list((tmp_path / "cache/unfinished").glob("*/0.pt"))
    assert list((tmp_path / "cache/sweeps").iterdir()) == []
