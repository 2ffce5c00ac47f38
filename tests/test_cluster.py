"""The same runs on Dask workers of this machine, as processes of their own."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from toy_runs import Toy, measured, sweep_of_seven

from fewlabels.errors import UserError
from fewlabels.runs import executors
from fewlabels.runs.records import Store
from fewlabels.runs.sweep import run_all

TESTS = Path(__file__).parent
HOW = {"device": "cpu", "progress": lambda done, missing, record: None}


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), *sys.path]))
    return tmp_path


def cluster(workers, threads, **variables):
    return LocalCluster(
        n_workers=workers, threads_per_worker=threads, dashboard_address=None, env=variables
    )


def alone(places):
    return [*map(measured, run_all(sweep_of_seven(), Store(places / "alone"), workers=1, **HOW))]


def test_workers_that_share_the_folders_make_the_same_records(places):
    """Two threads of one process: a run has the process for itself."""
    store = Store(places / "results")
    with cluster(1, 2) as local:
        found = run_all(sweep_of_seven(), store, **HOW, scheduler=local.scheduler_address)
        diverges = Toy("digits", 9, fails="NonFiniteLoss")
        how = HOW | {"keep_going": True, "scheduler": local.scheduler_address}
        left = run_all([diverges], store, **how)
    assert left == [None]
    assert not (places / "cache/runs").exists()
    assert [*map(measured, found)] == alone(places)


def test_a_worker_that_shares_nothing_is_killed_and_the_records_come_home(places, monkeypatch):
    store, log = Store(places / "results"), places / "log"
    monkeypatch.setenv("TOY_STEP", "0.1")
    with cluster(2, 1, FEWLABELS_CACHE=str(places / "theirs")) as local:
        address = local.scheduler_address
        with Client(address) as client:
            pids = client.run(os.getpid)

        def kill():
            while not log.exists() or len(log.read_text().split()) < 3:
                time.sleep(0.02)
            os.kill(next(iter(pids.values())), signal.SIGKILL)

        killing = threading.Thread(target=kill)
        killing.start()
        found = run_all(sweep_of_seven(), store, **HOW, scheduler=address)
        killing.join()
    monkeypatch.delenv("TOY_STEP")
    assert (places / "theirs/runs/results").exists()
    # The weights that the others start from are here, those of the others are not.
    assert len(list((places / "cache/weights").glob("*.pt"))) == 1
    assert [*map(measured, found)] == alone(places)


def test_where_no_scheduler_answers_the_address_is_named(places, monkeypatch):
    monkeypatch.setenv("FEWLABELS_SCHEDULER", "tcp://127.0.0.1:1")
    monkeypatch.setattr(executors, "ANSWER", 0.5)
    with pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1 .*start"):
        run_all(sweep_of_seven(), Store(places / "results"), **HOW)


@pytest.mark.parametrize("card", [False, True])
def test_the_job_script_of_the_slurm_example(places, monkeypatch, card):
    monkeypatch.syspath_prepend(TESTS.parent / "examples")
    monkeypatch.setenv("FEWLABELS_DATA", "/data")
    import slurm

    options = ["--walltime", "01:30:00", "--account", "lab", *["--card"] * card, "rotnet-mnist"]
    given = slurm.parser().parse_args([*options, "-p", "draws", "3"])
    assert given.run == ["rotnet-mnist", "-p", "draws", "3"]
    with slurm.cluster(given) as jobs:
        lines = jobs.job_script().splitlines()
    for wanted in ("-A lab", "-n 1", "--cpus-per-task=1", "-t 01:30:00"):
        assert f"#SBATCH {wanted}" in lines
    assert f"export FEWLABELS_CACHE={places / 'cache'}" in lines
    assert "export FEWLABELS_DATA=/data" in lines
    assert ("#SBATCH --gres=gpu:1" in lines) == card
    (worker,) = [line for line in lines if "dask_worker" in line]
    assert "--nthreads 1 " in worker and "--lifetime 85m" in worker
    assert ("--resources GPU=1" in worker) == card
