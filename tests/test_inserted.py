"""Parts of pages that are made: put in, compared, and the makers of the library's page."""

import inspect

import pytest

import fewlabels
from fewlabels import paths
from fewlabels.book import inserted, library
from fewlabels.errors import UserError


@pytest.fixture
def page(tmp_path):
    file = tmp_path / "page.qmd"
    file.write_text("# A page\n\n<!-- part -->\n<!-- end of part -->\n\nThe rest.\n")
    return file


def test_what_was_put_in_is_shown_and_replaced(page):
    inserted.put("part", "one\n", page)
    inserted.put("part", "two", page)
    text = "# A page\n\n<!-- part -->\n\ntwo\n\n<!-- end of part -->\n\nThe rest.\n"
    assert page.read_text() == text and inserted.shown("part", page) == "two"
    with pytest.raises(UserError, match="restore it"):
        inserted.put("other", "", page)


def test_a_part_that_says_something_else_is_stale(page, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", page.parent)
    monkeypatch.setattr(inserted, "_parts", lambda: [("part", page, lambda: "made\n")])
    assert inserted.stale() == ["page.qmd, part: not what is made now (`fewlabels summary`)"]
    assert inserted.write() == [page] and inserted.stale() == []


def test_every_public_function_has_an_entry_in_the_committed_page():
    shown = inserted.shown("functions", paths.CHAPTERS / "library.qmd")
    for name in fewlabels.__all__:
        assert f"## {name} {{#sec-library-{name}}}" in shown, f"{name}: `fewlabels summary`"
    assert shown == library.functions().strip(), "`fewlabels summary`"


@pytest.mark.parametrize("name", fewlabels.__all__)
def test_every_parameter_is_said_and_nothing_is_left_of_the_docstrings_form(name):
    entry, function = library.entry(name), getattr(fewlabels, name)
    for parameter in inspect.signature(function).parameters:
        assert f"- `{parameter}`: " in entry
    assert "**Raises**" in entry and "**Returns**" in entry
    assert "``" not in entry.replace("```", "") and "Args:" not in entry


def test_a_docstring_is_cut_at_its_sections():
    text, sections = library.parsed(
        "What it does.\n\nMore.\n\nArgs:\n    a: one,\n        and more.\n    b: two.\n\n"
        "Returns:\n    Three.\n"
    )
    assert text == "What it does.\n\nMore."
    assert sections == {"Args": "a: one,\n    and more.\nb: two.", "Returns": "Three."}
    assert [*library._items("Args", sections["Args"])] == ["- `a`: one, and more.", "- `b`: two."]
