"""Parts of pages that are made: what stands between two comments follows from something else.

`fewlabels summary` makes them again, `fewlabels verify` and a test say which are stale. Pages are
committed with them, so that the book renders without Python.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from fewlabels import paths
from fewlabels.errors import UserError


def put(label: str, text: str, page: Path) -> None:
    """Replace what stands between ``<!-- label -->`` and ``<!-- end of label -->``."""
    before, _, after = _cut(label, page)
    page.write_text(f"{before}\n\n{text.strip()}\n\n{after}", encoding="utf-8")


def shown(label: str, page: Path) -> str:
    """What stands there. Raises UserError where the page has no such comments."""
    return _cut(label, page)[1].strip()


def write() -> list[Path]:
    """Make every part again; returns the pages."""
    found = {}
    for label, page, make in _parts():
        put(label, make(), page)
        found[page] = None
    return [*found]


def stale() -> list[str]:
    """Parts of pages that say something else than what they are made from."""
    return [
        f"{page.relative_to(paths.ROOT)}, {label}: not what is made now (`fewlabels summary`)"
        for label, page, make in _parts()
        if shown(label, page) != make().strip()
    ]


def _parts() -> Iterator[tuple[str, Path, Callable[[], str]]]:
    """Label, page and maker of every part; without the pages (as in a test's book) there is none.

    The makers import what pages alone do without.
    """
    for label, name, module in (
        ("tasks", "benchmark.qmd", "benchmark"),
        ("standings", "benchmark.qmd", "benchmark"),
        ("functions", "library.qmd", "library"),
        ("differences", "compute-and-numbers.qmd", "replay"),
    ):
        page = paths.CHAPTERS / name
        if page.exists():
            yield label, page, _maker(module, label)


def _maker(module: str, label: str) -> Callable[[], str]:
    from importlib import import_module

    return getattr(import_module(f"fewlabels.book.{module}"), label)


def _cut(label: str, page: Path) -> tuple[str, str, str]:
    begin, end = f"<!-- {label} -->", f"<!-- end of {label} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    inside, closed, after = rest.partition(end)
    if not found or not closed:
        raise UserError(f"{page} has no `{begin}` ... `{end}`: restore it (git checkout).")
    return before + begin, inside, end + after
