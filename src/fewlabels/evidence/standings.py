"""A benchmark that anybody can enter: label draws to train on, and the standings of chapter 5.

A *task* is a data set and a share of its training labels, as ``bloodmnist-25%``. Its file in
``results/draws/`` holds what a stranger trains on: ``draw_0``, ``draw_1``, ... (int32, positions of
the labelled training images, ascending) and ``hash_0``, ... A file beside it, of the data set,
names the original of every image and the test labels.

Predictions are an .npz file as well: ``draw_0``, ... (classes int [N] or probabilities float
[N, K] of the N test images) and ``hash_0``, ..., copied from the task. ``labelled_0``, ... may say
on which positions was trained.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fewlabels import chapters, data, files, paths
from fewlabels.chapters import profiles
from fewlabels.data import medmnist, reading
from fewlabels.errors import UserError
from fewlabels.evidence import measures, tables
from fewlabels.evidence.frame import done, of_the_book
from fewlabels.learn.evaluation import checked_classes, checked_probabilities
from fewlabels.runs.records import Experiment

CHAPTER = "ssl-medmnist"
METRIC = "mean_class_accuracy"
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Task:
    """A data set and a budget of labels, with the draws that the book's methods have met."""

    dataset: str
    budget: str
    """Share of the training labels, as ``25%``."""
    draws: Mapping[int, np.ndarray]
    """Number of the draw -> positions of the labelled training images."""
    hashes: Mapping[int, str]

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.budget}"


@dataclass(frozen=True)
class Images:
    """What the images of a data set are: names of originals [N] by part, and the test labels."""

    names: Mapping[str, np.ndarray]
    test_labels: np.ndarray


def folder() -> Path:
    """Where the files lie."""
    return paths.RESULTS / "draws"


def files_of_tasks() -> dict[str, Path]:
    """Name of a task -> its file, by data set and budget."""

    def order(file: Path) -> tuple[str, float]:
        dataset, _, budget = file.stem.rpartition("-")
        return dataset, float(budget)

    return {f"{file.stem}%": file for file in sorted(folder().glob("*-*.npz"), key=order)}


def task(name: str) -> Task:
    """The task of a name. Raises UserError, which lists them, for an unknown one."""
    known = files_of_tasks()
    if name not in known:
        raise UserError(f"there is no task {name!r}; there are: {', '.join(known)}")
    content = reading.arrays(known[name])
    dataset, _, budget = name.rpartition("-")
    draws, hashes = _numbered(content, "draw"), _numbered(content, "hash")
    return Task(dataset, budget, draws, {d: str(each) for d, each in hashes.items()})


def images(dataset: str) -> Images:
    """The originals and test labels of a task's data set."""
    content = reading.arrays(folder() / f"{dataset}.npz")
    return Images({part: content[part] for part in PARTS}, content["test_labels"])


def digest(name: str, draw: int, positions: np.ndarray) -> str:
    """sha256 over the names of task and draw, and the positions as little-endian int32."""
    content = f"{name} {draw}\n".encode() + np.asarray(positions, "<i4").tobytes()
    return hashlib.sha256(content).hexdigest()


def altered(name: str) -> list[str]:
    """Draws of a task whose hash is not that of its positions: one line each."""
    known = task(name)
    return [
        f"{name}, draw {d}: its hash is not that of its positions"
        for d, positions in known.draws.items()
        if known.hashes.get(d) != digest(name, d, positions)
    ]


def differences(name: str) -> list[str]:
    """Draws and test labels of a task that the data give otherwise: one line each.

    Raises UserError where the files here are not the book's.
    """
    known = task(name)
    share = float(known.budget.rstrip("%")) / 100
    with data.as_in_the_book():
        there = data.load(known.dataset)
    wrong = [
        f"{name}, draw {d}: the data give other positions"
        for d, positions in known.draws.items()
        if not np.array_equal(positions, data.draw_fraction(there.train.labels, share, d))
    ]
    if not np.array_equal(images(known.dataset).test_labels, there.test.labels):
        wrong.append(f"{known.dataset}: the data give other test labels")
    return wrong


def publish() -> list[Path]:
    """Write the files of all tasks that the book plans, from the data; returns their paths.

    To be called by hand where chapter 5 plans other draws.
    """
    planned: dict[tuple[str, float], set[int]] = {}
    with data.as_in_the_book():
        for run in scored(chapters.load(CHAPTER).plan(profiles.settings(CHAPTER))):
            planned.setdefault((run.dataset, run.fraction), set()).add(run.draw)
        found = [_write_images(name) for name in dict.fromkeys(name for name, _ in planned)]
        for (dataset, share), draws in planned.items():
            labels = data.load(dataset).train.labels
            name, arrays = f"{dataset}-{100 * share:g}%", {}
            for d in sorted(draws):
                positions = data.draw_fraction(labels, share, d).numpy().astype(np.int32)
                arrays |= {f"draw_{d}": positions, f"hash_{d}": digest(name, d, positions)}
            found.append(_write(folder() / f"{name.rstrip('%')}.npz", arrays))
    return found


def stored(task: Task, runs: pd.DataFrame | None = None) -> dict[tuple[str, str], pd.DataFrame]:
    """(method, protocol) -> the runs made on a task, the highest mean first.

    runs: the book's (`of_the_book`), where they are at hand.
    """
    made = done(of_the_book(CHAPTER) if runs is None else runs)
    made = made[(made["dataset"] == task.dataset) & (made["labels"] == task.budget)]
    made = made[~made["protocol"].str.contains("validation") & made["draw"].isin(task.draws)]
    groups = {key: group for key, group in made.groupby(["name", "protocol"])}
    return dict(sorted(groups.items(), key=lambda each: -each[1][METRIC].mean()))


def standings(task: Task, runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """The stored methods of a task as they are printed, the highest mean first."""
    rows = [
        (name, protocol, found.n, tables.percent(found))
        for (name, protocol), group in stored(task, runs).items()
        if (found := measures.fraction(group, METRIC))
    ]
    return pd.DataFrame(rows, columns=["Method", "Protocol", "n", "Mean class accuracy, %"])


def score(task: Task, file: Path) -> pd.DataFrame:
    """A file of predictions beside every stored method, paired over the draws that both have.

    A row per method, printed: its own mean; the predictions' minus its own, in points; and p with
    Holm's correction over the methods. The first row is of the predictions.

    Raises:
        UserError: what `predictions` refuses.
    """
    truth = images(task.dataset).test_labels
    found = predictions(task, file)
    right = [
        np.mean([(each[truth == k] == k).mean() for k in set(truth)]) for each in found.values()
    ]
    yours = pd.DataFrame({"draw": [*found], METRIC: right})
    yours = yours.assign(name="yours", kind="yours", record="yours", luck=None, overlap=None)
    methods = stored(task)
    gaps = {key: measures.difference(yours, group, METRIC) for key, group in methods.items()}
    own = measures.fraction(yours, METRIC)
    none = tables.NO_FIGURE
    rows = [("yours", none, str(own.n), tables.percent(own), none, none)]
    for (key, gap), p in zip(gaps.items(), tables.corrected(gaps.values()), strict=True):
        theirs = tables.percent(measures.fraction(methods[key], METRIC))
        rows.append((*key, str(gap.n), theirs, tables.percent(gap, sign=True), tables.p_value(p)))
    heads = ("Method", "Protocol", "n", "Mean class accuracy, %", "Yours minus it", "p (Holm)")
    return pd.DataFrame(rows, columns=heads)


def predictions(task: Task, file: Path) -> dict[int, np.ndarray]:
    """Draw -> predicted classes [N] of the test images, from a file of predictions.

    Raises:
        UserError: no such file, or one of another form; a draw that is not published, or whose hash
            is another one's; labelled positions that are not the draw's; another number of test
            images; classes or probabilities that are none.
    """
    content, known = reading.arrays(file), images(task.dataset)
    given, hashes = _numbered(content, "draw"), _numbered(content, "hash")
    if not given:
        raise UserError(f"{file} holds no draw_0, draw_1, ...: name the predictions so.")
    if other := [d for d in given if d not in task.draws]:
        there = ", ".join(map(str, task.draws))
        raise UserError(f"{file} holds draw_{other[0]}; {task.name} has the draws {there}")
    for d in given:
        if str(hashes.get(d, "")) != task.hashes[d]:
            said = "is another draw's" if d in hashes else "is missing"
            raise UserError(
                f"{file}: hash_{d} {said}. Train on draw_{d} of {files_of_tasks()[task.name]}, and "
                "copy its hash."
            )
    for d, positions in _numbered(content, "labelled").items():
        if d in given:
            _check_labelled(
                f"{file}: labelled_{d}", positions, task.draws[d], len(known.names["train"])
            )
    classes, count = int(known.test_labels.max()) + 1, len(known.test_labels)
    return {d: _classes(f"{file}: draw_{d}", each, count, classes) for d, each in given.items()}


def _check_labelled(what: str, positions: np.ndarray, draw: np.ndarray, train: int) -> None:
    if positions.dtype.kind not in "iu" or positions.ndim != 1:
        raise UserError(
            f"{what} is {positions.dtype} {positions.shape}; allowed: int [{len(draw)}]"
        )
    if len(positions) and not 0 <= positions.min() <= positions.max() < train:
        raise UserError(
            f"{what} has positions outside 0 to {train - 1:,}, the training images: labels of "
            "validation or test images must not be trained on."
        )
    if len(positions) != len(draw):
        raise UserError(f"{what} has {len(positions):,} positions; the draw has {len(draw):,}")
    if not np.array_equal(np.sort(positions), draw):
        raise UserError(f"{what} are not the positions of the published draw.")


def _classes(what: str, given: np.ndarray, count: int, classes: int) -> np.ndarray:
    if given.shape not in ((count,), (count, classes)):
        raise UserError(
            f"{what} is {list(given.shape)}; allowed: classes [{count}], or probabilities "
            f"[{count}, {classes}], of all test images"
        )
    try:
        if given.ndim == 2:
            return checked_probabilities(given).argmax(axis=1)
        return checked_classes(given, classes, "it")
    except UserError as error:
        raise UserError(f"{what}: {error}") from None


def scored(runs: list[Experiment]) -> Iterator[Experiment]:
    """The runs that name test classes after a draw of labels."""
    for run in runs:
        if hasattr(run, "fraction") and getattr(run, "scored_on", "test") == "test":
            yield run


def _numbered(content: Mapping[str, np.ndarray], prefix: str) -> dict[int, np.ndarray]:
    """``draw_0``, ``draw_1``, ... by their numbers."""
    found = {}
    for key in content:
        name, _, number = key.rpartition("_")
        if name == prefix and number.isdecimal():
            found[int(number)] = content[key]
    return dict(sorted(found.items()))


def _write_images(dataset: str) -> Path:
    with np.load(medmnist.SETS[dataset].path) as content:
        arrays = {part: content[f"{part}_source"].astype("S") for part in PARTS}
    labels = data.load(dataset).test.labels.numpy().astype(np.uint8)
    return _write(folder() / f"{dataset}.npz", arrays | {"test_labels": labels})


def _write(file: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    with files.whole(file) as stream:
        np.savez_compressed(stream, **arrays)
    return file
