import errno
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import LocalHandler

from fewlabels import chapters, paths
from fewlabels.book import notebooks
from fewlabels.chapters import profiles
from fewlabels.errors import DiskError, UserError
from fewlabels.runs.parameters import Count, Items, Share, Some


def write(path, cells):
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content))
    return path


def parameters_cell(source):
    return {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": source}


def test_defaults_are_the_literals_of_the_tagged_cell(tmp_path):
    source = ["epochs = 2  # passes\n", "rates = [1e-3, -1.0]\n", "name = 'x'\n", "limit = None"]
    path = write(tmp_path / "x.ipynb", [parameters_cell(source)])
    assert profiles.defaults(path) == {
        "epochs": 2,
        "rates": [1e-3, -1.0],
        "name": "x",
        "limit": None,
    }


@pytest.mark.parametrize("source", ["a = b = 1", "a = 2 * 3", "import os", "a, b = 1, 2"])
def test_only_literals_may_be_parameters(tmp_path, source):
    path = write(tmp_path / "x.ipynb", [parameters_cell(source)])
    with pytest.raises(UserError, match="next cell"):
        profiles.defaults(path)


def test_exactly_one_cell_has_the_tag(tmp_path):
    with pytest.raises(UserError, match="0 cells tagged"):
        profiles.defaults(write(tmp_path / "x.ipynb", []))


@dataclass(frozen=True)
class Base:
    store: str
    """Where the records are."""
    fine: bool
    """Overwritten below."""


@dataclass(frozen=True)
class Said(Base):
    dataset: Literal["mnist", "digits"]
    """The images; not
    the labels."""
    sizes: Annotated[list[Count], Items()]
    rate: float | None
    steps: Some
    """How many. No more is said."""
    share: Share
    fine: bool
    """Whether so."""


def test_what_a_parameter_may_be_and_means_in_words():
    assert profiles.told(Said) == {
        "store": ["text", "Where the records are"],
        "fine": ["true | false", "Whether so"],
        "dataset": ["mnist | digits", "The images"],
        "sizes": ["list of whole number, 0 to 1,000,000", ""],
        "rate": ["a number | none", ""],
        "steps": ["whole number, 1 to 1,000,000", "How many"],
        "share": ["number, above 0 to 1", ""],
    }


@pytest.mark.parametrize("name", chapters.names())
def test_every_parameter_says_what_it_means(name):
    told = profiles.told(chapters.load(name).Settings)
    assert [key for key, (allowed, meaning) in told.items() if not (allowed and meaning)] == []


def test_parameters_are_defaults_then_profile_then_overrides(toy):
    typed = {"rate": "1e-3", "sizes": "[5, 6]", "dataset": "other"}
    assert profiles.parameters("toy", "quick", typed) == {
        "epochs": 1,
        "dataset": "other",
        "rate": 0.001,
        "sizes": [5, 6],
    }


@pytest.mark.parametrize(
    ("profile", "overrides", "told"),
    [
        ("fast", {}, "'fast': choose from full, quick, minute, smoke"),
        ("quick", {"epoch": "1"}, "'epoch': choose from epochs, dataset, rate, sizes"),
        ("quick", {"epochs": "2.5"}, "epochs is 2.5: give a value of type int"),
        ("quick", {"epochs": "true"}, "epochs is True: give a value of type int"),
        ("quick", {"epochs": "1:30"}, "epochs is '1:30': give a value of type int"),
        ("quick", {"sizes": "[1,"}, "sizes is '[1,': give a value of type list"),
        ("quick", {"sizes": "7"}, "sizes is 7: give a value of type list"),
        ("quick", {"sizes": "[1, x]"}, "sizes is 'x': give a value of type int"),
        ("quick", {"rate": "fast"}, "rate is 'fast': give a value of type float"),
        ("quick", {"rate": "1_0"}, "rate is '1_0': give a value of type float"),
        ("quick", {"rate": "inf"}, "rate is 'inf': give a value of type float"),
        ("quick", {"rate": "\N{ARABIC-INDIC DIGIT THREE}"}, "give a value of type float"),
        ("quick", {"epochs": "1\N{ARABIC-INDIC DIGIT THREE}"}, "give a value of type int"),
        ("quick", {"dataset": "cifar"}, "dataset is 'cifar': choose from toy, other"),
        ("quick", {"dataset": "<img onerror=x>"}, "dataset is '<img onerror=x>'; not allowed"),
        ("quick", {"dataset": "![x](/etc/passwd)"}, "not allowed in it: < > `"),
        ("quick", {"dataset": "a\n::: b"}, "not allowed"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(toy, profile, overrides, told):
    with pytest.raises(UserError) as caught:
        profiles.parameters("toy", profile, overrides)
    assert told in str(caught.value)


def test_markup_within_a_list_is_refused_too():
    with pytest.raises(UserError, match="classes is 'a`b'"):
        profiles._refuse_markup("classes", ["x y.pth", "a`b"])


def test_numbers_are_read_as_people_write_them(toy):
    typed = {"epochs": "010", "sizes": "[08, -1]", "rate": ".5e1"}
    found = profiles.parameters("toy", "full", typed)
    assert (found["epochs"], found["sizes"], found["rate"]) == (10, [8, -1], 5.0)


def test_text_stays_text(toy):
    # YAML would make a number of it.
    assert profiles._as_type_of("a", "12", "name") == "12"


def test_a_parameters_cell_that_differs_from_the_settings_is_named(toy):
    assert profiles.mismatch("toy") is None
    file = toy / "chapters/01-toy.ipynb"
    file.write_text(file.read_text().replace("epochs = 2", "epoch = 2"))
    assert profiles.mismatch("toy").startswith("epoch, epochs: not in both")


def test_the_full_profile_is_the_notebook_s_own_cell(toy):
    assert profiles.parameters("toy", "full") == profiles.defaults(toy / "chapters/01-toy.ipynb")


def test_paths_are_taken_as_they_are(toy, tmp_path):
    folder = tmp_path / "a{b} {profile}"
    folder.mkdir()
    source = folder / "x{epochs}.ipynb"
    source.write_text((toy / "chapters/02-other.ipynb").read_text())
    notebooks.execute(source, folder / "out{}.ipynb", {"epochs": 41})
    found = profiles.cells(folder / "out{}.ipynb")
    assert found[-1]["outputs"][0]["data"]["text/plain"] == ["41"]


def test_another_kernel_of_the_same_name_is_never_taken(toy, tmp_path, monkeypatch):
    folder = tmp_path / "jupyter/kernels/python3"
    folder.mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "Python 3", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    source = toy / "chapters/02-other.ipynb"
    content = json.loads(source.read_text())
    content["cells"][2]["source"] = "import sys; sys.executable"
    source.write_text(json.dumps(content))
    notebooks.execute(source, tmp_path / "out.ipynb", {"epochs": 1})
    shown = profiles.cells(tmp_path / "out.ipynb")[-1]["outputs"][0]["data"]["text/plain"]
    assert shown == [repr(sys.executable)]


def test_a_kernel_needs_no_port_that_another_may_hold(toy, tmp_path):
    source = toy / "chapters/02-other.ipynb"
    content = json.loads(source.read_text())
    content["cells"][2]["source"] = (
        "from ipykernel import get_connection_info\n"
        "info = get_connection_info(unpack=True)\nprint(info['transport'], info['ip'])"
    )
    source.write_text(json.dumps(content))
    notebooks.execute(source, tmp_path / "out.ipynb", {"epochs": 1})
    (shown,) = profiles.cells(tmp_path / "out.ipynb")[-1]["outputs"][0]["text"]
    transport, sockets = shown.split()
    assert transport == "ipc"
    assert not Path(sockets).parent.exists()


def test_a_path_too_long_for_sockets_is_named_with_its_remedy(toy, tmp_path, monkeypatch):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(UserError, match=f"{long}.* is too long .* set TMPDIR to a shorter one"):
        notebooks.execute(toy / "chapters/02-other.ipynb", tmp_path / "out.ipynb", {"epochs": 1})
    assert not list(long.iterdir())


def test_a_readers_matplotlib_settings_change_no_figure(toy, tmp_path, monkeypatch):
    """Under plain papermill too: it is the notebook that sees to it."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 99\n")
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path / "matplotlibrc"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    source = tmp_path / "in.ipynb"
    content = json.loads((toy / "chapters/02-other.ipynb").read_text())
    content["cells"][2]["source"] = (
        "import numpy as np\nfrom fewlabels.evidence import figures\nfigures.style()\n"
        "figures.image_grid(np.zeros((1, 4, 4), np.uint8), ['$x$'])"
    )
    source.write_text(json.dumps(content))
    papermill.execute_notebook(str(source), str(tmp_path / "out.ipynb"), progress_bar=False)
    (output,) = profiles.cells(tmp_path / "out.ipynb")[-1]["outputs"]
    assert "image/png" in output["data"]


def test_executing_passes_parameters_and_keeps_outputs(toy, tmp_path, capsys):
    output = tmp_path / "deep" / "out.ipynb"
    notebooks.execute(toy / "chapters/02-other.ipynb", output, {"epochs": 41})
    assert profiles.cells(output)[-1]["outputs"][0]["data"]["text/plain"] == ["41"]
    assert "cell 4 of 4 done" in capsys.readouterr().out
    assert profiles.cells(toy / "chapters/02-other.ipynb")[-1]["outputs"] == []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("from fewlabels.errors import UserError; raise UserError('take 10')", "^take 10$"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import os; os.kill(os.getpid(), 9)", "^the notebook's process was killed .*-p workers 1"),
    ],
)
def test_an_error_in_a_cell_becomes_its_message(toy, tmp_path, code, told):
    source = toy / "chapters/02-other.ipynb"
    content = json.loads(source.read_text())
    content["cells"][2]["source"] = code
    source.write_text(json.dumps(content))
    with pytest.raises(notebooks.ChapterFailed, match=told):
        notebooks.execute(source, tmp_path / "out.ipynb", {"epochs": 1})


def test_a_full_disk_in_a_cell_stays_an_error_of_the_disk(toy, tmp_path):
    source = toy / "chapters/02-other.ipynb"
    content = json.loads(source.read_text())
    content["cells"][2]["source"] = (
        "from fewlabels.errors import DiskError; raise DiskError('full')"
    )
    source.write_text(json.dumps(content))
    with pytest.raises(DiskError, match=r"^full$"):
        notebooks.execute(source, tmp_path / "out.ipynb", {"epochs": 1})


def test_a_full_disk_leaves_no_half_of_a_notebook(toy, tmp_path, monkeypatch):
    output, writes = tmp_path / "_runs" / "out.ipynb", []
    real = LocalHandler.write

    def write(handler, text, path):
        writes.append(path)
        if len(writes) == 1:
            return real(handler, text, path)
        Path(path).write_text(text[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalHandler, "write", write)
    with pytest.raises(DiskError) as told:
        notebooks.execute(toy / "chapters/02-other.ipynb", output, {"epochs": 1})
    assert len(writes) > 1 and not output.exists()
    message = str(told.value)
    assert message.startswith(f"{output} cannot be used: no space left on device. Free some space")
    assert "--output" in message and "\n" not in message


def test_plain_papermill_shows_a_user_error_in_a_line(toy, tmp_path):
    source = toy / "chapters/02-other.ipynb"
    content = json.loads(source.read_text())
    content["cells"][2]["source"] = "from fewlabels.errors import UserError; raise UserError('ten')"
    source.write_text(json.dumps(content))
    with pytest.raises(PapermillExecutionError) as caught:
        papermill.execute_notebook(source, tmp_path / "out.ipynb", progress_bar=False)
    assert caught.value.traceback == ["UserError: ten"]


@pytest.mark.parametrize("name", chapters.names())
class TestCommittedChapter:
    def test_holds_no_outputs(self, name):
        for cell in profiles.cells(chapters.notebook(name)):
            assert not cell.get("outputs") and cell.get("execution_count") is None
            assert set(cell["metadata"]) <= {"tags", "editable", "slideshow"}

    def test_parameters_cell_has_what_the_settings_have(self, name):
        assert profiles.mismatch(name) is None

    @pytest.mark.parametrize("profile", profiles.PROFILES)
    def test_profile_is_accepted(self, name, profile):
        values = profiles.parameters(name, profile)
        # The ledger runs nothing and has no store.
        where = "results" if profile == "full" else "cache"
        assert values.get("store", where) == where

    def test_a_minute_is_for_real_images(self, name):
        values = profiles.parameters(name, "minute")
        images = {values[key] for key in profiles.DATA if key in values}
        assert not images & {"cells", "shapes", "generated_xrays"}

    def test_is_in_the_book(self, name):
        listed = (paths.ROOT / "_quarto.yml").read_text()
        assert f"- chapters/{chapters.notebook(name).name}\n" in listed
