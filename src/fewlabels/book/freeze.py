"""Freezing chapters with Quarto, and knowing when a frozen chapter no longer tells the truth.

Quarto renders from `_freeze/` without asking whether the notebook has changed since. So freezing
leaves a fingerprint of all that the output was made from, and `status` compares it.
"""

import csv
import difflib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fewlabels import chapters, files, paths
from fewlabels.book import notebooks
from fewlabels.book.planned import planned
from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.reference import published
from fewlabels.runs import kept

FINGERPRINT = "fingerprint.json"
SHOWN = 8
"""Reasons for staleness that are told of a chapter."""
FORMATS = {"html": "html.json", "pdf": "tex.json"}


@dataclass(frozen=True)
class Status:
    """Runs that a chapter's full profile needs, how many are done, and why its output is stale."""

    done: int
    needed: int
    stale: list[str]
    partial: bool = False
    """The full profile starts no run by itself (``minutes: 0``): the chapter shows those there are
    and says where others are missing."""


def status(name: str) -> Status:
    """State of one chapter. ``stale`` is empty where the frozen output is fresh."""
    now = fingerprint(name)
    records = now["records"]
    done = sum(digest is not None for digest in records.values())
    file = notebooks.frozen(chapters.notebook(name)) / FINGERPRINT
    partial = now["parameters"].get("minutes") == 0
    if not file.exists():
        return Status(done, len(records), ["not frozen"], partial)
    try:
        stale = differences(json.loads(file.read_text(encoding="utf-8")), now)
    except (ValueError, LookupError, TypeError, AttributeError):
        stale = [f"{FINGERPRINT} is damaged"]
    if wrong := planned(name).mismatch:
        stale.append(wrong)
    return Status(done, len(records), stale, partial)


def in_words(stale: list[str]) -> str:
    """``fresh``, ``not frozen``, or the first reasons why a chapter is stale."""
    if stale in ([], ["not frozen"]):
        return "".join(stale) or "fresh"
    more = [f"and {len(stale) - SHOWN} more"] if len(stale) > SHOWN else []
    return "stale: " + "; ".join(stale[:SHOWN] + more)


def fingerprint(name: str, output: Path | None = None) -> dict[str, Any]:
    """All that a chapter's frozen output is made from, and the output itself.

    ``cells``: a hash of each cell's type, source and tags; ``parameters``: the full profile;
    ``records``: sha256 of the record of every planned run, None where it is missing; ``inputs``:
    the same of the files that a chapter's ``inputs(settings)`` names, where it has one;
    ``claims``: see `published.digests`; ``output``: sha256 of every frozen file.

    Args:
        output: the folder of the frozen output, where it is not in its place yet.
    """
    found, notebook = planned(name), chapters.notebook(name)
    records = {Path(file).stem: _sha256(Path(file)) for file in sorted(found.records)}
    output = output or notebooks.frozen(notebook)
    return {
        "cells": [_cell_hash(cell) for cell in profiles.cells(notebook)],
        "parameters": found.parameters,
        "records": records,
        "inputs": {Path(file).name: _sha256(Path(file)) for file in sorted(found.inputs)},
        "claims": published.digests(name),
        "output": {
            file.relative_to(output).as_posix(): _sha256(file)
            for file in sorted(output.rglob("*"))
            if file.is_file() and file.name != FINGERPRINT
        },
    }


def _cell_hash(cell: dict[str, Any]) -> str:
    content = [cell["cell_type"], cell["source"], profiles.tags(cell)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _sha256(file: Path) -> str | None:
    """Of a file's content, or of the record of its name in a file of many; None without either."""
    return files.sha256(file) if file.exists() else kept.digest(file.parent, file.stem)


def differences(frozen: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What has changed between two fingerprints, one line each."""
    return [
        *_changed_cells(frozen["cells"], now["cells"]),
        *_changed_parameters(frozen["parameters"], now["parameters"]),
        *_changed("record ", frozen["records"], now["records"], gone="no longer planned"),
        *_changed("", frozen.get("inputs", {}), now["inputs"]),
        *_changed("", frozen.get("claims", {}), now["claims"]),
        *_changed("frozen ", frozen.get("output", {}), now["output"]),
    ]


def _changed_cells(old: list[str], new: list[str]) -> list[str]:
    lines = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for what, old_start, old_end, start, end in matcher.get_opcodes():
        if what != "equal":
            both = min(old_end - old_start, end - start)
            lines += [f"cell {n + 1} changed" for n in range(start, start + both)]
            lines += [f"cell {n + 1} added" for n in range(start + both, end)]
            lines += [f"former cell {n + 1} removed" for n in range(old_start + both, old_end)]
    return lines


def _changed_parameters(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    lines = [f"parameter {key} added" for key in new if key not in old]
    lines += [f"parameter {key} removed" for key in old if key not in new]
    return lines + [
        f"parameter {key} changed ({old[key]} -> {new[key]})"
        for key in new
        if key in old and new[key] != old[key]
    ]


def _changed(
    what: str, old: dict[str, str | None], new: dict[str, str | None], gone: str = "removed"
) -> list[str]:
    lines = []
    for name in sorted(old | new):
        before, after = old.get(name), new.get(name)
        if name not in new:
            lines.append(f"{what}{name} {gone}")
        elif before != after:
            done = "added" if before is None else "missing" if after is None else "changed"
            lines.append(f"{what}{name} {done}")
    return lines


def digest(name: str) -> str:
    """A hash of a chapter's parameters and of the records of its planned runs."""
    now = fingerprint(name)
    content = json.dumps([now["parameters"], now["records"]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def stale_claims() -> list[str]:
    """Chapters whose rows in results/claims.csv are of other claims or were made from other
    records. Raises UserError where the file is missing."""
    told = {claim.chapter for claim in published.claims().values()}
    names = [name for name in chapters.names() if name in told]
    file = paths.RESULTS / "claims.csv"
    if names and not file.exists():
        raise UserError(f"{file} is missing: write it with `fewlabels claims`.")
    text = file.read_text(encoding="utf-8") if names else ""
    rows = [*csv.DictReader(io.StringIO(text, newline=""))]

    def fresh(name: str) -> bool:
        own = [row for row in rows if row.get("chapter") == name]
        same = {row.get("claim") for row in own} == {*published.claims(name)}
        return same and {row.get("records") for row in own} == {digest(name)}

    return [name for name in names if not fresh(name)]


def freeze(name: str, quarto: Path) -> Path:
    """Execute a chapter once per format and put the result into ``_freeze/``; returns the folder.

    Missing runs are computed before, so that nothing about their progress is frozen, but for a
    chapter whose full profile starts none (see :class:`Status`). Quarto works
    on a copy of the book that holds this chapter only: the notebook in the checkout keeps no
    outputs, other chapters are not executed, and where a cell fails the result frozen before stays
    as it was. ChapterFailed where a cell fails.
    """
    if wrong := profiles.mismatch(name):
        raise UserError(f"{name} cannot be frozen: {wrong}.")
    _require_books_data(name)
    notebook = chapters.notebook(name)
    target = notebooks.frozen(notebook)
    before = fingerprint(name)
    with tempfile.TemporaryDirectory() as scratch:
        if None in before["records"].values() and before["parameters"].get("minutes") != 0:
            notebooks.execute(notebook, Path(scratch) / notebook.name, before["parameters"])
        copy = Path(scratch) / "book"
        copy.mkdir()
        _copy_book(notebook, copy)
        made = copy / target.relative_to(paths.ROOT)
        for to, result in FORMATS.items():
            log = _render(quarto, copy, to)
            # Rendering goes on after freezing, to LaTeX for example, which may be missing.
            if not (made / "execute-results" / result).exists():
                raise notebooks.ChapterFailed(_reason(log))
        _drop_scripts(made / "execute-results" / "html.json")
        content = json.dumps(fingerprint(name, made), indent=1)
        (made / FINGERPRINT).write_text(content + "\n", encoding="utf-8")
        files.whole_folder(made, target)
    return target


def _require_books_data(name: str) -> None:
    """Refuse data files other than the book's: the chapter's runs would all be made again."""
    chapter = chapters.load(name)
    runs = chapter.plan(chapter.Settings(**profiles.parameters(name, "full")))
    if other := other_data(runs):
        raise UserError(
            f"{name} cannot be frozen: {', '.join(other)} is another file here than behind the "
            "book's records. Name the folder of the book's own data in FEWLABELS_DATA."
        )


def other_data(runs: Sequence[Any]) -> list[str]:
    """Data of these runs that are other files here than behind the book's records."""
    from fewlabels import data

    here = {name: md5 for run in runs for name, md5 in run.checksums().items()}
    with data.as_in_the_book():
        book = {name: md5 for run in runs for name, md5 in run.checksums().items()}
    return [name for name in book if book[name] != here[name]]


def _copy_book(notebook: Path, copy: Path) -> None:
    config = yaml.safe_load((paths.ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    config["book"]["chapters"] = ["index.qmd", notebook.relative_to(paths.ROOT).as_posix()]
    config["book"].pop("appendices", None)
    (copy / "_quarto.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (copy / "index.qmd").write_text("# Front page {.unnumbered}\n", encoding="utf-8")
    shutil.copy(paths.ROOT / "references.bib", copy)
    for folder in ("styles", "chapters"):
        # A render to PDF alone leaves folders of figures that freezing stumbles over.
        left = shutil.ignore_patterns("*_files")
        shutil.copytree(paths.ROOT / folder, copy / folder, ignore=left)


def _render(quarto: Path, project: Path, to: str) -> str:
    """Quarto's log; the line of each finished cell is passed on as it comes."""
    lines = []
    # Before any other kernel of the name python3.
    kernel = project.parent / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True, exist_ok=True)
    spec = {"argv": notebooks.KERNEL, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    here = {"QUARTO_PYTHON": sys.executable, "JUPYTER_PATH": str(kernel.parents[1])}
    with subprocess.Popen(
        [quarto, "render", "--to", to, "--no-execute-daemon"],
        cwd=project,
        env=os.environ | here,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            lines.append(line)
            if re.match(r"\s*Cell \d+/\d+", line):
                print(f"{to}:{line.rstrip()}", flush=True)
    return "".join(lines)


def _reason(log: str) -> str:
    """The message of a UserError or DiskError in Quarto's log, else the end of the log."""
    log = re.sub(r"\x1b\[[0-9;]*m", "", log)
    if told := re.findall(r"^(?:[\w.]*\.)?(?:User|Disk)Error: (.+)$", log, flags=re.MULTILINE):
        return told[-1]
    return "\n".join(log.rstrip().splitlines()[-40:])


def _drop_scripts(result: Path) -> None:
    """Quarto adds scripts from a content network for widgets, which the book does not use."""
    content = json.loads(result.read_text(encoding="utf-8"))
    content["result"].pop("includes", None)
    result.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
