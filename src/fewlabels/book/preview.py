"""The book without Quarto: plain pages that stand alone, made by Pandoc (styles/preview.lua)."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fewlabels import paths
from fewlabels.errors import UserError

Page = dict[str, str]
"""Of the book: ``source`` (below the root), ``kind`` ("chapter" or "appendix") and ``file``, its
page's name. Where it is to be written, ``output``; for a reader's run, ``run`` (the executed
notebook) and ``note``, a text above it."""


def book(folder: Path) -> tuple[Path, list[str]]:
    """Write every page of the book into ``folder``.

    Chapters without a frozen result appear with their prose and code. Returns the index page and
    the references that lead nowhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.html"):
        old.unlink()
    pages = [_page(*source) for source in sources()]
    missing = _write([page | {"output": str(folder.absolute() / page["file"])} for page in pages])
    return folder / "index.html", missing


def run_page(notebook: Path, source: Path, note: str, output: Path) -> list[str]:
    """Write the page of an executed copy of the chapter ``source``, headed by ``note`` (text).

    References into other chapters are named without a link. Returns those that lead nowhere.
    """
    order = sources()
    if source not in [path for path, _ in order]:
        order.append((source, "chapter"))
    run = {"run": str(notebook.absolute()), "note": note}
    run |= {"file": output.name, "output": str(output.absolute())}
    return _write([_page(path, kind) | (run if path == source else {}) for path, kind in order])


def sources() -> list[tuple[Path, str]]:
    """Files of the book in their order, with "chapter" or "appendix", from _quarto.yml."""
    config = yaml.safe_load((paths.ROOT / "_quarto.yml").read_text(encoding="utf-8"))["book"]
    # Every page has its own references at its end, and so needs no page of all references.
    return [
        (paths.ROOT / file, kind)
        for key, kind in (("chapters", "chapter"), ("appendices", "appendix"))
        for file in _files(config.get(key, []))
        if file != "references.qmd"
    ]


def pandoc() -> str:
    """Path of Pandoc's program; UserError where it is not installed."""
    try:
        import pypandoc

        return pypandoc.get_pandoc_path()
    except (ImportError, OSError):
        raise UserError(
            "Pandoc, which makes the pages, is missing: pip install pypandoc_binary"
        ) from None


def _files(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            yield from _files(entry["chapters"])


def _page(source: Path, kind: str) -> Page:
    below = source.relative_to(paths.ROOT).as_posix()
    return {"source": below, "kind": kind, "file": f"{source.stem}.html"}


def _write(pages: list[Page]) -> list[str]:
    """Write the pages that have an ``output``; returns the references that lead nowhere."""
    done = subprocess.run(
        [pandoc(), "lua", paths.ROOT / "styles/preview.lua"],
        input=json.dumps({"root": str(paths.ROOT), "pages": pages}),
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.splitlines()
