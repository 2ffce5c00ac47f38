"""`fewlabels replay`: random runs of the book again on this machine, beside their records."""

import csv
import os
import platform
import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import pandas as pd
import torch

from fewlabels import chapters, config, data, files, paths
from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.evidence import tables
from fewlabels.runs.reading import Record
from fewlabels.runs.records import Experiment, Store
from fewlabels.runs.sweep import run_all

COLUMNS = ("processor", "torch", "chapter", "kind", "id", "metric", "difference")


def drawn(
    sample: int, seed: int, seconds: float, names: Sequence[str]
) -> list[tuple[str, Experiment, Record]]:
    """Chapter, run and record of random runs of the book, the kinds of run in turn.

    Only runs of up to ``seconds``, where they were recorded, that measure something and start from
    no other run's weights are drawn. Features of a pretrained network that the record's machine had
    in its cache take longer.

    names: of the chapters; all without any.

    Raises:
        UserError: there is no such run, or no such chapter; ``sample`` or ``seconds`` is not above
            zero.
    """
    config.whole("--sample", sample, 1)
    config.positive("--seconds", seconds)
    found: dict[str, list[tuple[str, Experiment, Record]]] = {}
    with data.as_in_the_book():
        for name in names or chapters.names():
            chapter, settings = chapters.load(name), profiles.settings(name)
            store = chapter.store(settings)
            for run in chapter.plan(settings):
                record = None if run.needs() else store.get(run)
                if record and record.metrics and record.seconds <= seconds:
                    found.setdefault(run.kind, []).append((name, run, record))
    if not found:
        raise UserError("there is no record of a short run: `fewlabels run` makes some.")
    generator = random.Random(seed)
    piles = [generator.sample(each, len(each)) for each in found.values()]
    turns = [each for turn in zip_longest(*piles) for each in turn if each]
    return turns[:sample]


def replayed(
    sample: int, seed: int, seconds: float, names: Sequence[str]
) -> Iterator[tuple[str, Record, Record | str]]:
    """Chapter, record, and the record made here; or why none was, where the data are not here."""
    with tempfile.TemporaryDirectory() as scratch:
        # Weights apart as well: those of the book's runs stay as they are.
        store = Store(Path(scratch) / "records", Path(scratch) / "weights")
        for name, run, record in drawn(sample, seed, seconds, names):
            try:
                with data.as_in_the_book():
                    made = run_all([run], store, "auto", workers=1, progress=lambda *each: None)
            except UserError as error:
                yield name, record, str(error)
            else:
                yield name, record, made[0]


def furthest(record: Record, made: Record) -> tuple[str, float]:
    """The metric that differs most from the record's, relative to it, and by how much.

    Memory is the machine's and not compared; two values that are not numbers are equal.
    """
    found = {}
    for metric, value in record.metrics.items():
        here = made.metrics.get(metric, float("nan"))
        if metric != "peak_memory_mb" and (value == value or here == here):
            gap = abs(here - value) / max(abs(value), 1e-12)
            found[metric] = gap if gap == gap else float("inf")
    return max(found.items(), key=lambda each: each[1], default=("", 0.0))


def row(chapter: str, record: Record, made: Record) -> dict[str, str]:
    """What `keep` adds of a run that was made again."""
    metric, gap = furthest(record, made)
    device = made.hardware["device"]
    where = processor() if device == "cpu" else device
    run = (where, torch.__version__, chapter, record.config["kind"], record.id)
    return dict(zip(COLUMNS, (*run, metric, f"{gap:.3g}"), strict=True))


def keep(rows: Iterable[Mapping[str, str]]) -> Path:
    """Add rows to results/replay.csv, in the place of older ones of the same run and machine."""
    known = {(each["processor"], each["id"]): each for each in [*kept(), *rows]}
    order = sorted(known.values(), key=lambda each: [each[column] for column in COLUMNS])
    with files.whole(_file()) as stream:
        stream.write(files.table(COLUMNS, order).encode())
    return _file()


def kept() -> list[dict[str, str]]:
    """The rows of results/replay.csv; none where it is not there."""
    if not _file().exists():
        return []
    with _file().open(encoding="utf-8", newline="") as stream:
        return [*csv.DictReader(stream)]


def differences() -> str:
    """The page's table: by processor and kind of run, how far metrics were from the records."""
    frame = pd.DataFrame(kept(), columns=COLUMNS).astype({"difference": float})
    rows = []
    for (where, chapter, kind), group in frame.groupby(["processor", "chapter", "kind"]):
        gaps, most = group["difference"], group.loc[group["difference"].idxmax()]
        rows.append(
            {
                "Processor": where,
                "Kind of run": f"{chapter}, {kind}",
                "Runs": len(group),
                "Equal": int((gaps == 0).sum()),
                "Median": f"{gaps.median():.1g}",
                "Most": f"{gaps.max():.1g}",
                "In": most["metric"].replace("_", " ") if gaps.max() else tables.NO_FIGURE,
            }
        )
    caption = (
        "Runs made again, beside their records: the metric of a run that differs most, relative to "
        "itself; in how many runs every metric is equal; median and maximum over the runs."
    )
    return str(tables.show(pd.DataFrame(rows), "tbl-compute-replay", caption))


def processor() -> str:
    """The model's name where the system tells it, and what PyTorch uses of it: all that there is,
    or ``only`` what ``ATEN_CPU_CAPABILITY`` says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    only = " only" if "ATEN_CPU_CAPABILITY" in os.environ else ""
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}{only}"


def _file() -> Path:
    return paths.RESULTS / "replay.csv"
