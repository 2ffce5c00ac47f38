"""The book without Quarto: plain pages that stand alone, made by Pandoc (styles/preview.lua)."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fewlabels import files, paths
from fewlabels.errors import UserError

Page = dict[str, str]
"""Of the book: ``source`` (below the root), ``kind`` ("chapter" or "appendix") and ``file``, its
page's name; for a reader's run, ``run`` (the executed notebook) and ``note``, a text above it."""


def book(folder: Path) -> tuple[Path, list[str]]:
    """Write every page of the book into ``folder``.

    Chapters without a frozen result appear with their prose and code. Returns the index page and
    the references that lead nowhere.
    """
    files.folder(folder)
    for old in folder.glob("*.html"):
        old.unlink()
    pages = [_page(*source) for source in sources()]
    return folder / "index.html", _write(pages, [folder / page["file"] for page in pages])


def run_page(notebook: Path, source: Path, note: str, output: Path) -> list[str]:
    """Write the page of an executed copy of the chapter ``source``, headed by ``note`` (text).

    References into other chapters are named without a link. Returns those that lead nowhere.
    """
    order = sources()
    if source not in [path for path, _ in order]:
        order.append((source, "chapter"))
    run = {"run": str(notebook.absolute()), "note": note, "file": output.name}
    pages = [_page(path, kind) | (run if path == source else {}) for path, kind in order]
    return _write(pages, [output])


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


def _write(pages: list[Page], outputs: list[Path]) -> list[str]:
    """Write those pages whose file is the name of an output; the references that lead nowhere."""
    with tempfile.TemporaryDirectory() as scratch:
        made = {output.name: str(Path(scratch, output.name)) for output in outputs}
        for page in pages:
            page |= {"output": made[page["file"]]} if page["file"] in made else {}
        done = subprocess.run(
            [pandoc(), "lua", paths.ROOT / "styles/preview.lua"],
            input=json.dumps({"root": str(paths.ROOT), "pages": pages}),
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        if done.returncode:
            raise UserError("Pandoc could not make the pages: its own words stand above.")
        # Not by Pandoc, which leaves half a page where the disk is full.
        for output in outputs:
            with files.whole(output) as stream:
                stream.write(Path(made[output.name]).read_bytes())
    return done.stdout.splitlines()
