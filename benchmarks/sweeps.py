"""What a sweep costs beside its runs: on one machine, through Dask, and in the store.

    python benchmarks/sweeps.py [--runs 24] [--records 10000]

Needs no data, and cores that do nothing else. A run trains the small network of chapter 1 for a
hundred steps on scikit-learn's digits; an empty one trains nothing, so all it takes is overhead.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pages
import psutil

sys.path.insert(0, str(Path(__file__).parent))  # Workers import the runs from here.
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
os.environ.setdefault("OMP_NUM_THREADS", "1")

from fewlabels.kinds.rotnet import RotationPretraining
from fewlabels.learn.training import Recipe
from fewlabels.runs.records import Experiment, Outcome, Store
from fewlabels.runs.sweep import run_all


@dataclass(frozen=True)
class Empty(Experiment, kind="empty", recipe=1):
    """Measures nothing, and keeps as much as a classifier of 500 test images."""

    draw: int

    def cell(self):
        return {"dataset": self.dataset, "method": "empty"}

    def checksums(self):
        return {}

    def execute(self, fabric, store):
        classes = np.random.default_rng(self.draw).integers(10, size=500).astype(np.uint8)
        return Outcome({"accuracy": 0.5}, {"loss": [1.0] * 20}, {"classes": classes})


def seconds(runs, folder: str, workers: int = 1, scheduler: str = "") -> float:
    """For a sweep into a new folder and cache."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["FEWLABELS_CACHE"] = f"{place}/cache"
        start = time.perf_counter()
        how = {"workers": workers, "scheduler": scheduler, "progress": lambda *_: None}
        run_all(runs, Store(Path(place) / folder), "cpu", **how)
        return time.perf_counter() - start


def reading(count: int) -> str:
    """Of the records of so many runs, in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["FEWLABELS_CACHE"] = f"{place}/cache"
        folder = Path(place) / "results"
        store = Store(folder)
        run_all(
            [Empty("none", draw) for draw in range(count)], store, "cpu", workers=1, progress=_quiet
        )
        command = [sys.executable, __file__, "--read", str(folder)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def read(folder: str) -> None:
    """Print how long reading the records takes, and by how much it makes this process larger."""
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    records = Store(Path(folder)).records()
    took = time.perf_counter() - start
    memory = (psutil.Process().memory_info().rss - before) / 2**20
    print(f"| {len(records):,} records read | {took:.1f} s, {memory:.0f} MB more |")


def _quiet(done, missing, record) -> None:
    pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--steps", type=int, default=100, help="of a run that trains")
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--keep", action="store_true", help="put the table into the README")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        return read(given.read)
    recipe = Recipe(given.steps, 64, 0.01, evaluations=min(4, given.steps))
    train = [
        RotationPretraining("digits", "tuned", seed, 500, recipe) for seed in range(given.runs)
    ]
    empty = [Empty("none", draw) for draw in range(given.runs)]
    rows = ["| what | measured |", "|:--|--:|"]
    for workers in given.workers:
        hour = 3600 * given.runs / seconds(train, "train", workers)
        rows.append(f"| runs an hour, {workers} at once | {hour:,.0f} |")
    each = seconds(empty, "empty") / given.runs
    rows.append(f"| store, each run | {1000 * each:.0f} ms |")
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        seconds(empty[:2], "first", scheduler=address)  # The workers import torch.
        each = seconds(empty, "dask", scheduler=address) / given.runs
        rows.append(f"| store and Dask, each run, two workers | {1000 * each:.0f} ms |")
    rows.append(reading(given.records))
    found = "\n".join(rows) + f"\n\n{pages.processor()}, {pages.CORES} cores.\n"
    print(found)
    if given.keep:
        pages.put("sweeps", found, pages.README)


if __name__ == "__main__":
    main()
