"""results/MANIFEST: the sha256 of every record of the book, so that a release can be compared.

Lines ``sha256  chapter/kind-id.json``, sorted; the sum is that of the text that the run wrote, see
`fewlabels.runs.kept`. Records are added by themselves, and none is ever changed or dropped without
a word.
"""

from pathlib import Path

from fewlabels import files, paths
from fewlabels.errors import UserError
from fewlabels.runs import kept, reading
from fewlabels.runs.reading import Record


def path() -> Path:
    """Where it lies."""
    return paths.RESULTS / "MANIFEST"


def records() -> dict[str, str]:
    """Every record of the book that there is: ``chapter/kind-id.json`` -> sha256."""
    return {
        f"{folder.name}/{name}.json": kept.digest(folder, name)
        for folder in sorted(paths.RESULTS.glob("*/"))
        for name in kept.names(folder)
    }


def read(name: str) -> Record:
    """The record of a name that `records` gives. Raises Damaged."""
    return reading.found(paths.RESULTS / Path(name).parent, Path(name).stem)


def listed() -> dict[str, str]:
    """``chapter/name`` -> sha256. Raises UserError for a line of another form, or a name twice."""
    if not path().exists():
        return {}
    found = {}
    text = path().read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        digest, gap, name = line.partition("  ")
        if len(digest) != 64 or not gap or name in found or "\ufffd" in line:
            raise UserError(
                f"{path()}, line {number}: expected a sha256, two spaces and a record's name that "
                "no other line has. Restore the file (git checkout)."
            )
        found[name] = digest
    return found


def differences(known: dict[str, str], there: dict[str, str]) -> list[str]:
    """Records that are not, or no longer, the listed ones: one line each."""
    return [
        f"results/{name} is {'not the record' if name in there else 'missing, a record'} that "
        f"{path().name} lists"
        for name, digest in known.items()
        if there.get(name) != digest
    ]


def check() -> None:
    """Raise UserError where a listed record is missing or another one."""
    if wrong := differences(listed(), records()):
        more = f" (and {len(wrong) - 1} more)" if wrong[1:] else ""
        raise UserError(
            f"{wrong[0]}{more}: restore it (git checkout); or, where it was removed or made again "
            f"on purpose, delete its line from {path()}."
        )


def add() -> None:
    """List the records that are not listed yet. Raises UserError for one that is damaged."""
    # Two chapters may end at once.
    with files.locked(paths.cache() / "locks" / "manifest.lock"):
        known, there = listed(), records()
        new = there.keys() - known.keys()
        if not new:
            return
        for name in new:
            read(name)
            known[name] = there[name]
        with files.whole(path()) as stream:
            stream.write("".join(f"{known[name]}  {name}\n" for name in sorted(known)).encode())


def keep(chapter: str) -> int:
    """List what is new, and move a chapter's files of one record into those of many, see `kept`.

    Returns how many they were. Raises UserError for one that is damaged.
    """
    add()
    folder = paths.RESULTS / chapter
    for file in folder.glob("*.json"):
        reading.read(file)
    return kept.keep(folder)
