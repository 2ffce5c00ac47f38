"""A record, and its trip to text and back. What is read may be anybody's, and is checked."""

import base64
import hashlib
import json
import re
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewlabels import files
from fewlabels.errors import UserError
from fewlabels.runs import kept

FORMAT = 1
LARGEST = 1 << 26
"""Bytes that one array of predictions may have."""
NO_RECORD = (ValueError, LookupError, TypeError, AttributeError, RecursionError, zlib.error)
"""What reading something else as a record may raise."""


@dataclass(frozen=True)
class Record:
    """A finished run as stored. ``config`` holds kind, recipe and every setting."""

    id: str
    config: dict[str, Any]
    cell: dict[str, str | int]
    data: dict[str, str]
    inputs: dict[str, str]
    """sha256 of the weights this run started from, by the id of the run that made them."""
    metrics: dict[str, float]
    curves: dict[str, list[float]]
    predictions: dict[str, np.ndarray]
    parameters: dict[str, int]
    seconds: float
    finished: str
    """UTC time, ISO 8601."""
    versions: dict[str, str]
    hardware: dict[str, str | int]
    weights: str = ""
    """sha256 of the weights the run left in the cache; empty where it left none."""
    source: str = ""
    """Hash of the code that made it, see `fewlabels.code`; records from before it have none."""


def identity(config: dict[str, Any], checksums: dict[str, str]) -> str:
    """The id of a run with this config, from data with these checksums: twelve hex digits."""
    content = {"config": config, "data": checksums, "format": FORMAT}
    return hashlib.sha256(_canonical(content)).hexdigest()[:12]


def plain(value: Any) -> Any:
    """As it will be after a trip through JSON (tuples become lists)."""
    return json.loads(_canonical(value))


class Damaged(UserError):
    """What lies in a record's `kept.place` and is none, and ``why``."""

    def __init__(self, path: Path, why: str):
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return (
            f"{self.path} is damaged: {self.why}. Restore it (git checkout), or delete it and run "
            "its chapter again."
        )


def read(path: Path) -> Record:
    """The record in a file of its own. Raises Damaged where it is truncated, altered or none."""
    with files.refusals(path):
        return parsed(path.read_bytes(), path)


def found(folder: Path, name: str) -> Record | None:
    """The record of a name (``kind-id``) in a folder; None where there is none. Raises Damaged."""
    path = kept.place(folder, name)
    if path is None:
        return None
    if path.is_dir():
        raise Damaged(path, "it is a folder")
    return parsed(kept.text(folder, name), path)


def parsed(content: bytes, path: Path) -> Record:
    """The record in a file's content. Raises Damaged, which names ``path``."""
    try:
        record, format_, right = _parsed(content.decode())
        numbers = [record.seconds, *record.metrics.values(), *record.parameters.values()]
        numbers += [point for curve in record.curves.values() for point in curve]
    except NO_RECORD as error:
        raise Damaged(path, f"it cannot be read ({type(error).__name__})") from error
    if format_ != FORMAT:
        raise Damaged(path, f"it has format {format_}, not {FORMAT}")
    if not right:
        raise Damaged(path, "its content does not match its checksum")
    if not all(type(each) in (int, float) for each in numbers):
        raise Damaged(path, "its metrics, curves, parameters and seconds are not all numbers")
    if record.id != identity(record.config, record.data):
        raise Damaged(path, "its id is not that of its config and data")
    return record


def written(record: Record) -> bytes:
    """The text of a record."""
    content = asdict(record)
    content["predictions"] = {k: _pack(v) for k, v in record.predictions.items()}
    body = json.dumps(content, indent=1, sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{{"format": {FORMAT}, "sha256": "{digest}", "record":\n{body}\n}}\n'.encode()


def _parsed(text: str) -> tuple[Record, int, bool]:
    """The record, the format it says it has, and whether its checksum is right."""
    content = json.loads(text)
    body = text.split("\n", 1)[1].rsplit("\n}", 1)[0]
    right = hashlib.sha256(body.encode()).hexdigest() == content["sha256"]
    record = content["record"]
    record["predictions"] = {k: _unpack(v) for k, v in record["predictions"].items()}
    for told in ("hardware", "versions"):
        record[told] = {_words(k): _words(v) for k, v in record[told].items()}
    record["finished"] = _words(record["finished"])
    return Record(**record), content["format"], right


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _pack(array: np.ndarray) -> dict[str, Any]:
    packed = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "zlib_base64": packed}


def _unpack(packed: dict[str, Any]) -> np.ndarray:
    # A record may be anybody's: a few kilobytes unpack to as many gigabytes as they like.
    stream = zlib.decompressobj()
    raw = stream.decompress(base64.b64decode(packed["zlib_base64"]), LARGEST)
    if not stream.eof:
        raise ValueError("predictions are cut short, or larger than any run's")
    return np.frombuffer(raw, packed["dtype"]).reshape(packed["shape"])


def _words(value: str | int) -> str | int:
    """Free text of a record without what is markup in a page: the record may be anybody's."""
    return value if isinstance(value, int) else re.sub(r"[^\w .,:;()/+@-]", "?", value)
