import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import first, toy_run

from fewlabels import chapters, data, paths
from fewlabels.book import cli, freeze, render, rerun, summary
from fewlabels.book.cli import main
from fewlabels.chapters import profiles
from fewlabels.data import reading
from fewlabels.errors import UserError
from fewlabels.evidence import remeasured
from fewlabels.runs import manifest
from fewlabels.runs.reading import read


def test_list_names_parameters_their_meaning_defaults_and_allowed_values(toy, capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy  (chapters/01-toy.ipynb)"
    at = lines.index("  dataset  Whose images")
    assert lines[at + 1] == "           toy  (toy | other)"
    assert "           [1, 2]  (list of int)" in lines


def test_a_second_list_imports_nothing_heavy(toy, capsys, monkeypatch):
    main(["list"])
    monkeypatch.setattr(chapters, "load", None)
    assert main(["list"]) == 0


def test_python_m_fewlabels_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "fewlabels", "--help"], capture_output=True, text=True, check=True
    )
    assert "usage: fewlabels" in done.stdout


def test_a_reader_of_the_first_lines_ends_the_command_quietly():
    code = "cli._list = lambda given: [print(k) for k in range(10**5)]; cli.main(['list'])"
    line = f'{sys.executable} -c "from fewlabels.book import cli; {code}" | head -3'
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n1\n2\n", "")


def test_without_the_full_environment_the_remedy_is_named(toy, capsys, monkeypatch):
    def lacking(given):
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(cli, "_list", lacking)
    assert main(["list"]) == 2
    assert capsys.readouterr().err == (
        "fewlabels: numpy is not installed here: run `make test` first, which sets up everything\n"
    )


def test_an_equals_sign_shows_the_form_that_is_wanted(capsys):
    assert main(["run", "toy", "-p", "dataset=digits"]) == 2
    told = "fewlabels: -p dataset=digits: write -p dataset digits, with a space\n"
    assert capsys.readouterr().err == told


def test_file_names_that_are_no_text_are_printed_escaped(toy, capsys, tmp_path):
    assert cli._printable(os.fsdecode(b"a\xff\x1b[1m.png")) == r"a\xff\x1b[1m.png"


def test_other_parameters_have_another_page():
    name = rerun.name
    assert name("toy", "quick", {}) == "toy-quick.ipynb"
    assert name("toy", "quick", {"epochs": 8}) == "toy-quick-epochs-8.ipynb"
    assert name("toy", "quick", {"sizes": [1, 2]}) == "toy-quick-sizes-_1_2_.ipynb"
    long = [name("toy", "quick", {"sizes": [*range(k)]}) for k in (60, 61)]
    assert long[0] != long[1] and max(map(len, long)) < 110


@pytest.mark.parametrize("home", [None, "/nowhere"])
def test_a_place_that_is_not_there_is_one_line(home, monkeypatch, tmp_path):
    monkeypatch.delenv("FEWLABELS_CACHE", raising=False)
    monkeypatch.setenv("HOME", home or "")
    if home is None:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("os.path.expanduser", lambda path: path)  # No account either.
        with pytest.raises(UserError, match="name a folder in FEWLABELS_CACHE"):
            paths.cache()
    else:
        assert paths.cache() == Path("/nowhere/.cache/fewlabels")
    monkeypatch.setenv("FEWLABELS_CACHE", "")
    if home:
        assert paths.cache() == Path("/nowhere/.cache/fewlabels")


@pytest.mark.parametrize(
    ("variable", "ask"), [("FEWLABELS_CACHE", paths.cache), ("FEWLABELS_DATA", paths.data)]
)
def test_a_home_that_nobody_has_is_named_with_its_variable(monkeypatch, variable, ask):
    monkeypatch.setenv(variable, "~nobody-at-all/x")
    with pytest.raises(UserError, match=rf"^~nobody-at-all/x is in no home .* in {variable}\.$"):
        ask()
    with pytest.raises(UserError, match=r"^~nobody-at-all/y is in no home .*; name it without ~"):
        reading.read("~nobody-at-all/y")


def test_a_user_without_an_account_can_import_everything():
    code = (
        "import os, pwd; pwd.getpwuid = lambda uid: {}[uid];"
        "[os.environ.pop(key, None) for key in ('LOGNAME', 'USER', 'LNAME', 'USERNAME')];"
        "import fewlabels, getpass; print(getpass.getuser())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "nobody\n"


@pytest.mark.skipif(not (paths.ROOT / ".git").exists(), reason="not a git checkout")
@pytest.mark.parametrize("name", ["chapters/01-rotnet-mnist.ipynb", "results/x/y.json"])
def test_no_checkout_changes_the_ends_of_lines(name):
    """Checksums are of bytes: with core.autocrlf all chapters would be stale."""
    git = ["git", "-C", str(paths.ROOT), "check-attr", "text", "--", name]
    done = subprocess.run(git, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{name}: text: unset"


@pytest.mark.parametrize("moved", [True, False])
def test_a_moved_checkout_makes_its_environment_anew(tmp_path, moved):
    shutil.copy(paths.ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").mkdir()
    made = tmp_path / ("elsewhere" if moved else "") / ".venv"
    (tmp_path / ".venv/pyvenv.cfg").write_text(f"command = /usr/bin/python3 -m venv {made}\n")
    done = subprocess.run(
        ["make", "help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (tmp_path / ".venv").exists() != moved
    assert ("belongs to another folder" in done.stdout) == moved


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "nothing"],
        ["run", "toy", "--profile", "fast"],
        ["run", "toy", "-p", "epoch", "1"],
        ["run", "toy", "-p", "dataset", "cifar"],
        ["run", "toy", "--output", "page.html"],
        ["run", "toy", "-p", "dataset", "<script>"],
        ["freeze", "nothing"],
    ],
)
def test_bad_input_is_one_line_and_status_2(toy, capsys, monkeypatch, arguments):
    def no_kernel(*_):
        raise AssertionError("a notebook was started")

    monkeypatch.setattr("fewlabels.book.notebooks.execute", no_kernel)
    monkeypatch.setattr(render, "find_quarto", lambda: "quarto")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fewlabels: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("limit", ["60KB", "abc", "nan", "inf", "0", "-1MB"])
def test_a_limit_is_in_megabytes(capsys, limit):
    with pytest.raises(SystemExit):
        main(["pack", "toy", "--to", "x", f"--limit={limit}"])
    assert "argument --limit: give megabytes, as 60MB" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["chapters/01-toy.ipynb", "chapters/new.ipynb", "link.ipynb"])
def test_a_run_does_not_overwrite_the_books_chapters(toy, capsys, monkeypatch, name):
    monkeypatch.chdir(toy)
    (toy / "link.ipynb").symlink_to(toy / "chapters/02-other.ipynb")
    before = {path: path.read_bytes() for path in (toy / "chapters").iterdir()}
    assert main(["run", "other", "--output", name]) == 2
    assert "the book's chapters lie there" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in (toy / "chapters").iterdir()}


def refused(*_):
    raise OSError(errno.EROFS, "Read-only file system", "results/summary.csv")


@pytest.mark.parametrize("case", ["cache", "output", "summary"])
def test_what_the_system_refuses_is_one_line_and_status_2(toy, tmp_path, capsys, monkeypatch, case):
    (tmp_path / "file").touch()
    if case == "cache":
        monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "file"))
        status, remedy = main(["run", "other"]), "another folder in FEWLABELS_CACHE"
    elif case == "output":
        status, remedy = main(["run", "other", "--output", f"{tmp_path}/file/x.ipynb"]), "another"
    else:
        monkeypatch.setattr(summary, "write", refused)
        status, remedy = main(["summary"]), "Make it writable"
    assert status == 2
    error = capsys.readouterr().err
    assert error.startswith("fewlabels: ") and error.count("\n") == 1
    assert "cannot be used: " in error and remedy in error


def test_a_run_adds_its_records_to_the_manifest(toy, monkeypatch):
    found = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(found))
    code = (
        "from conftest import toy_run; from pathlib import Path; "
        "from fewlabels.runs.records import Store; from lightning.fabric import Fabric; "
        f"Store(Path({str(paths.RESULTS / 'toy')!r})).run(toy_run(0), Fabric(accelerator='cpu'))"
    )
    path = toy / "chapters/02-other.ipynb"
    path.write_text(path.read_text().replace('"source": "epochs"', f'"source": {json.dumps(code)}'))
    assert main(["run", "other"]) == 0
    assert list(manifest.listed()) == [f"toy/toy-{toy_run(0).id}.json"]


def test_run_ends_with_the_path_of_a_page(toy, capsys):
    assert main(["run", "other", "--profile", "smoke", "-p", "epochs", "040"]) == 0
    page = paths.ROOT / "_runs/other-smoke-epochs-40.html"
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    assert "Your run of other: profile smoke, epochs = 40." in page.read_text()
    assert page.with_suffix(".ipynb").exists()


def test_a_user_error_in_a_cell_is_one_line_and_status_1(toy, capsys):
    path = toy / "chapters/02-other.ipynb"
    code = "from fewlabels.errors import UserError\\nraise UserError('no data: download it')"
    path.write_text(path.read_text().replace('"source": "epochs"', f'"source": "{code}"'))
    assert main(["run", "other"]) == 1
    assert capsys.readouterr().err == "fewlabels: no data: download it\n"


def test_status_is_1_until_everything_is_fresh(toy, capsys, monkeypatch):
    assert main(["status"]) == 1
    assert "toy: 0 of 2 runs, not frozen" in capsys.readouterr().out
    states = {"toy": [], "other": []}
    monkeypatch.setattr(freeze, "status", lambda n: freeze.Status(2, 2, states[n]))
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "toy: 2 of 2 runs, fresh\nother: 2 of 2 runs, fresh\n"
    states["other"] = [f"cell {n} changed" for n in range(1, 11)]
    assert main(["status"]) == 1
    assert "cell 8 changed; and 2 more" in capsys.readouterr().out


def test_without_quarto_the_book_is_a_preview_and_one_line_says_why(toy, capsys, monkeypatch):
    for chapter in ("01-toy", "02-other"):
        (paths.FREEZE / "chapters" / chapter).mkdir(parents=True)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(render, "QUARTO", "./no-such-package")
    assert main(["book"]) == 0
    lines = capsys.readouterr().out.splitlines()
    why = "Quarto is not on PATH; trying pip install ./no-such-package ... failed."
    assert lines[0] == f"{why} Plain preview instead."
    assert lines[-1] == str(toy / "_preview/index.html")
    assert (toy / "_preview/index.html").exists()


def test_an_unfrozen_chapter_makes_a_preview_too(toy, capsys):
    assert main(["book"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Not frozen yet: 01-toy.ipynb, 02-other.ipynb")
    assert (toy / "_preview/01-toy.html").exists()


@pytest.mark.parametrize("module", ["cli", "preview", "render"])
def test_rendering_imports_nothing_heavy(module):
    heavy = ["torch", "pandas", "papermill", "numpy", "matplotlib", "nbformat", "IPython"]
    code = f"import sys, fewlabels.book.{module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_interrupting_a_run_ends_it_cleanly(toy, tmp_path):
    waiting = tmp_path / "waiting"
    code = f"import pathlib, time; pathlib.Path({str(waiting)!r}).touch(); time.sleep(60)"
    path = toy / "chapters/02-other.ipynb"
    path.write_text(path.read_text().replace('"source": "epochs"', f'"source": "{code}"'))
    script = (
        # A shell starts jobs in the background with this signal ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys; from fewlabels.book import cli; from fewlabels.chapters import profiles;"
        "profiles.parameters = lambda *_: {};"
        "from fewlabels import chapters; from pathlib import Path;"
        f"chapters.notebook = lambda name: Path({str(path)!r});"
        "from types import SimpleNamespace; from fewlabels.runs.records import Store;"
        "chapter = SimpleNamespace(Settings=dict, store=lambda settings: Store('elsewhere/x'));"
        "chapters.load = lambda name: chapter;"
        f"sys.exit(cli.main(['run', 'x', '--output', {str(tmp_path / 'out.ipynb')!r}]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not waiting.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    # A terminal sends the signal to the command and its kernel alike.
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130
    assert [line for line in error.splitlines() if line] == [
        "Stopping; what trains keeps its state. Once more: at once.",
        "fewlabels: interrupted; finished runs are kept",
    ]


def test_help_names_every_command():
    text = cli._parser().format_help()
    for command in (
        *("list", "run", "freeze", "status", "classify", "summary", "claims", "verify", "preview"),
        *("book", "score", "replay"),
    ):
        assert re.search(rf"^ +{command} ", text, flags=re.MULTILINE)


def test_the_committed_chapters_are_listed(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in chapters.names())


def few_digits(path):
    """A reader's own file: the first 400 training and 100 test images of scikit-learn's digits."""
    few = first(data.load("digits"), 400, 100)
    parts = {"train": few.train, "test": few.test}
    arrays = {f"{name}_images": part.images.squeeze(1).numpy() for name, part in parts.items()}
    arrays |= {f"{name}_labels": part.labels.numpy() for name, part in parts.items()}
    np.savez(path, **arrays)
    return path


# They are the longest of all tests and share nothing.
@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.xdist_group(each)) for each in chapters.names()]
)
def test_committed_chapter_runs_in_the_smoke_profile(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    output = tmp_path / "chapter.ipynb"
    command = ["run", name, "--profile", "smoke", "--output", str(output)]
    if profiles.parameters(name, "smoke").get("dataset") == "digits":
        command += ["-p", "dataset", str(few_digits(tmp_path / "digits.npz"))]
    assert main(command) == 0
    page = output.with_suffix(".html")
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    assert "?@" not in page.read_text()
    # What `verify` compares holds for every kind of run.
    for path in (tmp_path / "cache/runs").glob("*/*.json"):
        record = read(path)
        for metric, (low, high) in remeasured.spans(record).items():
            value = record.metrics[metric]
            assert low <= value <= high or math.isnan(value), (record.config["kind"], metric)


def test_classify_ranks_what_it_can_and_refuses_the_rest(tmp_path, monkeypatch, capsys):
    from PIL import Image

    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    Image.new("L", (40, 30), 99).save(tmp_path / "grey.png")
    (tmp_path / "text.jpg").write_text("no image")
    names = [str(tmp_path / name) for name in ("text.jpg", "grey.png", "gone.png")]
    assert main(["classify", "--profile", "smoke", *names]) == 2
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == f"{names[1]}  (grey)"
    assert len(lines) == 5
    shares = [float(line.split()[1].rstrip("%")) for line in lines[1:]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.3)
    refused = told.err.splitlines()
    assert len(refused) == 2 and all(line.startswith("fewlabels: ") for line in refused)
    # The second time the weights are there.
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache/weights").glob("*.pt")}
    assert main(["classify", "--profile", "smoke", names[1]]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
