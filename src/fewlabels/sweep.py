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
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache

import torch
from lightning.fabric import Fabric
from threadpoolctl import threadpool_limits

from fewlabels.errors import UserError
from fewlabels.runs import Experiment, Record, Store
from fewlabels.training import NonFiniteLoss

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
    skip_diverged: bool = False,
) -> list[Record | None]:
    """Records of all experiments, in their order; those that are missing are computed.

    Args:
        device: a Fabric accelerator: ``auto``, ``cpu``, ``cuda``, ``mps``.
        precision: a Fabric precision, ``32-true`` or ``bf16-mixed`` for example.
        workers: processes at once; 0 means one per CPU core, 1 computes in this process.
        progress: called as ``progress(done, missing, record)`` after each computed run.
        minutes: no run is started later than this after the call; those not started stay None.
        skip_diverged: a run whose loss is no longer finite is told in a warning and stays None,
            instead of ending the sweep.
    """
    end = time.time() + 60 * minutes
    missing = list(dict.fromkeys(run for run in experiments if store.get(run) is None))
    needed = {need for run in missing for need in run.needs()}
    stages = [[run for run in missing if run in needed], [r for r in missing if r not in needed]]
    done = 0
    for stage in stages:
        count = workers or os.cpu_count() or 1
        for record in _compute_all(stage, store, device, precision, count, end, skip_diverged):
            if record is not None:
                done += 1
                progress(done, len(missing), record)
    return [store.get(run) for run in experiments]


def _compute_all(
    stage: list[Experiment],
    store: Store,
    device: str,
    precision: str,
    workers: int,
    end: float,
    skip_diverged: bool,
):
    """Yield the records of a stage as they are finished, None for runs that were not started."""
    if min(workers, len(stage)) <= 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for run in stage:
                yield _compute(run, store, device, precision, 0, end, skip_diverged)
        finally:
            torch.set_num_threads(threads)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(stage)), context, _start_worker) as pool:
        waiting = [
            pool.submit(_compute, run, store, device, precision, i, end, skip_diverged)
            for i, run in enumerate(stage)
        ]
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _compute(
    run: Experiment,
    store: Store,
    device: str,
    precision: str,
    place: int,
    end: float,
    skip_diverged: bool,
) -> Record | None:
    """The record, or None once the clock has passed ``end`` or where the run may diverge and does.

    ``place`` spreads the runs of a stage over several cards.
    """
    if time.time() >= end:
        return None
    cards = torch.cuda.device_count() if device in ("auto", "cuda", "gpu") else 0
    fabric = fabric_on(device, precision, place % cards if cards else None)
    with threadpool_limits(1):
        try:
            return store.run(run, fabric)
        except NonFiniteLoss as error:
            if not skip_diverged:
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
