"""results/MANIFEST: the sha256 of every record of the book, so that a release can be compared.

Lines ``sha256  chapter/record.json``, sorted; ``sha256sum -c MANIFEST`` reads them too. Records are
added by themselves, and none is ever changed or dropped without a word.
"""

from pathlib import Path

from fewlabels import files, paths
from fewlabels.errors import UserError


def path() -> Path:
    """Where it lies."""
    return paths.RESULTS / "MANIFEST"


def records() -> dict[str, Path]:
    """Every record of the book that there is: ``chapter/name`` -> file."""
    found = sorted(paths.RESULTS.glob("*/*.json"))
    return {file.relative_to(paths.RESULTS).as_posix(): file for file in found}


def listed() -> dict[str, str]:
    """``chapter/name`` -> sha256. Raises UserError for a line of another form, or a name twice."""
    if not path().exists():
        return {}
    found = {}
    for number, line in enumerate(path().read_text(encoding="utf-8").splitlines(), start=1):
        digest, gap, name = line.partition("  ")
        if len(digest) != 64 or not gap or name in found:
            raise UserError(
                f"{path()}, line {number}: expected a sha256, two spaces and a record's name that "
                "no other line has. Restore the file (git checkout)."
            )
        found[name] = digest
    return found


def differences(known: dict[str, str], there: dict[str, Path]) -> list[str]:
    """Records that are not, or no longer, the listed ones: one line each."""
    return [
        f"results/{name} is {'not the record' if name in there else 'missing, a record'} that "
        f"{path().name} lists"
        for name, digest in known.items()
        if name not in there or files.sha256(there[name]) != digest
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
    known, there = listed(), records()
    new = there.keys() - known.keys()
    if not new:
        return
    from fewlabels.runs.records import read

    for name in sorted(new):
        read(there[name])
        known[name] = files.sha256(there[name])
    with files.whole(path()) as stream:
        stream.write("".join(f"{known[name]}  {name}\n" for name in sorted(known)).encode())
