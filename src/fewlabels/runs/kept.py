"""Where a folder has its records, as text: files of one record, and lines of many.

A run writes one file, ``kind-id.json``: many processes may write at once, and one that is killed
leaves nothing half made. `keep` moves such files into ``records.jsonl``, a line each, sorted by
name; what would make it larger than `PART` goes into ``records-2.jsonl``, and so on. A line is the
file's text with tabs for its line ends (in JSON none is anything else) behind the record's name, so
that checksums of the text hold for both. While both are there, the file of its own counts.
"""

import hashlib
import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from fewlabels import files, paths
from fewlabels.errors import UserError

PART = 4_000_000
"""Bytes that a file of lines may have."""
LINE = re.compile(rb'\{"run": "([\w-]+)", ')


def names(folder: Path) -> list[str]:
    """``kind-id`` of every record in a folder, sorted."""
    return sorted({*_lines(folder), *(file.stem for file in folder.glob("*.json"))})


def place(folder: Path, name: str) -> Path | None:
    """Where the record of this name is, sound or not: a file, or ``records.jsonl/name``."""
    # In this order: `keep` writes the line before it removes the file.
    file = folder / f"{name}.json"
    lines = (part / name for part in _parts(folder) if name in _read(part))
    return file if file.exists() else next(lines, None)


def text(folder: Path, name: str) -> bytes | None:
    """A record as its run wrote it; None where there is none. Raises DiskError."""
    file = folder / f"{name}.json"
    with files.refusals(file):
        try:
            return file.read_bytes()
        except FileNotFoundError:
            lines = (line for part in _parts(folder) if (line := _read(part).get(name)))
            return next(map(_text, lines), None)


def digest(folder: Path, name: str) -> str | None:
    """sha256 of `text`; None where there is no such record."""
    content = text(folder, name)
    return None if content is None else hashlib.sha256(content).hexdigest()


def keep(folder: Path) -> int:
    """Move the files of one record into the files of many; returns how many they were.

    The caller has seen that they are sound. Raises DiskError, and UserError where a file differs
    from the line of its name.
    """
    lock = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    with files.locked(paths.cache() / "locks" / f"keep-{lock}.lock"):
        known, new = _lines(folder), {}
        moved = sorted(folder.glob("*.json"))
        for file in moved:
            line = _line(file.stem, file.read_bytes())
            if file.stem not in known:
                new[file.stem] = line
            elif known[file.stem] != line:
                raise UserError(f"{file} differs from the line of its name: delete one of them.")
        _add(folder, new)
        for file in moved:
            file.unlink(missing_ok=True)
    return len(moved)


def _add(folder: Path, new: dict[str, bytes]) -> None:
    """Lines into the last file of many, and into further ones where it gets too large."""
    *full, last = [{}] if not (parts := [*_parts(folder)]) else map(_read, parts)
    waiting = sorted(new.items())
    number = len(full) + 1
    while waiting:
        part = dict(last)
        size = sum(map(len, part.values())) + len(part)
        while waiting and (not part or size + len(waiting[0][1]) < PART):
            name, line = waiting.pop(0)
            part[name] = line
            size += len(line) + 1
        with files.whole(_part(folder, number)) as stream:
            stream.writelines(part[name] + b"\n" for name in sorted(part))
        number, last = number + 1, {}


def _line(name: str, content: bytes) -> bytes:
    line = f'{{"run": "{name}", '.encode() + content[1:-1].replace(b"\n", b"\t")
    if not LINE.match(line) or _text(line) != content:
        raise UserError(f"{name}.json is not in the form that runs write.")
    return line


def _text(line: bytes) -> bytes:
    return b"{" + line[LINE.match(line).end() :].replace(b"\t", b"\n") + b"\n"


def _part(folder: Path, number: int) -> Path:
    return folder / f"records{f'-{number}' if number > 1 else ''}.jsonl"


def _parts(folder: Path) -> Iterator[Path]:
    return itertools.takewhile(Path.exists, (_part(folder, n) for n in itertools.count(1)))


def _lines(folder: Path) -> dict[str, bytes]:
    """Name -> line, from all files of many. Raises UserError where two have the same name."""
    found: dict[str, bytes] = {}
    for part in _parts(folder):
        lines = _read(part)
        if twice := found.keys() & lines.keys():
            raise UserError(f"{part} has {min(twice)}, which another file has, too.")
        found |= lines
    return found


def _read(part: Path) -> dict[str, bytes]:
    state = part.stat()
    return _split(part, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=256)
def _split(part: Path, *state: int) -> dict[str, bytes]:
    """Name -> line. Raises UserError for a line that is no record's, or a name twice."""
    found = {}
    with files.refusals(part):
        lines = part.read_bytes().removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines, start=1):
        match = LINE.match(line)
        name = match and match[1].decode()
        if name is None or name in found:
            raise UserError(
                f"{part}, line {number}: expected a record that no other line has. "
                "Restore the file (git checkout)."
            )
        found[name] = line
    return found
