"""A folder to take along: what a machine without a network needs for the runs that are missing.

`pack` writes it; its ``run.sh`` starts `fewlabels.book.visit` there; `merge` takes the records that
come back into the book.
"""

import gzip
import importlib.metadata
import io
import json
import math
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fewlabels import chapters, code, data, files, paths
from fewlabels.book import freeze, integrity
from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.runs import kept, manifest
from fewlabels.runs.reading import NO_RECORD, Damaged, read
from fewlabels.runs.records import Experiment, Store, reading_only

FILES = {
    "mnist": "MNIST/raw/*.gz",
    "fashion": "FashionMNIST/raw/*.gz",
    "bccd_cells": "medmnist/bccd_cells.npz",
    "matches": "medmnist/pneumoniamnist_to_chest_xray.csv",
    "chest_xray": "chest_xray/*/*/*",
    **{name: f"medmnist/{own.path.name}" for name, own in data.medmnist.SETS.items()},
    **{
        name: f"medmnist/{name.replace('pneumonia', 'pneumoniamnist')}.npz"
        for name in data.XRAYS
        if name.startswith("pneumonia")
    },
}
"""Where data lie in the folder of the data, by their name in a run's checksums."""
NAMED = ("weights/*", "caltech101/101_ObjectCategories/*")
"""Files and folders there that a run reads where its config names them."""
PLATFORMS = [f"manylinux{tag}_x86_64" for tag in ("_2_28", "_2_27", "_2_17", "2014", "1")]
LARGEST, MOST = 1 << 28, 20_000
"""Bytes that an archive may unpack to, and files in it."""
NEW = "new"
MEMBER = re.compile(r"([a-z0-9-]+)/[a-z0-9-]+-[0-9a-f]{12}\.json")


def lacking(name: str, settings: Any) -> tuple[Store, list[Experiment], int]:
    """A chapter's store, what it lacks of its `chapters.planned` runs, and how many it has."""
    store = chapters.load(name).store(settings)
    with data.as_in_the_book(), reading_only():
        every = chapters.planned(name, settings)
        missing = [run for run in every if store.get(run) is None]
    return store, missing, len(every) - len(missing)


# Packing


def pack(
    names: Sequence[str],
    folder: Path,
    parameters: Mapping[str, str],
    have: Path | None = None,
    python: str = "3.12",
    platforms: Sequence[str] = PLATFORMS,
    limit: float = math.inf,
) -> Iterator[str]:
    """Write the folder for the missing runs of these chapters; says what is in it and left out.

    Args:
        parameters: beside the chapter's ``PACKED`` and the book's own.
        have: what ``pip list`` or ``pip freeze`` says on the machine; without it no wheels.
        python, platforms: of the machine, as ``pip download`` takes them.
        limit: bytes.

    Raises:
        UserError: the folder is there or would be larger than the limit; no run is missing; a
            data file is missing or not the book's; there is no git, or no wheel to be had.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: delete it, or name another folder.")
    plan, stores, modules, told = [], [], {"fewlabels.runs.sweep"}, []
    for name in names:
        chapter = chapters.load(name)
        changes = getattr(chapter, "PACKED", {}) | dict(parameters)
        values = profiles.parameters(name, "full", changes)
        store, missing, done = lacking(name, chapter.Settings(**values))
        values |= {"store": "results"} if "store" in values else {}
        part = {"chapter": name, "parameters": values, "store": store.folder.name}
        plan.append(part | {"runs": [store.path(run).name for run in missing]})
        stores.append((store, missing))
        modules |= {chapter.__name__, *(type(run).__module__ for run in missing)}
        told.append(f"{done} runs of {name}, which are done")
    wanted = [run for _, missing in stores for run in missing]
    if not wanted:
        raise UserError(f"nothing to pack: no run of {', '.join(names)} is missing.")
    if other := freeze.other_data(wanted):
        raise UserError(f"{', '.join(other)} is another file here than behind the book's records.")
    with tempfile.TemporaryDirectory(dir=files.folder(folder.absolute().parent)) as place:
        root = Path(place) / "folder"
        told += _source(root)
        told += _data(wanted, root / "data")
        for store, missing in stores:
            told += _weights(store, missing, root)
        told += _wheels(modules, have, python, platforms, root / "wheels")
        (root / "plan.json").write_text(json.dumps(plan, indent=1))
        shutil.copy(root / "src/fewlabels/reference/run.sh", root)
        sizes: Counter[str] = Counter()
        for file in filter(Path.is_file, root.rglob("*")):
            parts = file.relative_to(root).parts
            sizes["/".join(parts[: 1 if parts[0] == "src" else 3])] += file.stat().st_size
        lines = [f"{size / 1e6:8.2f} MB  {part}" for part, size in sizes.most_common()]
        total = f"{sizes.total() / 1e6:.1f} MB"
        if sizes.total() > limit:
            raise UserError("\n".join([f"{folder} would have {total}, above the limit:", *lines]))
        with files.refusals(folder):
            root.rename(folder)
    yield from lines
    yield from (f"left out: {each}" for each in told)
    yield f"{folder}: {len(wanted)} runs, {total}. There: bash run.sh --minutes 8"


def _source(root: Path) -> Iterator[str]:
    """The package at its commit."""
    git = ["git", "-C", str(paths.ROOT)]
    try:
        made = subprocess.run([*git, "archive", "HEAD", "src"], check=True, capture_output=True)
        changed = subprocess.check_output([*git, "status", "--porcelain", "src"], text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"packing needs git and a checkout of the book ({error}).") from error
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(root, filter="data")
    if changed:
        yield f"changes of src/ that are not committed, {len(changed.splitlines())} files"


def _data(runs: Sequence[Experiment], target: Path) -> Iterator[str]:
    """The data files that the runs read."""
    home = paths.data()
    text = json.dumps([[run.describe(), run.checksums()] for run in runs])
    found = {p for pattern in NAMED for p in home.glob(pattern) if f'"{p.name}"' in text}
    for name in FILES.keys() & {name for run in runs for name in run.checksums()}:
        own = {*home.glob(FILES[name])}
        if not own:
            raise UserError(f"{home / FILES[name]} is missing, and missing runs read it.")
        found |= own
    for file in (each for p in found for each in (p.iterdir() if p.is_dir() else [p])):
        _copy(file, target / file.relative_to(home))
    rest = [file for file in home.rglob("*") if file.is_file()]
    rest = [file for file in rest if not (target / file.relative_to(home)).exists()]
    size = sum(file.stat().st_size for file in rest) / 1e6
    yield f"{len(rest)} data files that these runs do not read, {size:.1f} MB"


def _weights(store: Store, runs: Sequence[Experiment], root: Path) -> Iterator[str]:
    """Cached weights that the runs start from, with the records that name them."""
    needs = dict.fromkeys(need for run in runs for need in run.needs())
    lost = 0
    for need in needs.keys() - {*runs}:
        if not store.has_weights(need):
            lost += 1
            continue
        record = root / "results" / store.folder.name / store.path(need).name
        files.folder(record.parent)
        record.write_bytes(kept.text(store.folder, record.stem))
        for file in paths.cache().glob(f"weights/{record.stem}.*"):
            _copy(file, root / "cache/weights" / file.name)
    if lost:
        yield f"weights of {lost} runs, which are not in the cache: they are made again there"


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def _wheels(
    modules: Iterable[str], have: Path | None, python: str, platforms: Sequence[str], target: Path
) -> Iterator[str]:
    """What these modules import and the machine does not have."""
    if have is None:
        yield "all wheels: name what the machine's pip lists with --have, and it gets what it lacks"
        return
    try:
        with files.refusals(have):
            lines = have.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{have} is no text: name what `pip list` says there, in UTF-8.") from None
    listed = (re.match(r"([A-Za-z0-9][\w.-]*)\s*(==|@|\d|$)", line) for line in lines)
    there = {_normal(match[1]) for match in listed if match}
    bringing = importlib.metadata.packages_distributions()

    def distributions(names: Iterable[str]) -> set[str]:
        return {_normal(each) for name in names for each in bringing.get(name, ())}

    # A process of its own, because this one has loaded more than the runs do.
    tell = f"import sys, {', '.join(sorted(modules))}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", tell], check=True, capture_output=True, text=True)
    imported, loaded = map(distributions, (code.outside(*modules), told.stdout.split()))
    wanted, waiting = set(), [*imported]
    while waiting:
        name = waiting.pop()
        if name not in there | wanted:
            wanted.add(name)
            # Of what it asks for, only what the runs have really imported.
            asked = importlib.metadata.requires(name) or []
            asked = [re.match(r"[\w.-]+", each)[0] for each in asked if "extra ==" not in each]
            waiting += {*map(_normal, asked)} & loaded
    if wanted:
        pins = [f"{name}=={importlib.metadata.version(name)}" for name in sorted(wanted)]
        pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--implementation"]
        pip += ["cp", "--only-binary=:all:", "--python-version", python, "--dest", str(target)]
        pip += [part for tag in platforms for part in ("--platform", tag)]
        made = subprocess.run([*pip, *pins], capture_output=True, text=True)
        if made.returncode:
            why = [line for line in made.stderr.splitlines() if line.startswith("ERROR")][-1:]
            raise UserError(f"pip cannot download {', '.join(pins)}: {''.join(why)}")
    yield f"wheels of {', '.join(sorted(imported - wanted))}, which the machine has"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# Merging


def merge(archives: Sequence[Path]) -> tuple[list[str], int]:
    """Take records into the book; returns lines that say what came, and how many were refused.

    An archive may be anybody's: only sound records of runs that the book plans are taken, nothing
    else is written, and a record that is there stays. Raises UserError for a file that cannot be
    read, is no archive, holds nothing, or is too large.
    """
    lines, counts = [], Counter()
    with tempfile.TemporaryDirectory() as place:
        found = [each for path in archives for each in _members(path, Path(place))]
        runs = _of_the_book({name.split("/")[0] for name, file in found if file})
        for name, file in found:
            try:
                counts[name.split("/")[0], _take(name, file, runs)] += 1
            except (*NO_RECORD, ArithmeticError) as error:
                why = error.why if isinstance(error, Damaged) else str(error)
                lines.append("".join(c if c.isprintable() else "?" for c in f"{name}: {why}")[:300])
    for chapter, what in counts:
        if what == NEW:
            manifest.keep(chapter)
    refused = [f"refused {line}" for line in lines]
    return refused + [f"{name}: {n} {what}" for (name, what), n in counts.items()], len(refused)


def _members(path: Path, place: Path) -> list[tuple[str, Path | None]]:
    """Names in an archive, and the extracted file of those that may be records."""
    found, content = [], b""
    damaged = suppress(gzip.BadGzipFile, EOFError, zlib.error)
    with files.refusals(path), path.open("rb") as packed, damaged:
        content = gzip.GzipFile(fileobj=packed).read(LARGEST + 1)
    try:
        whole = io.BytesIO(content if len(content) <= LARGEST else b"")
        with tarfile.open(fileobj=whole, mode="r:") as archive:
            for member in archive.getmembers()[: MOST + 1]:
                sound = member.isreg() and not member.issparse() and MEMBER.fullmatch(member.name)
                own = Path(tempfile.mkdtemp(dir=place))
                if sound:
                    member.mtime = 0  # Another may be no time at all.
                    archive.extract(member, own, filter="data")
                found.append((member.name, own / member.name if sound else None))
    except (tarfile.TarError, ValueError, ArithmeticError) as error:
        raise UserError(f"{path} is no archive of records, cut short or too large.") from error
    if not found:
        raise UserError(f"{path} holds no record: name an archive that `run.sh` has written.")
    if len(found) > MOST:
        raise UserError(f"{path} holds more than {MOST} files.")
    return found


def _of_the_book(stores: set[str]) -> dict[str, Experiment]:
    """``store/kind-id.json`` -> run, of all that the book plans into these stores."""
    found = {}
    for name in chapters.names():
        settings = profiles.settings(name)
        store = chapters.load(name).store(settings)
        if store.folder.name in stores:
            with data.as_in_the_book():
                every = chapters.planned(name, settings)
                found |= {f"{store.folder.name}/{store.path(run).name}": run for run in every}
    return found


def _take(name: str, file: Path | None, runs: Mapping[str, Experiment]) -> str:
    """Put a record into its place where it is sound. Raises UserError where it is not."""
    if file is None:
        raise UserError("it is no file of the form chapter/kind-id.json")
    if name not in runs:
        raise UserError("the book plans no such run")
    run, target, record = runs[name], paths.RESULTS / name, read(file)
    with data.as_in_the_book():
        own = json.loads(json.dumps([run.describe(), run.checksums(), run.cell()]))
    if [record.config, record.data, record.cell] != own:
        raise UserError("it is the record of another run")
    report = integrity.Report()
    integrity.compare(report, record)
    if report.unchecked:
        raise UserError(f"it cannot be checked here: {next(iter(report.unchecked))}")
    own = kept.text(target.parent, target.stem)
    if own is None:
        with files.whole(target) as stream:
            stream.write(file.read_bytes())
        return NEW
    if own != file.read_bytes():
        raise UserError("another record of this run is there, and stays")
    return "already there"
