"""Where runs are computed: executors with the interface of `concurrent.futures`."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch

from fewlabels.errors import UserError
from fewlabels.runs import under_way

ANSWER = 20
"""Seconds in which a scheduler has to answer."""


@dataclass(frozen=True)
class Place:
    """Where a sweep's runs are computed."""

    opened: Callable[[], AbstractContextManager[Executor]]
    """A new executor; another one is opened where it breaks."""
    at_once: int
    """Runs that are handed to it at once, at most."""
    cluster: bool = False
    """Whether runs may share a process there."""
    shared: bool = True
    """Whether those who compute see this machine's cache and results."""
    fewer: Callable[[int], int] | None = None
    """How many it is now, from how many are under way; asked again and again."""

    def room(self, running: int) -> int:
        """How many more may be handed over."""
        now = self.at_once if self.fewer is None else self.fewer(running)
        return max(0, now - running)


class _InThisProcess(Executor):
    """Computes at once what it is given."""

    def submit(self, function, /, *args, **kwargs) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def _in_this_process() -> Iterator[Executor]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield _InThisProcess()
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _processes(count: int) -> Iterator[Executor]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, _start_worker)
    try:
        for _ in range(count):
            pool.submit(int)  # All start now, and import torch beside each other.
        yield pool
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            for worker in multiprocessing.active_children():
                worker.kill()
        pool.shutdown(wait=False, cancel_futures=True)  # An error is told at once.
        raise
    # Python 3.11 fails at its exit now and then where a pool is still shutting down.
    pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    torch.set_num_threads(1)
    # Signals are for the process that was started by hand; it tells its workers to stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # A worker whose parent was killed must not go on by itself.
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def local(workers: int, fewer: Callable[[int], int] | None = None) -> Place:
    """This process, or several of this machine; ``fewer``: see `Place`."""
    if workers <= 1:
        return Place(_in_this_process, 1)
    return Place(partial(_processes, workers), workers, fewer=fewer)


@contextmanager
def dask(address: str, cards: bool, sweep: str) -> Iterator[Place]:
    """The workers of a running Dask scheduler.

    Args:
        address: of the scheduler, ``tcp://host:port``.
        cards: runs may use a card: where workers offer ``GPU``, each run takes one of it.
        sweep: name of this sweep's folder; workers that see it share the cache.

    Raises:
        UserError: ``distributed`` is not installed, or no scheduler or worker answers.
    """
    try:
        # Not by name: a folder that is packed for elsewhere does without.
        client_of = import_module("distributed").Client
    except ImportError:
        raise UserError(
            "a scheduler needs Dask, on this machine and on the workers: "
            "pip install -e '.[cluster]' in the checkout."
        ) from None
    try:
        client = client_of(address, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at {address} ({error}): start one with `dask scheduler`, "
            "or name the address that it prints."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=600)
        except TimeoutError:
            raise UserError(
                f"the Dask scheduler at {address} has no worker after ten minutes: start some with "
                f"`dask worker {address} --nthreads 1`."
            ) from None
        offers = [each["resources"] for each in client.scheduler_info(-1)["workers"].values()]
        resources = {"GPU": 1} if cards and any("GPU" in each for each in offers) else {}
        try:
            shared = all(client.run(_sees, sweep).values())
        except ModuleNotFoundError as error:
            raise UserError(
                f"a worker of {address} has no {error.name}: start it in an environment in which "
                "this checkout is installed."
            ) from None
        opened = partial(_dask_executor, client, resources)
        # All that can start is handed over: clusters grow with what is waiting.
        yield Place(opened, sys.maxsize, cluster=True, shared=shared)


@contextmanager
def _dask_executor(client: Any, resources: dict[str, int]) -> Iterator[Executor]:
    executor = client.get_executor(pure=False, **({"resources": resources} if resources else {}))
    try:
        yield executor
    finally:
        executor.shutdown(wait=False)


def _sees(sweep: str) -> bool:
    return under_way.place(sweep).exists()


def was_killed(error: BaseException) -> bool:
    """Whether Dask gave a run up whose workers died, one after the other."""
    return type(error).__name__ == "KilledWorker"
