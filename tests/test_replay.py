"""Runs of the book made again: what is compared, and what is drawn."""

import math
from types import SimpleNamespace

import pytest
from toy_runs import Toy

from fewlabels import paths
from fewlabels.book import cli, replay


def test_the_furthest_metric_is_relative():
    record = SimpleNamespace(
        metrics={"accuracy": 0.8, "nll": 2.0, "auc": math.nan, "peak_memory_mb": 1.0}
    )
    made = SimpleNamespace(
        metrics={"accuracy": 0.84, "nll": 2.02, "auc": math.nan, "peak_memory_mb": 9.0}
    )
    metric, gap = replay.furthest(record, made)
    assert metric == "accuracy" and math.isclose(gap, 0.05)
    assert replay.furthest(record, record) == ("accuracy", 0.0)
    lost = SimpleNamespace(metrics=made.metrics | {"nll": math.nan})
    assert replay.furthest(record, lost) == ("nll", math.inf)


def test_a_choice_repeats_and_is_of_short_runs_that_stand_alone():
    two = ["rotnet-mnist", "autoencoders-vae"]
    first, again, other = (replay.drawn(5, seed, 60, two) for seed in (0, 0, 1))
    assert [each[2].id for each in first] == [each[2].id for each in again]
    assert [each[2].id for each in first] != [each[2].id for each in other]
    for _, run, record in first:
        assert not run.needs() and record.seconds <= 60 and record.id == run.id
        assert record.metrics
    few = replay.drawn(12, 0, 20, two)
    assert all(record.seconds <= 20 for *_, record in few)
    # The kinds take turns.
    assert {name for name, *_ in few} == {*two}
    assert len({run.kind for _, run, _ in few}) > 1


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [
        ("--sample", "-1", "a whole number, 1 or more"),
        ("--sample", "0", "a whole number, 1 or more"),
        ("--seconds", "nan", "a number above zero"),
        ("--seconds", "-1", "a number above zero"),
    ],
)
def test_what_is_no_number_of_runs_or_seconds_is_named(monkeypatch, capsys, flag, value, allowed):
    monkeypatch.setattr(replay, "run_all", None)
    assert cli.main(["replay", flag, value, "rotnet-mnist"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"fewlabels: {flag} is ") and told.endswith(f"; allowed: {allowed}\n")


def made_again(id, kind, gap, device="cpu"):
    """A record of a run, and the one made here, whose accuracy is off by a share ``gap``."""
    record = SimpleNamespace(id=id, config={"kind": kind}, metrics={"accuracy": 0.5}, seconds=1.0)
    other = SimpleNamespace(
        metrics={"accuracy": 0.5 * (1 + gap)}, hardware={"device": device}, seconds=2.0
    )
    return "toy", record, other


def test_what_is_kept_becomes_a_row_per_machine_and_kind(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    monkeypatch.setattr(replay, "processor", lambda: "Slow 1")
    runs = [
        made_again("a", "heads", 0.5),
        made_again("b", "heads", 0.0),
        made_again("c", "nets", 0.01, "Some card"),
        ("toy", made_again("d", "nets", 0.0)[1], "the data are not here"),
    ]
    monkeypatch.setattr(replay, "replayed", lambda *asked: iter(runs))
    assert cli.main(["replay", "--sample", "4"]) == 0 and replay.kept() == []
    assert cli.main(["replay", "--sample", "4", "--keep"]) == 0
    assert "toy heads: at most 0.5" in capsys.readouterr().out
    # The same run on the same machine takes its former place.
    runs[0] = made_again("a", "heads", 0.25)
    assert cli.main(["replay", "--keep"]) == 0
    assert [each["id"] for each in replay.kept()] == ["a", "b", "c"]
    lines = [line for line in replay.differences().splitlines() if "toy" in line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [
        ["Slow 1", "toy, heads", "2", "1", "0.1", "0.2", "accuracy"],
        ["Some card", "toy, nets", "1", "0", "0.01", "0.01", "accuracy"],
    ]


def test_a_processor_is_named_with_its_instructions(monkeypatch):
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    whole = replay.processor()
    name, _, used = whole.rpartition(", ")
    assert name and used
    # PyTorch has read it already; what it says then is what it uses.
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert replay.processor() == f"{whole} only"


def test_a_replay_leaves_the_weights_of_the_book_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path))
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    run = Toy("digits", 3)
    monkeypatch.setattr(replay, "drawn", lambda *asked: [("toy", run, None)])
    ((_, _, made),) = replay.replayed(1, 0, 60, ["toy"])
    assert made.weights and not [*tmp_path.glob("weights/*")]
