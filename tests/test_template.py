"""A chapter of its own takes a module and a notebook: the template is one, from list to page."""

import json
import sys

import pytest
import template_chapter
import yaml
from conftest import notebook

from fewlabels import chapters, paths
from fewlabels.book.cli import main
from fewlabels.chapters import profiles

CELLS = [
    "# A template {#sec-template}\n\n@tbl-template counts labels.",
    "dataset = 'mnist'\nlabels = [10, 100]\ndraws = 10\nsteps = 300\n"
    "store = 'results'\ndevice = 'auto'\nprecision = '32-true'\nworkers = 0",
    "import sys\nsys.path.insert(0, PLACE)\nimport template_chapter as chapter\n"
    "from fewlabels import evidence as ev\n"
    "runs = ev.runs(chapter, chapter.Settings.of(globals()))",
    "ev.table(\n    runs,\n    by={'Labels': 'labels'},\n"
    "    columns={'n': ev.count(), 'Accuracy': ev.percent()},\n"
    "    label='tbl-template',\n    caption=f'Test accuracy, %, on {dataset}.',\n)",
]


@pytest.fixture
def book(toy, monkeypatch):
    """The toy book, and the template's line in ``NOTEBOOKS``, notebook, profile and contents."""
    name, file = template_chapter.NAME, "chapters/03-template.ipynb"
    monkeypatch.undo()
    for place, folder in (("ROOT", ""), ("CHAPTERS", "chapters"), ("PARAMS", "params")):
        monkeypatch.setattr(paths, place, toy / folder)
    monkeypatch.setattr(paths, "RESULTS", toy / "results")
    monkeypatch.setenv("FEWLABELS_CACHE", str(toy.parent / "cache"))
    monkeypatch.setattr(chapters, "NOTEBOOKS", {name: "03-template.ipynb"})
    monkeypatch.setitem(sys.modules, "fewlabels.chapters.template_chapter", template_chapter)
    place = repr(str(paths.Path(__file__).parent))
    (toy / file).write_text(json.dumps(notebook([c.replace("PLACE", place) for c in CELLS])))
    changes = {"dataset": "digits", "labels": [10], "draws": 2, "steps": 4, "store": "cache"}
    (toy / f"params/smoke/{name}.yaml").write_text(yaml.safe_dump(changes | {"workers": 1}))
    config = yaml.safe_load((toy / "_quarto.yml").read_text())
    config["book"]["chapters"].append(file)
    (toy / "_quarto.yml").write_text(yaml.safe_dump(config))
    return toy


def test_the_template_is_listed_planned_and_run(book, capsys):
    assert profiles.mismatch(template_chapter.NAME) is None
    assert main(["list"]) == 0
    assert "mnist | digits" in capsys.readouterr().out
    assert main(["status", "--missing"]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2 * 10
    command = ["run", template_chapter.NAME, "--profile", "smoke", "-p", "draws", "3"]
    assert main([*command, "--output", str(book / "page.ipynb")]) == 0
    page = " ".join((book / "page.html").read_text().split())
    assert "Test accuracy, %, on digits." in page and "?@" not in page
    assert len([*(book.parent / "cache/runs").glob("template-chapter/*.json")]) == 3
