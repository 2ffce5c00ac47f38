import errno
import io
import json
import os
import re
import sys
from pathlib import Path

import pytest

from fewlabels.book import notebooks, preview
from fewlabels.errors import DiskError, UserError

# These have their labels from outputs, which there are none of before the chapter is executed.
MISSING = ["fig-pair-2 in 01-toy.ipynb", "tbl-hand in 01-toy.ipynb"]


@pytest.fixture
def pages(toy):
    """Name -> HTML of the toy book's preview, nothing frozen."""
    index, missing = preview.book(toy / "_preview")
    assert missing == MISSING
    return {page.name: page.read_text() for page in index.parent.glob("*.html")}


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html)).replace("\u00a0", " ")


def identifiers(html: str) -> set[str]:
    return set(re.findall(r'\bid="([^"]+)"', html))


def test_one_page_per_chapter_and_an_index(pages):
    assert set(pages) == {"index.html", "01-toy.html", "02-other.html"}
    assert 'href="01-toy.html">1 Toy measures</a>' in pages["index.html"]


def test_every_local_link_leads_somewhere(pages):
    links = [
        (name, target)
        for name, html in pages.items()
        for target in re.findall(r'href="([^"]+)"', html)
    ]
    local = [(name, target) for name, target in links if not target.startswith("http")]
    assert len(local) > 10
    for name, target in local:
        page, _, fragment = target.partition("#")
        assert not fragment or fragment in identifiers(pages[page or name]), target


def test_pages_ask_nothing_of_the_network(pages):
    for html in pages.values():
        assert not re.findall(r'(?:src|<link[^>]+href)="(?:https?:)?//', html)


def test_a_chapter_that_is_not_frozen_appears_with_its_prose_and_numbers(pages):
    text = plain(pages["01-toy.html"])
    assert (
        "After Wilson (1927). See Figure 1.1, ?@fig-pair-2, ?@tbl-hand and 1.1, Equation 1.1,"
        in text
    )
    assert "Section 1.1 and Chapter 2." in text
    assert "Not run yet. Figure 1.1: A line of" in text
    assert "References" in text


def test_frozen_markdown_becomes_figures_tables_and_links(toy):
    freeze(toy / "chapters/01-toy.ipynb", FROZEN, {"line.svg": SVG})
    _, missing = preview.book(toy / "_preview")
    assert missing == ["fig-nowhere in 01-toy.ipynb", "nobody2020 in 01-toy.ipynb"]
    html = (toy / "_preview/01-toy.html").read_text()
    text = plain(html)
    assert "See Figure 1.1, Figure 1.2 (b), Table 1.1 and 1.2, Table 1.3." in text
    assert "Figure 1.1: A line of" in text
    assert "Figure 1.2: Two lines" in text
    assert "(a) up" in text
    assert "Table 1.1: A frame" in text
    assert "Table 1.2: By hand" in text
    assert "Table 1.3: Pipe" in text
    assert "Figure 1.1, Figure 1.2 again" in text
    assert "?@fig-nowhere" in text
    assert {
        "fig-line",
        "fig-pair",
        "fig-pair-2",
        "tbl-frame",
        "tbl-hand",
        "tbl-pipe",
    } <= identifiers(html)
    assert "A rising line" in html
    assert html.count("<svg") + html.count("data:image/svg+xml") == 3
    assert ":::" not in text
    other = (toy / "_preview/02-other.html").read_text()
    assert re.search(r'href="01-toy.html#fig-line"[^>]*>Figure\s1.1</a>', other)


def test_the_front_page_shows_blocks_and_figures_of_frozen_chapters(toy):
    freeze(toy / "chapters/01-toy.ipynb", FROZEN, {"line.svg": SVG})
    asked = '::: {.from chapter="01-toy" figure="fig-line" ids="tbl-frame"}\n:::\n'
    (toy / "index.qmd").write_text(f"# Front {{.unnumbered}}\n\n{asked}")
    index, _ = preview.book(toy / "_preview")
    html = index.read_text()
    assert re.search(r'href="01-toy.html#fig-line"><img src="data:image/svg\+xml', html)
    assert 'alt="A rising line"' in html
    assert "<table><tr><td>1</td></tr></table>" in html


def test_a_finding_has_a_head_that_leads_to_its_figure(toy):
    answer = "::: {#answer-toy .answer}\nOne line.\n\nAnother.\n:::\n"
    freeze(toy / "chapters/01-toy.ipynb", f"{FROZEN}\n{answer}", {"line.svg": SVG})
    asked = '{.from .finding chapter="01-toy" figure="fig-line" head="A line" ids="answer-toy"}'
    (toy / "index.qmd").write_text(f"# Front {{.unnumbered}}\n\n::: {asked}\n:::\n")
    html = preview.book(toy / "_preview")[0].read_text()
    assert re.search(r'<strong><a\s+href="01-toy.html#fig-line">A line</a></strong>', html)
    assert "One line." in html and "Another." not in html


def test_equations_and_callouts_inside_lists_are_numbered(toy):
    items = "- $$x$$ {#eq-x}, see @eq-x\n\n- ::: {.callout-tip}\n  Yes\n  :::\n"
    (toy / "index.qmd").write_text(f"# Front {{.unnumbered}}\n\n{items}")
    index, _ = preview.book(toy / "_preview")
    html = index.read_text()
    assert '<span class="equation-number">(1)</span>' in html
    assert "see Equation 1" in plain(html)
    assert re.search(r'class="callout callout-tip">\s*<div class="callout-title">\s*Tip', html)


def test_a_sentence_in_the_place_of_a_figure_has_its_number(toy, tmp_path):
    head = ["#| label: fig-absent\n", "#| fig-cap: What it would show.\n", "go()"]
    data = {"text/markdown": "Not run: *all*.", "text/plain": "Absent()"}
    outputs = [{"output_type": "display_data", "data": data}]
    cells = [
        {"cell_type": "markdown", "source": "# Toy\n\nSee @fig-absent.\n"},
        {"cell_type": "code", "source": head, "outputs": outputs},
    ]
    (tmp_path / "run.ipynb").write_text(json.dumps({"cells": cells}))
    page = tmp_path / "run.html"
    preview.run_page(tmp_path / "run.ipynb", toy / "chapters/01-toy.ipynb", "", page)
    text = plain(page.read_text())
    assert "Not run: all." in text and "Figure 1.1: What it would show." in text
    assert "See Figure 1.1." in text and "Absent()" not in text


def test_outputs_of_a_run_obey_the_options_of_their_cell(toy, tmp_path):
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["one\rtwo\n", "three"]},
        {"output_type": "stream", "name": "stderr", "text": "warned"},
        {"output_type": "error", "ename": "KeyError", "evalue": "x", "traceback": []},
    ]
    cells = [{"cell_type": "markdown", "source": "# Toy\n"}]
    for head in ([], ["#| warning: false\n", "#| echo: false\n"], ["#| include: false\n"]):
        cells.append({"cell_type": "code", "source": [*head, "go()"], "outputs": outputs})
    (tmp_path / "run.ipynb").write_text(json.dumps({"cells": cells}))
    page = tmp_path / "run.html"
    preview.run_page(tmp_path / "run.ipynb", toy / "chapters/01-toy.ipynb", "", page)
    html = page.read_text()
    assert html.count("<code>two\nthree</code>") == 2
    assert html.count("<code>warned</code>") == 1
    assert html.count("<code>KeyError: x</code>") == 2
    assert len(re.findall(r"<details>\s*<summary>\s*Code", html)) == 1


def test_a_missing_pandoc_is_one_line_with_the_remedy(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypandoc", None)
    with pytest.raises(UserError, match=r"^Pandoc.* is missing: pip install pypandoc_binary$"):
        preview.book(toy / "_preview")


def test_callouts_code_and_mathematics(pages):
    html = pages["01-toy.html"]
    assert re.search(r'class="callout callout-note">\s*<div class="callout-title">\s*A claim', html)
    assert re.search(r"<details>\s*<summary>\s*More\s*</summary>\s*<p>Folded", html)
    assert re.search(r"<details>\s*<summary>\s*Code\s*</summary>\s*<div class=\"sourceCode", html)
    assert "<math" in html
    assert "#| label" not in html


def test_page_of_a_run_shows_its_outputs(toy, tmp_path):
    source = toy / "chapters/01-toy.ipynb"
    executed = tmp_path / "runs" / "toy.ipynb"
    values = {"epochs": 3, "dataset": "other", "rate": 0.1, "sizes": [1]}
    notebooks.execute(source, executed, values)
    page = executed.with_suffix(".html")
    assert preview.run_page(executed, source, "Your run: dataset = <other>.", page) == []
    html = page.read_text()
    text = plain(html)
    assert "Your run: dataset = &lt;other&gt;." in html
    assert "See Figure 1.1, Figure 1.2 (b), Table 1.2 and 1.1" in text
    assert "Chapter 2" in text
    assert 'href="02-other.html' not in html
    assert "Table 1.2: By hand" in text
    assert "Asis text with 1 sizes; Figure 1.1 again." in text
    assert "plain output of other" in text
    assert html.count("data:image") + html.count("<svg") == 3


HOSTILE = "<img src=x onerror=alert(1)> ![x](/etc/passwd)\n`````````\n<script>alert(1)</script>"


def test_names_and_values_of_a_run_are_no_markup(toy, tmp_path):
    executed = tmp_path / "<img src=x onerror=alert(1)> (1).ipynb"
    values = {"epochs": 3, "dataset": HOSTILE, "rate": 0.1, "sizes": [1]}
    notebooks.execute(toy / "chapters/01-toy.ipynb", executed, values)
    page = tmp_path / "page.html"
    note = f"Your run: {HOSTILE}."
    assert preview.run_page(executed, toy / "chapters/01-toy.ipynb", note, page) == []
    html = page.read_text()
    assert "<img src=x" not in html and "<script>alert" not in html
    assert "root:" not in html
    # The figures are there, whatever their notebook is called.
    assert html.count("data:image") + html.count("<svg") == 3
    assert "onerror=alert" in plain(html)


def freeze(notebook, markdown, figures):
    folder = notebooks.frozen(notebook)
    (folder / "execute-results").mkdir(parents=True)
    (folder / "figure-html").mkdir()
    result = {"hash": "0", "result": {"engine": "jupyter", "markdown": markdown}}
    (folder / "execute-results/html.json").write_text(json.dumps(result))
    for name, content in figures.items():
        (folder / "figure-html" / name).write_text(content)


SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M0 0L9 9"/></svg>'

# What Quarto 1.9 writes into _freeze for cells like the toy chapter's.
FROZEN = """# Toy measures {#sec-toy}

See @fig-line, @fig-pair-2, @tbl-frame and [-@tbl-hand], @tbl-pipe.
[@fig-line; @fig-pair] again; @fig-nowhere; @nobody2020.

::: {#cell-fig-line .cell execution_count=2}
``` {.python .cell-code}
fig
```

::: {.cell-output .cell-output-display}
![A *line* of $x$
[@wilson1927].](01-toy_files/figure-html/line.svg){#fig-line fig-alt='A rising line'}
:::
:::

::: {#fig-pair .cell layout-ncol='2' execution_count=4}
``` {.python .cell-code}
plt.show()
```

::: {.cell-output .cell-output-display}
![up](01-toy_files/figure-html/line.svg){#fig-pair-1}
:::

::: {.cell-output .cell-output-display}
![down](01-toy_files/figure-html/line.svg){#fig-pair-2}
:::

Two lines
:::

::: {#tbl-frame .cell tbl-cap='A `frame` with a caption' execution_count=5}
::: {.cell-output .cell-output-display execution_count=5}
```{=html}
<table><tr><td>1</td></tr></table>
```
:::
:::

::: {#cell-7 .cell execution_count=7}
::: {.cell-output .cell-output-display .cell-output-markdown execution_count=7}
::: {#tbl-hand}

| epochs |
|-------:|
| 2      |

By hand

:::

:::
:::

| a | b |
|---|---|
| 1 | 2 |

: Pipe {#tbl-pipe}
"""


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Full(io.BytesIO):
    """A file on a disk without space."""

    write = full


def test_a_full_disk_leaves_no_half_of_a_page_and_is_told_in_one_line(toy, monkeypatch):
    page, source = toy / "_runs" / "page.html", toy / "chapters" / "01-toy.ipynb"
    page.parent.mkdir()
    page.write_text("the page of another day")
    real = Path.open

    def opened(path, mode="r", *more, **named):
        file = real(path, mode, *more, **named)
        if path.suffix != ".tmp":
            return file
        file.close()  # It is there, and empty.
        return Full()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(DiskError) as told:
            preview.run_page(source, source, "Your run", page)
    message = str(told.value)
    assert message.startswith(f"{page} cannot be used: no space left on device. Free some space")
    assert "--output" in message and "\n" not in message
    assert [each.name for each in page.parent.iterdir()] == ["page.html"]
    assert page.read_text() == "the page of another day"


def test_a_read_only_checkout_is_told_in_one_line(toy, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # Root may write to what is read-only.
    with pytest.raises(
        DiskError, match=r"_preview cannot be used: permission denied\. Make it wri"
    ):
        preview.book(toy / "_preview")
