"""Files that are written whole or not at all; what cannot be fetched or is refused, in words."""

import csv
import errno
import hashlib
import io
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from fewlabels import paths
from fewlabels.errors import DiskError, UserError

ABANDONED = 3600
"""Seconds after which the temporary file of a write that never ended is nobody's any more."""


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A stream for the new content of ``path``, which is renamed to it when it is complete.

    Where the block fails, what was under ``path`` before stays as it was. Raises DiskError.
    """
    folder(path.parent)
    # Machines that share the folder may have equal process numbers.
    partial = path.with_suffix(f".{uuid4().hex}.tmp")
    with refusals(path):
        _clear(path.parent)
        try:
            with partial.open("wb") as stream:
                yield stream
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def whole_folder(made: Path, target: Path) -> None:
    """Put a copy of the folder ``made`` in the place of ``target``. Raises DiskError."""
    new, old = (target.with_name(f"{target.name}.{each}.tmp") for each in ("new", "old"))
    with refusals(target):
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(made, new)
        if target.exists():
            target.rename(old)
        new.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def table(columns: Sequence[str], rows: Iterable[Mapping]) -> str:
    """Rows as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def folder(path: Path) -> Path:
    """The folder, made where it is missing. Raises DiskError where nothing can be written to it."""
    with refusals(path):
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            fixed = os.statvfs(path).f_flag & os.ST_RDONLY
            number = errno.EROFS if fixed else errno.EACCES
            raise OSError(number, os.strerror(number))
    return path


def sha256(path: Path) -> str:
    """Of the content, in hex digits; read once per process unless the file changes."""
    state = path.stat()
    return _sha256(path, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=1 << 16)
def _sha256(path: Path, *state: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within it, no other process holds the lock file ``path``. Raises DiskError."""
    from filelock import FileLock  # Which rendering the book does without.

    folder(path.parent)
    lock = FileLock(path)
    with refusals(path):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def download(path: Path, what: str, otherwise: str) -> Iterator[None]:
    """Within it, ``path`` is fetched, which a process tries once, and one process at a time.

    Another may have fetched it before: look again inside. Thousands of records ask for the same few
    files, and each attempt without a network takes seconds. Raises UserError, the same one every
    time: ``what`` could not be downloaded, why, and what to do ``otherwise``.
    """
    if path in _NOT_FETCHED:
        raise UserError(_NOT_FETCHED[path])
    try:
        with locked(paths.cache() / "locks" / f"{path.name}.lock"):
            yield
    except UserError:
        raise
    except Exception as error:  # Of sockets, HTTP, archives and checksums, each has its own.
        reason = " ".join(str(error).split())
        told = f"{what} could not be downloaded ({reason}). {otherwise}"
        _NOT_FETCHED[path] = f"{told} A new start tries again."
        raise UserError(_NOT_FETCHED[path]) from error


_NOT_FETCHED: dict[Path, str] = {}
"""What could not be downloaded in this process -> why."""


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """What the system refuses within it becomes a DiskError that names ``path`` and the remedy."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch hides the system's error, met while it writes, behind one of its own.
        hidden = error.__context__ if "inline_container" in str(error) else None
        refused = error if isinstance(error, OSError) else hidden
        if not isinstance(refused, OSError):
            raise
        raise DiskError(in_words(refused, path)) from error


def in_words(error: OSError, path: Path | str | None = None) -> str:
    """One line: the file, what the system says of it, and what to do."""
    path = Path(path or error.filename or "a file")
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{path} cannot be used: {reason}. {_remedy(error.errno, path)}"


def _remedy(number: int | None, path: Path) -> str:
    if number == errno.EFBIG:
        return "Raise the limit on the size of files (ulimit -f); what is finished is kept."
    if number == errno.ENOENT:
        return "Name a file that is there."
    if number == errno.EISDIR:
        return "Name a file, not a folder."
    if path.is_relative_to(paths.RESULTS):
        elsewhere = "keep your runs elsewhere with -p store cache"
    elif path.is_relative_to(paths.cache()):
        elsewhere = "name another folder in FEWLABELS_CACHE"
    elif "_runs" in path.parts:
        elsewhere = "name another place with --output"
    else:
        elsewhere = "name another place"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"Free some space there, or {elsewhere}; what is finished is kept."
    return f"Make it writable for you, or {elsewhere}."


@lru_cache
def _clear(place: Path) -> None:
    """Remove what killed writes have left, once per process and folder."""
    for partial in place.glob("*.tmp"):
        own = re.fullmatch(r".*\.[0-9a-f]{32}\.tmp", partial.name)  # As `whole` names them.
        with suppress(FileNotFoundError):  # Another process was faster.
            if own and partial.is_file() and time.time() - partial.stat().st_mtime > ABANDONED:
                partial.unlink()
