"""The book through Quarto, where Quarto is on PATH; the committed book's preview everywhere."""

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from conftest import make_toy, move_in

from fewlabels import chapters, paths
from fewlabels.book import freeze, notebooks, preview, render

needs_quarto = pytest.mark.skipif(not shutil.which("quarto"), reason="quarto is not on PATH")


@pytest.fixture(scope="module")
def frozen_once(tmp_path_factory):
    root = tmp_path_factory.mktemp("frozen") / "book"
    make_toy(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.MonkeyPatch.context() as monkeypatch:
        move_in(root, monkeypatch)
        for name in chapters.names():
            freeze.freeze(name, render.find_quarto())
    assert [path for path, content in before.items() if path.read_bytes() != content] == []
    added = {path.relative_to(root).parts[0] for path in root.rglob("*") if path not in before}
    assert added - {"chapters", "params", "styles"} == {"_freeze"}
    return root


@pytest.fixture
def frozen(frozen_once, monkeypatch):
    """The toy book with both chapters frozen by Quarto."""
    move_in(frozen_once, monkeypatch)
    return frozen_once


@pytest.fixture
def without_python(tmp_path) -> dict[str, str]:
    """An environment in which starting Python or Jupyter fails."""
    for name in ("python", "python3", "jupyter", "py"):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text("#!/bin/sh\nexit 1\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("QUARTO_PYTHON", None)
    return environment


def rendered(root: Path, environment: dict[str, str], *options: str) -> str:
    command = ["quarto", "render", "--to", "html", *options]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    return log


def assert_resolved(log: str, folder: Path) -> None:
    assert not re.search("unable to resolve|citation .* not found", log, flags=re.IGNORECASE)
    pages = list(folder.rglob("*.html"))
    assert len(pages) > 1
    for page in pages:
        assert not re.findall(r"\?@[\w-]+|\?\?\?|>\?(?:fig|tbl|sec|eq)-", page.read_text()), (
            page.name
        )


@needs_quarto
def test_freezing_leaves_both_formats_and_nothing_from_the_network(frozen):
    folder = frozen / "_freeze/chapters/01-toy"
    assert {path.name for path in folder.iterdir()} == {
        "execute-results",
        "figure-html",
        "figure-pdf",
        "fingerprint.json",
    }
    for result in ("html.json", "tex.json"):
        content = json.loads((folder / "execute-results" / result).read_text())
        assert "https://" not in json.dumps(content)
    assert {path.suffix for path in (folder / "figure-html").iterdir()} == {".svg"}
    assert {path.suffix for path in (folder / "figure-pdf").iterdir()} == {".pdf"}
    assert not (frozen / "_freeze/site_libs").exists()


@needs_quarto
def test_rendering_needs_no_python(frozen, without_python):
    log = rendered(frozen, without_python)
    assert "Cell " not in log
    assert_resolved(log, frozen / "_book")


@needs_quarto
def test_preview_numbers_as_quarto_does(frozen, without_python):
    rendered(frozen, without_python)
    preview.book(frozen / "_preview")

    def references(page: Path) -> list[str]:
        pattern = r'<a [^>]*class="(?:quarto-xref|crossref)"[^>]*>(.*?)</a>'
        found = re.findall(pattern, page.read_text(), flags=re.DOTALL)
        return [re.sub(r"\s|&nbsp;", " ", re.sub(r"<[^>]+>", "", text)) for text in found]

    for chapter in ("01-toy", "02-other"):
        ours = references(frozen / f"_preview/{chapter}.html")
        assert ours == references(frozen / f"_book/chapters/{chapter}.html")
        assert "Figure 1.1" in ours


@needs_quarto
def test_a_failing_cell_leaves_the_frozen_result(frozen):
    path = frozen / "chapters/02-other.ipynb"
    kept, result = path.read_text(), frozen / "_freeze/chapters/02-other/execute-results/html.json"
    before = result.read_bytes()
    code = "from fewlabels.errors import UserError\\nraise UserError('labels is 3')"
    path.write_text(kept.replace('"source": "epochs"', f'"source": "{code}"'))
    try:
        with pytest.raises(notebooks.ChapterFailed, match=r"^labels is 3$"):
            freeze.freeze("other", render.find_quarto())
        assert result.read_bytes() == before
        assert freeze.status("other").stale == ["cell 3 changed"]
    finally:
        path.write_text(kept)
    assert freeze.status("other").stale == []


def test_committed_preview_has_no_unresolved_reference(tmp_path):
    index, missing = preview.book(tmp_path / "preview")
    assert missing == []
    for page in index.parent.glob("*.html"):
        html = page.read_text()
        assert "?@" not in html
        assert "Not run yet" not in html
        assert not re.findall(r'(?:src|<link[^>]+href)="(?:https?:)?//', html)


@needs_quarto
def test_committed_book_renders_without_python(without_python, tmp_path):
    # On a copy: rendering writes into the project's folder.
    root = tmp_path / "book"
    for name in ("_quarto.yml", "_quarto-pdf.yml", "index.qmd", "references.qmd", "references.bib"):
        root.mkdir(exist_ok=True)
        shutil.copy(paths.ROOT / name, root)
    for name in ("chapters", "styles", "_freeze"):
        shutil.copytree(paths.ROOT / name, root / name)
    log = rendered(root, without_python)
    assert "Cell " not in log
    assert_resolved(log, root / "_book")
