"""A reader's run of a chapter: where its notebook, its page and its records go."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fewlabels import chapters, files, paths
from fewlabels.book import notebooks, preview
from fewlabels.chapters import profiles
from fewlabels.errors import UserError
from fewlabels.runs import manifest


def run(
    chapter: str,
    profile: str,
    overrides: dict[str, str],
    output: Path | None = None,
    scheduler: str | None = None,
) -> tuple[list[str], Path]:
    """Execute a chapter; the references that its page cannot resolve, and the page.

    overrides: parameter -> value as typed. output: the executed notebook; without, one in the
    folder ``_runs``, named after what differs. scheduler: address of Dask's, whose workers make the
    runs. Raises UserError for what does not exist or cannot be.
    """
    values = profiles.parameters(chapter, profile, overrides)
    source = chapters.notebook(chapter)
    if not paths.IN_CHECKOUT and values["store"] == "results":
        raise UserError("the book's own records are not here: pass -p store cache.")
    home = paths.ROOT if paths.IN_CHECKOUT else Path.cwd()
    own = {key: values[key] for key in overrides}
    output = output or home / "_runs" / name(chapter, profile, own)
    _check_output(output)
    if scheduler:
        os.environ["FEWLABELS_SCHEDULER"] = scheduler  # The notebook's process inherits it.
    # Said before the runs, not after them.
    preview.pandoc()
    files.folder(output.parent)
    files.folder(paths.cache())
    with collected(chapter, values):
        notebooks.execute(source, output, values)
    changes = "".join(f", {key} = {value}" for key, value in own.items())
    note = f"Your run of {chapter}: profile {profile}{changes}."
    page = output.with_suffix(".html")
    return preview.run_page(output, source, note, page), page


def name(chapter: str, profile: str, changed: Mapping[str, Any]) -> str:
    """Of a run's notebook: another one for other parameters."""
    words = [chapter, profile, *(f"{key}-{value}" for key, value in changed.items())]
    text = re.sub(r"[^\w.-]+", "_", "-".join(words))
    if len(text) > 100:
        text = f"{text[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return f"{text}.ipynb"


def _check_output(output: Path) -> None:
    if output.suffix != ".ipynb" or output.is_dir():
        raise UserError(f"--output {output}: give the name of a notebook, ending in .ipynb.")
    if output.resolve().is_relative_to(paths.CHAPTERS.resolve()):
        raise UserError(f"--output {output}: the book's chapters lie there; name another place.")


def collect(name: str, values: Mapping[str, Any]) -> int:
    """Keep the records of a chapter's runs, where they are the book's; returns how many are new."""
    chapter = chapters.load(name)
    folder = chapter.store(chapter.Settings(**values)).folder
    return manifest.keep(folder.name) if folder.parent == paths.RESULTS else 0


@contextmanager
def collected(name: str, values: Mapping[str, Any]) -> Iterator[None]:
    """Collect at the end, and where the block fails as well."""
    try:
        yield
    except BaseException:
        with suppress(UserError, OSError):  # What went wrong first is what is told.
            collect(name, values)
        raise
    collect(name, values)
