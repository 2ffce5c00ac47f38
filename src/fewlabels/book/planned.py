"""What a chapter plans for the book, in names: `fewlabels status` asks for it without torch.

Planning imports every kind of run, which takes longer than all the rest. So the answer is kept in
the cache, and counts as long as the package, the notebook and these libraries are the same.
"""

import hashlib
import json
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fewlabels import chapters, files, paths
from fewlabels.errors import DiskError
from fewlabels.runs import kept, reading

LIBRARIES = ("torchvision", "medmnist", "scikit-learn")
"""Those that say which checksums data have."""


@dataclass(frozen=True)
class Planned:
    """The full profile of a chapter."""

    parameters: dict[str, Any]
    told: dict[str, list[str]]
    """Of every parameter: what it may be, and what it means."""
    mismatch: str | None
    """See `profiles.mismatch`."""
    records: dict[str, str]
    """File of every planned run, as `Store.path` gives it, and the hash of the run's code today."""
    beyond: list[str]
    """Files of the runs that only a larger budget asks for."""
    inputs: list[str]
    """Other files that the chapter reads."""

    def by_other_code(self) -> int:
        """Records that say which code made them, and whose code reads otherwise today; hashes of
        code compare within one version of Python (see `fewlabels.code`)."""
        count = 0
        for file, today in self.records.items():
            record = reading.found(Path(file).parent, Path(file).stem)
            if record is not None and record.source:
                alike = minor(record.versions["python"]) == minor(platform.python_version())
                count += alike and record.source != today
        return count

    def done_beyond(self) -> int:
        """How many of the runs that only a larger budget asks for are made."""
        runs = [Path(file) for file in self.beyond]
        return sum(kept.place(file.parent, file.stem) is not None for file in runs)


def minor(version: str) -> str:
    """``"3.11"`` of ``"3.11.7"``."""
    return version.rpartition(".")[0]


def planned(name: str) -> Planned:
    """What a chapter plans. Raises UserError for an unknown chapter."""
    file = paths.cache() / "planned" / f"{name}.json"
    now = _state(chapters.notebook(name))
    with suppress(OSError, ValueError, LookupError, TypeError):
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["state"] == now:
            return Planned(**stored["planned"])
    found = _made(name)
    with suppress(DiskError), files.whole(file) as stream:
        stream.write(json.dumps({"state": now, "planned": asdict(found)}).encode())
    return found


def _state(notebook: Path) -> str:
    """A hash of all that decides what is planned."""
    content = [
        str(paths.ROOT),
        str(paths.RESULTS),
        _package(),
        notebook.read_text(encoding="utf-8"),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@cache
def _package() -> str:
    """Of the code of this process, which stays as it was imported, and of `LIBRARIES`."""
    home = Path(__file__).parents[1]
    digest = hashlib.sha256(" ".join(map(version, LIBRARIES)).encode())
    for file in sorted(home.rglob("*.py")):
        digest.update(str(file.relative_to(home)).encode() + file.read_bytes())
    return digest.hexdigest()


def _made(name: str) -> Planned:
    from fewlabels import code, data
    from fewlabels.chapters import profiles

    chapter, parameters = chapters.load(name), profiles.parameters(name, "full")
    with data.as_in_the_book():
        settings = chapter.Settings(**parameters)
        path = chapter.store(settings).path
        beyond = chapter.beyond(settings) if hasattr(chapter, "beyond") else []
        inputs = chapter.inputs(settings) if hasattr(chapter, "inputs") else []
        return Planned(
            parameters,
            profiles.told(chapter.Settings),
            profiles.mismatch(name),
            {str(path(run)): code.digest(type(run).__module__) for run in chapter.plan(settings)},
            [str(path(run)) for run in beyond],
            [str(each) for each in inputs],
        )
