"""A sweep under way: a folder in the cache that is there as long as the sweep goes on.

Runs see by it whether to stop, and say in it how far they are; whoever draws bars reads it. Where
machines share the cache it serves all of them.
"""

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from fewlabels import files, paths

NAME = "FEWLABELS_SWEEP"
"""Environment variable: the folder's name, where another process draws the bars."""
EVERY = 0.5
"""Seconds between two looks at the folder, and two words in it."""


def own_name() -> str:
    """Of this process's folder."""
    return f"{socket.gethostname()}-{os.getpid()}"


def place(name: str) -> Path:
    """The folder of this name."""
    return paths.cache() / "sweeps" / name


@contextmanager
def opened() -> Iterator[Path]:
    """The folder of a sweep that begins."""
    folder = place(os.environ.get(NAME) or own_name())
    _clear(folder.parent)
    files.folder(folder)
    try:
        yield folder
    finally:
        closed(folder)


def closed(folder: Path) -> None:
    """Tell all who work for the sweep to stop."""
    # Under its own name others would go on to write into it, and it could not be removed.
    gone = folder.with_name(f"{folder.name}.{uuid4().hex}")
    with suppress(FileNotFoundError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _clear(sweeps: Path) -> None:
    """Remove the folders that killed sweeps of this machine have left."""
    for folder in sweeps.glob("*-*"):
        host, _, pid = folder.name.rpartition("-")
        if host == socket.gethostname() and pid.isdigit() and not _alive(int(pid)):
            closed(folder)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def say(folder: Path, name: str, **told: object) -> None:
    """Leave some words for those who look; without a word where the folder has gone."""
    with suppress(OSError):
        partial = folder / f"{name}.{os.getpid()}.part"
        partial.write_text(json.dumps(told))
        partial.replace(folder / f"{name}.json")


class Watch:
    """What one run asks and says after every step.

    Args:
        folder: of the sweep; None where this machine does not share it.
        end: when the time is up, in seconds since 1970.
        label: names the run.
    """

    def __init__(self, folder: Path | None, end: float, label: str):
        self._folder, self._end, self._label = folder, end, label
        self._looked = self._said = 0.0
        self._gone = False

    def stop(self) -> bool:
        """Whether the time is up or the sweep is over."""
        now = time.time()
        if self._folder and now - self._looked > EVERY:
            self._looked, self._gone = now, not self._folder.exists()
        return self._gone or now >= self._end

    def tell(self, step: int, steps: int) -> None:
        """Say how far the run is."""
        now = time.time()
        if self._folder and now - self._said > EVERY:
            self._said = now
            say(self._folder, own_name(), label=self._label, done=step, of=steps, at=now)

    def over(self) -> None:
        """The run has ended."""
        if self._folder:
            (self._folder / f"{own_name()}.json").unlink(missing_ok=True)


@contextmanager
def signals(stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C or SIGTERM calls ``stop``; yields whether one came. The second is
    a KeyboardInterrupt. Only the main thread hears of signals."""
    came: list[int] = []

    def heard(number, frame):
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        stop()

    listening = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if listening else ()
    before = [signal.signal(number, heard) for number in numbers]
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def bars(folder: Path) -> Iterator[None]:
    """Bars on the terminal: the sweep's, and one for every run that says how far it is."""
    over = threading.Event()
    thread = threading.Thread(target=_draw, args=(folder, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _draw(folder: Path, over: threading.Event) -> None:
    from tqdm import tqdm  # Which rendering the book does without.

    drawn: dict[str, tqdm] = {}
    while not over.wait(EVERY):
        told = dict(_told(folder))
        for name in drawn.keys() - told.keys():
            drawn.pop(name).close()
        for name, said in told.items():
            bar = drawn.get(name)
            if bar is None:
                drawn[name] = bar = tqdm(total=said["of"], leave=False, file=sys.stderr)
            bar.total, bar.n = said["of"], said["done"]
            bar.set_description_str(said["label"])
    for bar in drawn.values():
        bar.close()


def steps(folder: Path) -> dict[tuple[str, str], tuple[int, float]]:
    """Of every process whose run trains, and that run's label: steps made, and when that was."""
    told = ((name, said) for name, said in _told(folder) if "at" in said)
    return {(name, said["label"]): (said["done"], said["at"]) for name, said in told}


def _told(folder: Path) -> Iterator[tuple[str, dict]]:
    """What is said at the moment, the sweep first."""
    for path in sorted(folder.glob("*.json"), key=lambda path: (path.stem != "sweep", path.stem)):
        with suppress(OSError, ValueError):  # Gone meanwhile.
            yield path.stem, json.loads(path.read_text())
