"""What is read from the log of a PDF."""

from fewlabels import paths
from fewlabels.book import render

LOG = """Overfull \\hbox (3.2pt too wide) in paragraph at lines 1--2
Overfull \\hbox (41.7pt too wide) in alignment at lines 9--30
Underfull \\hbox (badness 10000) in paragraph at lines 5--6
Missing character: There is no \N{LESS-THAN OR EQUAL TO} (U+2264) in font [lmroman10]!
"""


def test_what_a_reader_would_see_of_the_log():
    wide, glyph = render.latex_faults(LOG)
    assert wide.startswith("Overfull \\hbox (41.7pt")
    assert glyph.startswith("Missing character") and "U+2264" in glyph
    assert render.latex_faults("Output written on index.pdf (160 pages).") == []


def test_the_log_is_read_and_cleared_away(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert render.left_by_latex() == []
    for suffix in ("qmd", "log", "aux", "toc"):
        (tmp_path / f"index.{suffix}").write_text(LOG, encoding="utf-8")
    assert len(render.left_by_latex()) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["index.qmd"]
