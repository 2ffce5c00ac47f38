import multiprocessing
import time
from functools import partial

import pytest
import torch
from toy_runs import Toy, measured, sweep_of_seven

from fewlabels import paths
from fewlabels.errors import UserError
from fewlabels.learn.training import NonFiniteLoss
from fewlabels.runs import executors
from fewlabels.runs.records import Store
from fewlabels.runs.sweep import fabric_on, print_line, run_all


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Turns to a new folder, with a cache and a log of its own: (store, draws executed)."""
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))

    def turn_to(name):
        log = tmp_path / name / "log"
        log.parent.mkdir()
        monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / name / "cache"))
        monkeypatch.setenv("TOY_LOG", str(log))
        return Store(tmp_path / name / "results"), lambda: log.read_text().split()

    return turn_to


def quiet(done, missing, record):
    pass


def test_workers_do_not_change_results_and_an_error_in_one_keeps_the_others(places):
    runs = sweep_of_seven()
    store, _ = places("one worker")
    alone = run_all(runs, store, device="cpu", workers=1, progress=quiet)
    store, _ = places("two workers")
    last = Toy("digits", 9, start=runs[0], fails=True)
    with pytest.raises(RuntimeError, match="toy 9 fails"):
        run_all([*runs, last], store, device="cpu", workers=2, progress=quiet)
    # The error does not wait for runs under way in other processes, which stop.
    for worker in multiprocessing.active_children():
        worker.join()
    together = run_all(runs, store, device="cpu", workers=2, progress=quiet)
    assert [measured(record) for record in together] == [measured(record) for record in alone]


def test_what_others_start_from_comes_first(places):
    first, *others = sweep_of_seven()
    store, executed = places("a")
    told = []
    records = run_all(
        [*others, first, others[0]],
        store,
        device="cpu",
        workers=1,
        progress=lambda done, missing, record: told.append(str(record.config["draw"])),
    )
    assert told == executed() == list("0123456")
    # Records come in the order asked for, doubles included.
    assert [record.config["draw"] for record in records] == [1, 2, 3, 4, 5, 6, 0, 1]


def test_progress_is_told_of_every_computed_run_and_of_no_other(places):
    store, executed = places("a")
    first, *others = sweep_of_seven()
    run_all([first, others[2]], store, device="cpu", workers=1, progress=quiet)
    calls = []
    run_all(
        [first, *others],
        store,
        device="cpu",
        workers=1,
        progress=lambda *call: calls.append(call),
    )
    assert [(done, missing) for done, missing, _ in calls] == [(k, 5) for k in range(1, 6)]
    assert [record.config["draw"] for *_, record in calls] == [1, 2, 4, 5, 6]
    assert sorted(executed()) == list("0123456")


def test_an_error_surfaces_at_once_and_keeps_what_is_finished(places):
    store, executed = places("a")
    runs = [Toy("digits", 0), Toy("digits", 1, fails=True), Toy("digits", 2)]
    with pytest.raises(RuntimeError, match="toy 1 fails"):
        run_all(runs, store, device="cpu", workers=1, progress=quiet)
    assert [record.config["draw"] for record in store.records()] == [0]
    assert executed() == ["0", "1"]


def test_runs_have_one_thread_and_the_threads_come_back(places):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        store, _ = places("a")
        (record,) = run_all([Toy("digits", 0)], store, device="cpu", workers=1, progress=quiet)
        assert record.hardware["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_nothing_to_do_is_nothing_done(places):
    store, _ = places("a")
    assert run_all([], store, device="cpu") == []


def test_a_line_per_run_says_how_far_it_is(places, capsys):
    store, _ = places("a")
    run_all([Toy("digits", 0)], store, device="cpu", workers=1, progress=print_line)
    assert capsys.readouterr().out.startswith("1/1  digits 10 toy report  ")


def test_when_the_time_is_up_no_run_is_started_and_the_next_sweep_goes_on(places):
    store, executed = places("a")
    runs = sweep_of_seven()
    kept = run_all(runs[:2], store, device="cpu", workers=1, progress=quiet)
    late = run_all(runs, store, device="cpu", workers=1, progress=quiet, minutes=0)
    assert [record and record.id for record in late] == [kept[0].id, kept[1].id, *[None] * 5]
    assert executed() == ["0", "1"]
    run_all(runs, store, device="cpu", workers=1, progress=quiet, minutes=10)
    assert sorted(executed()) == list("0123456")


def test_a_diverged_run_is_told_and_left_out_where_that_is_asked_for(places, monkeypatch):
    store, _ = places("a")
    real = Toy.execute

    def execute(self, fabric, store):
        if self.draw == 1:
            raise NonFiniteLoss("loss is nan at step 3")
        return real(self, fabric, store)

    monkeypatch.setattr(Toy, "execute", execute)
    runs = [Toy("digits", draw) for draw in range(3)]
    how = {"device": "cpu", "workers": 1, "progress": quiet}
    with pytest.warns(UserWarning, match="left out: loss is nan at step 3"):
        records = run_all(runs, store, **how, keep_going=True)
    assert [record is not None for record in records] == [True, False, True]
    with pytest.raises(NonFiniteLoss):
        run_all(runs, store, **how)


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("workers", [1, 2])
def test_what_needs_a_run_that_failed_is_not_started(places, workers):
    store, executed = places("a")
    bad = Toy("digits", 0, fails=NonFiniteLoss.__name__)
    runs = [Toy("digits", 1, start=bad), Toy("digits", 2, start=Toy("digits", 1, start=bad))]
    how = {"device": "cpu", "workers": workers, "progress": quiet, "keep_going": True}
    records = run_all([*runs, Toy("digits", 3)], store, **how)
    assert [record is not None for record in records] == [False, False, True]
    assert sorted(executed()) == ["0", "3"]


@pytest.mark.parametrize("workers", [1, 2])
def test_weights_that_the_cache_has_lost_are_made_once_more_for_all_who_need_them(places, workers):
    store, executed = places("a")
    first, *others = sweep_of_seven()
    run_all([first], store, device="cpu", workers=1, progress=quiet)
    for weights in (paths.cache() / "weights").iterdir():
        weights.unlink()
    told = []
    run_all(
        others[:3],
        store,
        device="cpu",
        workers=workers,
        progress=lambda done, missing, record: told.append((done, missing)),
    )
    assert told == [(k, 4) for k in range(1, 5)]
    assert executed()[:2] == ["0", "0"]
    assert sorted(executed()[2:]) == ["1", "2", "3"]


def test_no_process_is_started_once_the_time_is_up(places, monkeypatch):
    monkeypatch.setattr(executors, "_Processes", None)
    store, _ = places("a")
    late = run_all(sweep_of_seven(), store, device="cpu", workers=2, progress=quiet, minutes=0)
    assert late == [None] * 7


def test_the_end_of_the_time_does_not_wait_for_processes_that_still_start(places, monkeypatch):
    monkeypatch.setattr(executors, "_start_worker", partial(time.sleep, 60))
    store, _ = places("a")
    begun = time.monotonic()
    late = run_all(sweep_of_seven(), store, "cpu", workers=2, progress=quiet, minutes=0.05)
    assert late == [None] * 7
    for worker in multiprocessing.active_children():
        worker.join()
    assert time.monotonic() < begun + 30


@pytest.mark.parametrize("workers", [1, 2])
def test_a_device_that_is_not_there_is_named_with_the_remedy(places, monkeypatch, workers):
    fabric_on.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    store, _ = places("a")
    runs = sweep_of_seven()[1:3]
    with pytest.raises(UserError, match=r"^device is 'cuda'.*device=auto.* or device=cpu"):
        run_all(runs, store, device="cuda", workers=workers, progress=quiet)
