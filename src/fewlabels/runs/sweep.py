"""A grid of runs onto processes of this machine, or onto a cluster.

Every run has one CPU thread, so that its result does not depend on how many run beside it; on a GPU
the workers share the card, and their number is found by `fewlabels.runs.crowd`. A sweep that is
stopped goes on where it was: runs under way keep their state, and started again it takes up what is
missing.
"""

import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import lru_cache, partial
from pathlib import Path

import torch
from lightning.fabric import Fabric
from threadpoolctl import threadpool_limits

from fewlabels import config, paths
from fewlabels.errors import UserError
from fewlabels.learn.resume import STOP, TELL, Stopped
from fewlabels.learn.training import NonFiniteLoss
from fewlabels.runs import crowd, executors, under_way
from fewlabels.runs.executors import Place
from fewlabels.runs.expected import Expected
from fewlabels.runs.graph import computed
from fewlabels.runs.records import Experiment, Record, Store, is_reading

SCHEDULER = "FEWLABELS_SCHEDULER"
"""Environment variable: the address of a Dask scheduler, see `run_all`."""

Progress = Callable[[int, int, Record], None]


def print_line(done: int, total: int, record: Record) -> None:
    """One line per finished run, for notebooks and logs."""
    print(f"{done}/{total}  {_label(record.cell)}  {record.id}  {record.seconds:.0f} s", flush=True)


def _label(cell: Mapping[str, str | int]) -> str:
    return " ".join(str(part) for part in cell.values() if part != "")


def run_all(
    experiments: Sequence[Experiment],
    store: Store,
    device: str = "auto",
    precision: str = "32-true",
    workers: int = 0,
    progress: Progress = print_line,
    minutes: float = math.inf,
    keep_going: bool = False,
    scheduler: str = "",
) -> list[Record | None]:
    """Records of all experiments, in their order; those that are missing are computed.

    A run is started as soon as what it needs is there, earlier ones of ``experiments`` first. What
    they need is computed as well, also where it has a record and the cache has lost its weights.

    Ctrl-C, SIGTERM and the end of the time do the same: nothing more is started, what trains keeps
    its state and stops, and a line says what remains. After either signal KeyboardInterrupt is
    raised with that line; a second one does not wait.

    Args:
        device: a Fabric accelerator: ``auto``, ``cpu``, ``cuda``, ``mps``.
        precision: a Fabric precision, ``32-true`` or ``bf16-mixed`` for example.
        workers: processes at once; 0 means one per CPU core, on a graphics card at most so many,
            see `fewlabels.runs.crowd`; 1 computes in this process.
        progress: called as ``progress(done, missing, record)`` after each computed run. On a
            terminal, bars take the place of the lines.
        minutes: the time. A run that would not end within it, as past records say, is not started,
            unless it takes longer than all of it: it goes on the next time. Those that were not
            made stay None.
        keep_going: a run whose loss is no longer finite, for which the card has too little memory,
            or whose process is killed, is told in a warning and stays None, with all that needs it,
            instead of ending the sweep.
        scheduler: address of a Dask scheduler whose workers compute instead of this machine; where
            it is empty, ``FEWLABELS_SCHEDULER`` may name one.

    Raises:
        UserError: a run's process was killed twice, after all others were made; or see
            `fewlabels.runs.executors.dask` and `fabric_on`.
    """
    end = time.time() + 60 * minutes
    expected = Expected(cpu=device == "cpu" or not _accelerated())
    jobs = _missing(experiments, store, expected)
    if jobs and is_reading():
        raise store.lacks(*jobs)  # Workers would not know.
    scheduler = scheduler or os.environ.get(SCHEDULER, "")
    if jobs and time.time() < end:
        sweep = _Sweep(jobs, store, expected, end, 60 * minutes, keep_going)
        with ExitStack() as stack:
            folder = stack.enter_context(under_way.opened())
            if scheduler:
                place = executors.dask(scheduler, device != "cpu", folder.name)
                place = stack.enter_context(place)
            else:
                place = _local(workers, [*jobs], device, folder)
            drawn = sys.stderr.isatty() and under_way.NAME not in os.environ
            stack.enter_context(under_way.bars(folder) if drawn else nullcontext())
            stop = partial(under_way.closed, folder)
            stopped = stack.enter_context(under_way.signals(stop))
            told = (lambda *_: None) if drawn and progress is print_line else progress
            sweep.compute(place, folder, (device, precision), told, stopped)
        sweep.end(stopped())
    return [store.get(run) for run in experiments]


def _local(workers: int, jobs: list[Experiment], device: str, folder: Path) -> Place:
    most = min(workers or config.cores(), len(jobs))
    if workers or most == 1 or not _cards(device):
        return executors.local(most, jobs[0])
    free, steps = crowd.free_memory, partial(under_way.steps, folder)
    return executors.local(most, jobs[0], crowd.Crowd(most, _cards(device), free, steps))


def _cards(device: str) -> int:
    return torch.cuda.device_count() if device in ("auto", "cuda") else 0


def _accelerated() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _missing(
    experiments: Sequence[Experiment], store: Store, expected: Expected
) -> dict[Experiment, bool]:
    """The runs to compute, each behind what it needs, and whether others start from its weights.

    Those that are there say how long such runs take.
    """
    jobs: dict[Experiment, bool] = {}

    def add(run: Experiment, needed: bool) -> None:
        if run in jobs:
            jobs[run] |= needed
            return
        record = store.get(run)
        if record is not None:
            expected.learn(record)
        if record is None or (needed and not store.has_weights(run)):
            for need in run.needs():
                add(need, True)
            jobs[run] = needed

    for run in experiments:
        add(run, False)
    return jobs


class _Sweep:
    """The missing runs of a sweep, and what is known of them."""

    def __init__(
        self,
        jobs: dict[Experiment, bool],
        store: Store,
        expected: Expected,
        end: float,
        seconds: float,
        keep_going: bool,
    ):
        self.jobs, self.store, self.expected = jobs, store, expected
        self.end_time, self.seconds, self.keep_going = end, seconds, keep_going
        self.runs = list(jobs)
        self.left = dict.fromkeys(self.runs)
        self.killed: list[Experiment] = []
        self.at_once, self.said = 1, -math.inf

    def compute(
        self,
        place: Place,
        folder: Path,
        how: tuple[str, str],
        progress: Progress,
        stopped: Callable[[], bool],
    ) -> None:
        """Compute what can be until the end."""
        self.at_once = min(place.at_once, len(self.runs))
        shared = folder.name if place.shared else None
        task = partial(_compute, shared, self.end_time, *how, self.keep_going)
        if place.cluster:
            task = partial(_alone, task)

        def cancelled(pool):
            over = stopped() or time.time() >= self.end_time
            return (stopped() and not place.shared) or (over and executors.starting(pool))

        def submit(pool, i):
            run = self.runs[i]
            store = self.store
            if not place.shared:
                store = _Away(store.folder.name, [self._kept(need) for need in run.needs()])
            return pool.submit(task, store, run, self.jobs[run], i, self._latest(run))

        self._say(folder)
        for i, result in computed(
            self.runs,
            place,
            submit,
            lambda i: not stopped() and time.time() < self._latest(self.runs[i]),
            cancelled,
            lambda i: self._was_killed(self.runs[i]),
        ):
            run, (record, weights) = self.runs[i], result if place.cluster else (result, None)
            if record.id != run.id:
                raise UserError(
                    f"a worker of the cluster has other data than this machine: it made "
                    f"{record.id} where {run.id} was asked for. Give it the same FEWLABELS_DATA."
                )
            if place.cluster:
                self.store.take(record, weights)
            del self.left[run]
            self.expected.learn(record)
            progress(len(self.runs) - len(self.left), len(self.runs), record)
            self._say(folder)

    def end(self, interrupted: bool) -> None:
        """Say what remains, and raise what has to be."""
        told = self.expected.left(self.left, self.at_once)
        if interrupted:
            raise KeyboardInterrupt(told)
        if self.left and math.isfinite(self.seconds):
            print(f"{told}. Started again, the sweep goes on.", flush=True)
        if self.killed and not self.keep_going:
            raise UserError(_killed(self.killed[0]))

    def _latest(self, run: Experiment) -> float:
        """When the run may be started at the latest: to end in time, or to be taken up again."""
        seconds = self.expected.seconds(run) or 0
        return self.end_time - (seconds if seconds <= self.seconds else 0)

    def _say(self, folder: Path) -> None:
        """What the bars show: at most once a second, as it looks at every run that is left."""
        if self.left and time.monotonic() < self.said + 1:
            return
        self.said = time.monotonic()
        told = self.expected.left(self.left, self.at_once)
        done = len(self.runs) - len(self.left)
        under_way.say(folder, "sweep", label=told, done=done, of=len(self.runs))

    def _was_killed(self, run: Experiment) -> None:
        self.killed.append(run)
        if self.keep_going:
            warnings.warn(f"left out: {_killed(run)}", stacklevel=2)

    def _kept(self, need: Experiment) -> tuple[Record, bytes]:
        return self.store.get(need), self.store.weights_path(need).read_bytes()


def _killed(run: Experiment) -> str:
    return (
        f"the process of {_label(run.cell())} ({run.kind}-{run.id}) was killed by the system, "
        "often because memory is short. All else is kept: start again with fewer workers "
        "(-p workers 1)."
    )


class _Away:
    """A store on a machine that shares no folder with the one that asks.

    Args:
        name: of the folder, which is in that machine's cache.
        brought: records and weights that the run starts from.
    """

    def __init__(self, name: str, brought: list[tuple[Record, bytes]]):
        self._name, self._brought = name, brought

    def here(self) -> Store:
        store = Store(paths.cache() / "runs" / self._name)
        for record, weights in self._brought:
            store.take(record, weights)
        return store


_ONE = threading.Lock()


def _alone(
    task: Callable, store: Store | _Away, run: Experiment, needed: bool, *more
) -> tuple[Record, bytes | None] | None:
    """The task on a worker of a cluster, whose threads would share their random numbers; with the
    weights, where they are needed and have to travel."""
    with _ONE:
        torch.set_num_threads(1)
        own = store.here() if isinstance(store, _Away) else store
        record = task(own, run, needed, *more)
        if record is None:
            return None
        travel = needed and isinstance(store, _Away)
        return record, own.weights_path(run).read_bytes() if travel else None


def _compute(
    sweep: str | None,
    end: float,
    device: str,
    precision: str,
    keep_going: bool,
    store: Store,
    run: Experiment,
    needed: bool,
    place: int,
    latest: float,
) -> Record | None:
    """The record, or None where it is too late, the run was stopped, or may fail and does.

    ``place`` spreads the runs over several cards.
    """
    # Elsewhere the same cache may have another path.
    folder = None if sweep is None else under_way.place(sweep)
    watch = under_way.Watch(folder, end, _label(run.cell()))
    if time.time() >= latest or watch.stop():
        return None
    cards = _cards(device)
    fabric = fabric_on(device, precision, place % cards if cards else None)
    tokens = STOP.set(watch.stop), TELL.set(watch.tell)
    try:
        with threadpool_limits(1):
            if needed:
                store.require_weights(run, fabric)
            return store.run(run, fabric)
    except Stopped:
        return None
    except (NonFiniteLoss, torch.OutOfMemoryError) as error:
        if not keep_going:
            raise
        warnings.warn(f"left out: {error}", stacklevel=2)
        return None
    finally:
        STOP.reset(tokens[0])
        TELL.reset(tokens[1])
        watch.over()


@lru_cache(maxsize=8)
def fabric_on(device: str, precision: str, card: int | None = None) -> Fabric:
    """A Fabric on one device, kept: to make one takes longer than a short run.

    Raises:
        UserError: this machine has no such device.
    """
    found = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    config.one_of("device", device, ("auto", "cpu", *found))
    if device in found and not found[device]():
        raise UserError(
            f"device is {device!r}, but PyTorch finds none on this machine: pass device=auto, "
            "which takes what is there, or device=cpu."
        )
    devices = 1 if card is None else [card]
    return Fabric(accelerator=device, devices=devices, precision=precision)
