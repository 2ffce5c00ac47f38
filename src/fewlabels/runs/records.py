"""Runs: config -> record, and the store that computes each run once.

A run's identity is a hash of its config, its recipe version and the checksums of its data, so a
record made from other data or by an older recipe has another name and never counts as the run
asked for. A record is one JSON file, written under a temporary name and renamed; `kept` has the
form in which the book collects them.
"""

import hashlib
import platform
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.fabric import Fabric

from fewlabels import cached, code, data, files, paths
from fewlabels.errors import UserError
from fewlabels.learn.resume import resumable
from fewlabels.runs import kept
from fewlabels.runs.reading import Damaged, Record, found, identity, plain, written

ADDED = {"added": True}
"""Metadata of a field that a kind of run got later: at its default it is left out of the identity,
so that records from before it stay valid."""
LIBRARIES = (
    *("torch", "torchvision", "lightning", "numpy", "scipy", "scikit-learn", "scikit-image"),
    *("torchmetrics", "captum", "pillow", "fewlabels"),
)
"""Whose versions a record names: those that train, measure, or decode images."""


@dataclass(frozen=True)
class Outcome:
    """What a run measured."""

    metrics: dict[str, float]
    curves: dict[str, list[float]] = field(default_factory=dict)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    """Classes (uint8), or probabilities (float16) where fusion or calibration needs them."""
    parameters: dict[str, int] = field(default_factory=dict)
    """Parameter counts, ``total`` and ``trained``."""
    weights: dict[str, torch.Tensor] | None = None
    """State dict for runs that build on this one; goes to the cache, never into the record."""


@dataclass(frozen=True)
class Experiment:
    """Base of the configs: a frozen dataclass whose fields are all that decides the result.

    A kind of experiment names itself (``kind``) and counts the versions of its procedure
    (``recipe``, raised whenever a change of code changes results), both beside its base class, and
    knows how to ``execute`` itself.
    """

    kind: ClassVar[str]
    recipe: ClassVar[int]

    dataset: str

    def __init_subclass__(cls, kind: str | None = None, recipe: int | None = None):
        for name, value in (("kind", kind), ("recipe", recipe)):
            if value is not None:
                setattr(cls, name, value)

    def cell(self) -> dict[str, str | int]:
        """The row of the tables this run counts towards: dataset, labels, method, backbone,
        protocol. Runs that differ only in their label draw and seed share it."""
        raise NotImplementedError

    def row(
        self, labels: int | str, method: str, backbone: str, protocol: str
    ) -> dict[str, str | int]:
        """What `cell` returns, by its columns; the data set is the run's."""
        columns = {"labels": labels, "method": method, "backbone": backbone, "protocol": protocol}
        return {"dataset": self.dataset} | columns

    def needs(self) -> Sequence["Experiment"]:
        """Runs whose weights this one starts from: those among its fields."""
        values = (getattr(self, item.name) for item in fields(self))
        return tuple(value for value in values if isinstance(value, Experiment))

    def execute(self, fabric: Fabric, store: "Store") -> Outcome:
        """Compute the run. Seeds itself; scores the test set once, at the end."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Config, kind and recipe as plain JSON values, nested runs included."""
        described: dict[str, Any] = {"kind": self.kind, "recipe": self.recipe}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.metadata == ADDED and value == item.default:
                continue
            if isinstance(value, Experiment):
                value = value.describe()
            elif hasattr(value, "__dataclass_fields__"):
                value = asdict(value)
            described[item.name] = value
        return described

    def checksums(self) -> dict[str, str]:
        """md5 of every data set the run reads."""
        return {self.dataset: data.md5(self.dataset)}

    @property
    def id(self) -> str:
        """Twelve hex digits: the hash of config, recipe and data."""
        return identity(self.describe(), self.checksums())


_READING: ContextVar[bool] = ContextVar("reading", default=False)


@contextmanager
def reading_only() -> Iterator[None]:
    """Within it no run is computed and no file written or moved.

    A record that is damaged, or missing where it would be computed, is a UserError that names it.
    """
    token = _READING.set(True)
    try:
        yield
    finally:
        _READING.reset(token)


def is_reading() -> bool:
    """Whether this is within `reading_only`."""
    return _READING.get()


class Store:
    """Records in a folder, and the weights that belong to them in the cache.

    Args:
        folder: where the records are; made on the first write.
        weights: where the weights are, if not with those of all other stores in the cache.
    """

    def __init__(self, folder: Path, weights: Path | None = None):
        self.folder, self._own_weights = Path(folder), weights

    @classmethod
    def of_chapter(cls, name: str, where: str) -> "Store":
        """A chapter's: the book's own (``where="results"``) or the reader's (``"cache"``)."""
        return cls(paths.RESULTS / name if where == "results" else paths.cache() / "runs" / name)

    def name(self, experiment: Experiment) -> str:
        """``kind-id``, under which the record lies in the folder."""
        return f"{experiment.kind}-{experiment.id}"

    def path(self, experiment: Experiment) -> Path:
        """The file that the run writes; see `kept` for where its record is."""
        return self.folder / f"{self.name(experiment)}.json"

    def has(self, experiment: Experiment) -> bool:
        """Whether there is a record under the run's name, sound or not."""
        return kept.place(self.folder, self.name(experiment)) is not None

    def get(self, experiment: Experiment) -> Record | None:
        """The record of exactly this run, or None.

        A file under its name that is damaged or of another run is moved to ``set-aside/`` with a
        warning and never used; within `reading_only`, and in a file of many, it is an error.
        """
        try:
            record = found(self.folder, self.name(experiment))
            if record is None:
                return None
            if record.config != plain(experiment.describe()) or record.id != experiment.id:
                place = kept.place(self.folder, self.name(experiment))
                raise Damaged(place, "it is the record of another run")
        except Damaged as error:
            if is_reading() or error.path != self.path(experiment):
                raise UserError(str(error)) from error
            return cached.set_aside(error.path, error.why)
        # What tables call it is the code's to say.
        return replace(record, cell=experiment.cell())

    def records(self) -> list[Record]:
        """Every record in the folder, in the order of their names. Raises Damaged."""
        return [found(self.folder, name) for name in kept.names(self.folder)]

    def run(self, experiment: Experiment, fabric: Fabric) -> Record:
        """The record of this run, computed if it is not there yet.

        Two processes asking for the same run compute it once: the second waits for the first.
        """
        record = self.get(experiment)
        if record is None:
            with self._lock(experiment):
                record = self.get(experiment) or self._compute(experiment, fabric)
        return record

    def weights(self, experiment: Experiment, fabric: Fabric) -> dict[str, torch.Tensor]:
        """State dict that the run left, computed again where the cache has lost or damaged it."""
        self.require_weights(experiment, fabric)
        path = self.weights_path(experiment)
        return torch.load(path, map_location=fabric.device, weights_only=True)

    def require_weights(self, experiment: Experiment, fabric: Fabric) -> None:
        """Compute the run where the cache does not hold its weights; its record, if any, stays.

        Another machine may round otherwise: where the record names other weights than those that
        were made again, a warning says so. Runs that start from them say which they started from.
        """
        if not self.has_weights(experiment):
            with self._lock(experiment):
                if not self.has_weights(experiment):
                    made = self._compute(experiment, fabric).weights
                    wanted = self.get(experiment).weights
                    if wanted not in ("", made):
                        warnings.warn(
                            f"the weights of {experiment.kind}-{experiment.id} were made again and "
                            "differ from those of its record: runs that start from them may differ "
                            "from the recorded ones.",
                            stacklevel=2,
                        )

    def has_weights(self, experiment: Experiment) -> bool:
        """Whether the cache holds the weights that the record names, or that were made again here.

        Another file is set aside, with a warning.
        """
        path = self.weights_path(experiment)
        record = self.get(experiment)
        if record is None or not path.exists():
            return False
        again = path.with_suffix(".sha256")
        named = {record.weights, again.read_text() if again.exists() else ""} - {""}
        if not named:  # From before either was noted.
            return cached.load(path, lambda kept: isinstance(kept, dict), mmap=True) is not None
        if files.sha256(path) not in named:
            cached.set_aside(path, "it is not the file that the run has left")
            return False
        return True

    def lacks(self, *experiments: Experiment) -> UserError:
        """The error where runs would be computed and must not be."""
        more = f", and {len(experiments) - 1} more of its runs" if experiments[1:] else ""
        return UserError(
            f"{self.path(experiments[0])} is missing{more}: `fewlabels run {self.folder.name}` "
            "computes what a profile lacks."
        )

    def _compute(self, experiment: Experiment, fabric: Fabric) -> Record:
        if is_reading():
            raise self.lacks(experiment)
        unfinished = paths.cache() / "unfinished" / f"{experiment.kind}-{experiment.id}"
        for place in (self.folder, self.weights_path(experiment).parent, unfinished.parent):
            files.folder(place)  # Refused before the work, not after it.
        for need in experiment.needs():
            # Before the run seeds itself: in its midst they would shift its random numbers.
            self.require_weights(need, fabric)
        source = code.digest(type(experiment).__module__)
        with resumable(unfinished, source) as run:
            outcome = experiment.execute(fabric, self)
        seconds = run.seconds()
        weights = self.weights_path(experiment)
        if outcome.weights is not None:
            cached.save(outcome.weights, weights)
            with files.whole(weights.with_suffix(".sha256")) as stream:
                stream.write(files.sha256(weights).encode())
        record = Record(
            id=experiment.id,
            config=plain(experiment.describe()),
            cell=experiment.cell(),
            data=experiment.checksums(),
            inputs={need.id: files.sha256(self.weights_path(need)) for need in experiment.needs()},
            metrics=outcome.metrics,
            curves=outcome.curves,
            predictions=outcome.predictions,
            parameters=outcome.parameters,
            seconds=round(seconds, 3),
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            versions={name: _version(name) for name in LIBRARIES}
            | {"python": platform.python_version()},
            hardware=hardware(fabric),
            weights="" if outcome.weights is None else files.sha256(weights),
            source=source,
        )
        self._write(record)
        shutil.rmtree(unfinished, ignore_errors=True)
        return record

    def take(self, record: Record, weights: bytes | None) -> None:
        """Keep what another machine has computed; a record that is there stays."""
        if weights is not None:
            path = self._weights(f"{record.config['kind']}-{record.id}")
            digest = hashlib.sha256(weights).hexdigest().encode()
            for file, content in ((path, weights), (path.with_suffix(".sha256"), digest)):
                with files.whole(file) as stream:
                    stream.write(content)
        self._write(record)

    def _write(self, record: Record) -> None:
        name = f"{record.config['kind']}-{record.id}"
        # Where weights were computed again for a run whose record stands, it is not touched.
        if kept.place(self.folder, name) is None:
            with files.whole(self.folder / f"{name}.json") as stream:
                stream.write(written(record))

    def weights_path(self, experiment: Experiment) -> Path:
        """Where its weights are kept."""
        return self._weights(f"{experiment.kind}-{experiment.id}")

    def _weights(self, name: str) -> Path:
        return (self._own_weights or paths.cache() / "weights") / f"{name}.pt"

    @contextmanager
    def _lock(self, experiment: Experiment) -> Iterator[None]:
        where = hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:8]
        name = f"{experiment.kind}-{experiment.id}-{where}.lock"
        path = paths.cache() / "locks" / name
        with files.locked(path):
            yield
            # Done for all: who waits for this file, or comes later to a new one, has nothing to do.
            with suppress(OSError):
                path.unlink()


def hardware(fabric: Fabric) -> dict[str, str | int]:
    """Device, processor, threads and precision a run is made with."""
    cuda = fabric.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(fabric.device) if cuda else fabric.device.type,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "precision": str(fabric._precision.precision),
        "devices": fabric.world_size,
    }


@cache
def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        # A checkout that is on the path without being installed.
        return "not installed"
