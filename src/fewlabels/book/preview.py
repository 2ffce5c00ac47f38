"""The book without Quarto: frozen chapters through Pandoc into plain HTML pages.

markdown -> Pandoc's tree -> numbers and links (`crossref`) -> one self-contained page per chapter.
"""

import html
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypandoc
import yaml

from fewlabels import files, paths
from fewlabels.book import crossref, markdown, notebooks
from fewlabels.book.crossref import Chapter, Label, Node

TAKEN = re.compile(
    r'^::: \{\.from[^}\n]*chapter="(?P<chapter>[^"]+)"[^}\n]*ids="(?P<ids>[^"]+)"[^}\n]*\}\n:::$',
    flags=re.MULTILINE,
)
"""Where the front page takes over blocks of a chapter."""


def book(folder: Path) -> tuple[Path, list[str]]:
    """Write every page of the book into ``folder``.

    Chapters without a frozen result appear with their prose and code. Returns the index page and
    the references that lead nowhere.
    """
    files.folder(folder)
    for old in folder.glob("*.html"):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        chapters = _book_chapters(Path(scratch))
        labels = _labels(chapters)
        pages = {source.name: chapter.page for source, chapter in chapters}
        keys = _bibliography_keys()
        missing = []
        for source, chapter in chapters:
            missing += [
                f"{r} in {source.name}" for r in crossref.link(chapter, labels, pages, keys)
            ]
            contents = _contents(chapters) if chapter.page == "index.html" else ""
            _write(chapter, folder / chapter.page, _resources(source, scratch), chapters, contents)
    return folder / "index.html", missing


def run_page(notebook: Path, source: Path, note: str, output: Path) -> list[str]:
    """Write the page of an executed copy of the chapter ``source``, headed by ``note`` (text).

    References into other chapters are named without a link. Returns those that lead nowhere.
    """
    with tempfile.TemporaryDirectory() as scratch:
        chapters = _book_chapters(Path(scratch))
        number = next((c.number for s, c in chapters if s.name == source.name), "1")
        blocks = _parse(markdown.from_notebook(notebook, Path(scratch)))
        chapter = Chapter(output.name, number, blocks)
        crossref.number(chapter)
        labels = _labels(chapters) | chapter.labels
        pages = {source.name: output.name}
        missing = crossref.link(chapter, labels, pages, _bibliography_keys())
        banner = f'<p class="run-note">{html.escape(note)}</p>'
        _write(chapter, output, [scratch], [], before=banner)
    return missing


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


def _files(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            yield from _files(entry["chapters"])


def _book_chapters(scratch: Path) -> list[tuple[Path, Chapter]]:
    found, counts = [], {"chapter": 0, "appendix": 0}
    for source, kind in sources():
        blocks = _parse(_markdown(source, scratch))
        heading = next((b for b in blocks if b["t"] == "Header" and b["c"][0] == 1), None)
        number = ""
        if heading and "unnumbered" not in heading["c"][1][1]:
            counts[kind] += 1
            number = str(counts[kind]) if kind == "chapter" else chr(64 + counts[kind])
        chapter = Chapter(f"{source.stem}.html", number, blocks)
        crossref.number(chapter)
        found.append((source, chapter))
    return found


def _markdown(source: Path, scratch: Path) -> str:
    result = notebooks.frozen(source) / "execute-results" / "html.json"
    if result.exists():
        text = json.loads(result.read_text(encoding="utf-8"))["result"]["markdown"]
        return text.replace(f"{source.stem}_files/", "").replace(".ipynb#", ".html#")
    if source.suffix == ".ipynb":
        return markdown.from_notebook(source, scratch).replace(".ipynb#", ".html#")
    return _filled(source.read_text(encoding="utf-8"))


def _filled(text: str) -> str:
    """A page with the blocks of frozen chapters that it takes over, as styles/front.lua does."""

    def blocks(match: re.Match) -> str:
        chapter = paths.CHAPTERS / f"{match['chapter']}.ipynb"
        result = notebooks.frozen(chapter) / "execute-results" / "html.json"
        if not result.exists():
            return ""
        frozen = json.loads(result.read_text(encoding="utf-8"))["result"]["markdown"]
        found = [
            re.search(rf"^::: {{#{id}[ }}].*?^:::$", frozen, flags=re.DOTALL | re.MULTILINE)
            for id in match["ids"].split()
        ]
        return "\n\n".join(each[0] for each in found if each).replace(".ipynb#", ".html#")

    return TAKEN.sub(blocks, text)


def _resources(source: Path, scratch: str) -> list[str]:
    """Folders in which a page's images lie."""
    return [str(notebooks.frozen(source)), scratch, str(source.parent)]


def _parse(text: str) -> list[Node]:
    """Pandoc's blocks; captions given as an attribute become the last paragraph of their div."""
    document = _tree(text)
    if title := document["meta"].get("title"):
        heading = {"t": "Header", "c": [1, ["", [], []], title["c"]]}
        document["blocks"].insert(0, heading)
    captioned = []
    for div in _divs(document["blocks"]):
        pairs = dict(div["c"][0][2])
        if caption := pairs.pop("tbl-cap", None) or pairs.pop("fig-cap", None):
            captioned.append((div, caption))
            div["c"][0][2] = [[key, value] for key, value in pairs.items()]
    # One call for all captions: starting Pandoc takes longer than reading them.
    texts = _tree("\n\n".join(f"::: c\n{caption}\n:::" for _, caption in captioned))["blocks"]
    for (div, _), caption in zip(captioned, texts, strict=True):
        div["c"][1] += caption["c"][1]
    return document["blocks"]


def _divs(blocks: list[Node]) -> Iterator[Node]:
    for div in crossref.find(blocks, "Div"):
        yield div
        yield from _divs(div["c"][1])


def _tree(text: str) -> dict[str, Any]:
    return json.loads(pypandoc.convert_text(text, "json", format="markdown"))


def _bibliography_keys() -> set[str]:
    text = (paths.ROOT / "references.bib").read_text(encoding="utf-8")
    return set(re.findall(r"^@\w+\{([^,\s]+),", text, flags=re.MULTILINE))


def _labels(chapters: list[tuple[Path, Chapter]]) -> dict[str, Label]:
    return {name: label for _, chapter in chapters for name, label in chapter.labels.items()}


def _write(
    chapter: Chapter,
    output: Path,
    resources: list[str],
    chapters: list[tuple[Path, Chapter]],
    after: str = "",
    before: str = "",
) -> None:
    styles = paths.ROOT / "styles"
    document = _tree("")
    document["blocks"] = chapter.blocks
    if after:
        document["blocks"] = [*chapter.blocks, {"t": "RawBlock", "c": ["html", after]}]
    page = pypandoc.convert_text(
        json.dumps(document),
        "html5",
        format="json",
        extra_args=[
            "--quiet",
            "--standalone",
            "--embed-resources",
            f"--resource-path={os.pathsep.join(resources)}",
            f"--template={styles / 'preview.html'}",
            f"--css={styles / 'preview.css'}",
            f"--include-after-body={styles / 'tables.html'}",
            "--mathml",
            "--toc",
            "--citeproc",
            f"--bibliography={paths.ROOT / 'references.bib'}",
            "--metadata=link-citations:true",
            "--metadata=reference-section-title:References",
            f"--metadata=pagetitle:{chapter.title}",
            f"--variable=pages:{_navigation(chapters, chapter.page)}",
            f"--variable=before:{before}",
        ],
    )
    # Not by Pandoc, which leaves half a page where the disk is full.
    with files.whole(output) as stream:
        stream.write(page.encode())


def _navigation(chapters: list[tuple[Path, Chapter]], current: str) -> str:
    return "".join(
        f'<a href="{c.page}"{" aria-current=page" if c.page == current else ""}>{_name(c)}</a>'
        for _, c in chapters
    )


def _contents(chapters: list[tuple[Path, Chapter]]) -> str:
    rows = [f'<li><a href="{c.page}">{_name(c)}</a></li>' for _, c in chapters[1:]]
    return f'<nav class="contents"><h2>Chapters</h2><ul>{"".join(rows)}</ul></nav>'


def _name(chapter: Chapter) -> str:
    return html.escape(f"{chapter.number} {chapter.title}".strip())
