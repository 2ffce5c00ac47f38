"""What a wheel carries, and what a command says that needs more."""

import tomllib

import pytest

from fewlabels import paths
from fewlabels.book import cli


def test_dependencies_are_locked_with_hashes():
    locked = (paths.ROOT / "requirements.txt").read_text()
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(each for extra in extras for each in extra)]
    for each in wanted:
        name, lowest = each.split(">=")
        lowest = lowest.split(",")[0]
        at = f"\n{name.lower().replace('_', '-')}=={lowest}"
        assert at in locked, f"{each}: the lock has another lower end (`make lock`)"
    pinned = [line for line in locked.splitlines() if "==" in line]
    assert locked.count("--hash=sha256:") >= len(pinned)


@pytest.mark.parametrize("command", ["verify", "claims", "status", "book", "score"])
def test_outside_a_checkout_commands_of_the_book_say_so(command, monkeypatch, capsys):
    monkeypatch.setattr(paths, "IN_CHECKOUT", False)
    assert cli.main([command]) == 2
    assert "clone the repository" in capsys.readouterr().err


def test_outside_a_checkout_the_books_own_store_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(paths, "IN_CHECKOUT", False)
    assert cli.main(["run", "rotnet-mnist", "--profile", "full"]) == 2
    assert "-p store cache" in capsys.readouterr().err
