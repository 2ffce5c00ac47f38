"""The runs of a folder that `fewlabels.book.packing` wrote, on a machine that is there for minutes.

Started by the folder's ``run.sh``, with the folder in the place of the checkout.
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from fewlabels import chapters, files, paths

PART = 15_000_000
"""Bytes of records, before they are compressed, that go into one archive."""
RESERVE = 5
"""Seconds for writing the archives."""
KEEPING = 3
"""Seconds for keeping the state of what is under way, for the next visit to the same machine."""


def visit(started: float, minutes: float) -> int:
    """Make runs of ``plan.json`` until the time is over, write all that were made here to archives,
    and say in one line what came of it. Returns the exit status: 1 where a run ended with an error.

    started: since when the minutes count, in seconds since 1970.
    """
    end = started + 60 * minutes - RESERVE
    runs = multiprocessing.get_context("spawn").Process(target=compute, args=(end - KEEPING,))
    runs.start()
    runs.join(max(0, end - time.time()))
    late = runs.is_alive()
    runs.kill()  # What is still under way would be too late; workers end with their parent.
    runs.join()
    stopped = time.time()
    plan = json.loads((paths.ROOT / "plan.json").read_text())
    wanted = dict.fromkeys(
        paths.RESULTS / part["store"] / name for part in plan for name in part["runs"]
    )
    made = [file for file in wanted if file.exists()]
    for archive in _archives(made, Path(os.environ.get("OUT") or paths.ROOT)):
        print(archive)
    now = [file for file in made if file.stat().st_mtime >= started]
    busy, images = _work(now)
    speed = f"{images / busy:,.0f} images a second, " if images else ""
    print(
        f"{len(now)} runs made, {len(wanted) - len(made)} left, {speed}"
        f"{max(0, stopped - started - busy):.0f} seconds idle"
    )
    return 0 if late else int(runs.exitcode != 0)


def compute(end: float) -> None:
    """The runs of the plan in its order; none is started after ``end``."""
    from fewlabels.runs.records import Store
    from fewlabels.runs.sweep import run_all

    # Parts that are alike are one sweep: no worker waits at the end of each for the slowest.
    for (folder, device, precision, workers), parts in groupby(_parts(), key=itemgetter(0)):
        run_all(
            [run for _, runs in parts for run in runs],
            Store(folder),
            device=device,
            precision=precision,
            workers=workers,
            minutes=(end - time.time()) / 60,
            keep_going=True,
        )


def _parts() -> Iterator[tuple[tuple[Path, str, str, int], list]]:
    """The runs of every part of ``plan.json``, behind where and how they are made."""
    for part in json.loads((paths.ROOT / "plan.json").read_text()):
        chapter = chapters.load(part["chapter"])
        settings = chapter.Settings(**part["parameters"])
        store = chapter.store(settings)
        planned = {store.path(run).name: run for run in chapters.planned(chapter.NAME, settings)}
        if others := [name for name in part["runs"] if name not in planned]:
            print(f"{chapter.NAME}: {len(others)} runs are others here and are left out")
        how = store.folder, settings.device, settings.precision, settings.workers
        yield how, [planned[name] for name in part["runs"] if name in planned]


def _archives(made: Sequence[Path], out: Path) -> Iterator[Path]:
    """Write ``records.tar.gz``, or numbered parts."""
    parts: list[list[Path]] = []
    size = math.inf
    for file in made:
        if size + file.stat().st_size > PART:
            parts.append([])
            size = 0
        parts[-1].append(file)
        size += file.stat().st_size
    for number, part in enumerate(parts, start=1):
        path = out / f"records{f'-{number}' if parts[1:] else ''}.tar.gz"
        with files.whole(path) as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for file in part:
                archive.add(file, f"{file.parent.name}/{file.name}")
        yield path


def _work(made: Sequence[Path]) -> tuple[float, float]:
    """Seconds in which at least one of the runs was in the making, and images they trained on,
    epochs counted."""
    from fewlabels.runs import reading

    spans, images = [], 0.0
    for file in made:
        record, end = reading.read(file), file.stat().st_mtime
        spans.append((end - record.seconds, end))
        images += _images(record.config)
    busy = last = 0.0
    for start, end in sorted(spans):
        busy += max(0, end - max(start, last))
        last = max(last, end)
    return busy, images


def _images(config: Mapping[str, Any]) -> float:
    """0 where the config does not say, or the images pass through the network only once."""
    from fewlabels import data

    if config.get("backbone") == "frozen" or "course" not in config:
        return 0
    count = min(config.get("images") or math.inf, data.train_size(config["dataset"]))
    return config["course"]["epochs"] * count * config.get("fraction", 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser("run.sh")
    parser.add_argument("started", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--minutes", type=float, required=True, help="for everything")
    given = parser.parse_args()
    sys.exit(visit(given.started, given.minutes))
