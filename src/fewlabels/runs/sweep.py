"""A grid of runs onto processes.

Every run has one CPU thread, so that its result does not depend on how many run beside it; on a
GPU the workers share the card. A sweep that is stopped loses only the runs under way: started
again, it goes on with what is missing.
"""

import math
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import lru_cache, partial
from itertools import islice

import torch
from lightning.fabric import Fabric
from threadpoolctl import threadpool_limits

from fewlabels.errors import UserError
from fewlabels.learn.training import NonFiniteLoss
from fewlabels.runs.records import Experiment, Record, Store, is_reading

Progress = Callable[[int, int, Record], None]


def print_line(done: int, total: int, record: Record) -> None:
    """One line per finished run, for notebooks and logs."""
    cell = " ".join(str(part) for part in record.cell.values() if part != "")
    print(f"{done}/{total}  {cell}  {record.id}  {record.seconds:.0f} s", flush=True)


def run_all(
    experiments: Sequence[Experiment],
    store: Store,
    device: str = "auto",
    precision: str = "32-true",
    workers: int = 0,
    progress: Progress = print_line,
    minutes: float = math.inf,
    keep_going: bool = False,
) -> list[Record | None]:
    """Records of all experiments, in their order; those that are missing are computed.

    A run is started as soon as what it needs is there, earlier ones of ``experiments`` first. What
    they need is computed as well, also where it has a record and the cache has lost its weights.

    Args:
        device: a Fabric accelerator: ``auto``, ``cpu``, ``cuda``, ``mps``.
        precision: a Fabric precision, ``32-true`` or ``bf16-mixed`` for example.
        workers: processes at once; 0 means one per CPU core, 1 computes in this process.
        progress: called as ``progress(done, missing, record)`` after each computed run.
        minutes: no run is started later than this after the call; those not started stay None.
        keep_going: a run whose loss is no longer finite, or for which the card has too little
            memory, is told in a warning and stays None, with all that needs it, instead of ending
            the sweep.
    """
    end = time.time() + 60 * minutes
    jobs = _missing(experiments, store)
    if jobs and is_reading():
        raise store.lacks(*jobs)  # Workers would not know.
    count = min(workers or os.cpu_count() or 1, len(jobs))
    compute = _in_order if count <= 1 else partial(_side_by_side, workers=count)
    if jobs and time.time() < end:
        found = compute(jobs, partial(_compute, store, device, precision, end, keep_going), end)
        for done, record in enumerate(found, start=1):
            progress(done, len(jobs), record)
    return [store.get(run) for run in experiments]


def _missing(experiments: Sequence[Experiment], store: Store) -> dict[Experiment, bool]:
    """The runs to compute, each behind what it needs, and whether others start from its weights."""
    jobs: dict[Experiment, bool] = {}

    def add(run: Experiment, needed: bool) -> None:
        if run in jobs:
            jobs[run] |= needed
        elif store.get(run) is None or (needed and not store.has_weights(run)):
            for need in run.needs():
                add(need, True)
            jobs[run] = needed

    for run in experiments:
        add(run, False)
    return jobs


def _in_order(jobs: dict[Experiment, bool], compute: Callable, end: float) -> Iterator[Record]:
    """Compute one after the other in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    failed = set()
    try:
        for run, needed in jobs.items():
            if time.time() >= end:
                return
            record = None if failed & {*run.needs()} else compute(run, needed, 0)
            if record is None:
                failed.add(run)
            else:
                yield record
    finally:
        torch.set_num_threads(threads)


def _side_by_side(
    jobs: dict[Experiment, bool], compute: Callable, end: float, workers: int
) -> Iterator[Record]:
    """Compute in several processes: whenever one is free, the first run that can start."""
    place = {run: i for i, run in enumerate(jobs)}
    needs = [{place[need] for need in run.needs() if need in place} for run in jobs]
    runs, waiting = list(jobs), dict.fromkeys(range(len(jobs)))
    running: dict[Future, int] = {}
    made: set[int] = set()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        try:
            while True:
                # A run that needs one that has failed is never ready.
                ready = (i for i in waiting if needs[i] <= made)
                for i in list(islice(ready, workers - len(running))):
                    if time.time() < end:
                        del waiting[i]
                        running[pool.submit(compute, runs[i], jobs[runs[i]], i)] = i
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    i, record = running.pop(future), future.result()
                    if record is not None:
                        made.add(i)
                        yield record
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _compute(
    store: Store,
    device: str,
    precision: str,
    end: float,
    keep_going: bool,
    run: Experiment,
    needed: bool,
    place: int,
) -> Record | None:
    """The record, or None once the clock has passed ``end`` or where the run may fail and does.

    ``place`` spreads the runs over several cards.
    """
    if time.time() >= end:
        return None
    cards = torch.cuda.device_count() if device in ("auto", "cuda", "gpu") else 0
    fabric = fabric_on(device, precision, place % cards if cards else None)
    with threadpool_limits(1):
        try:
            if needed:
                store.require_weights(run, fabric)
            return store.run(run, fabric)
        except (NonFiniteLoss, torch.OutOfMemoryError) as error:
            if not keep_going:
                raise
            warnings.warn(f"left out: {error}", stacklevel=2)
            return None


@lru_cache(maxsize=8)
def fabric_on(device: str, precision: str, card: int | None = None) -> Fabric:
    """A Fabric on one device, kept: to make one takes longer than a short run.

    Raises:
        UserError: this machine has no such device.
    """
    found = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device in found and not found[device]():
        raise UserError(
            f"device is {device!r}, but PyTorch finds none on this machine: pass device=auto, "
            "which takes what is there, or device=cpu."
        )
    devices = 1 if card is None else [card]
    return Fabric(accelerator=device, devices=devices, precision=precision)


def _start_worker() -> None:
    torch.set_num_threads(1)
    # Ctrl-C is for the process that was started by hand; it ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A worker whose parent was killed must not go on by itself.
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
