"""Runs of the book made again: what is compared, and what is drawn."""

import math
from types import SimpleNamespace

from fewlabels.book import replay


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
    first, again, other = (replay.drawn(5, seed) for seed in (0, 0, 1))
    assert [each[2].id for each in first] == [each[2].id for each in again]
    assert [each[2].id for each in first] != [each[2].id for each in other]
    for _, run, record in first:
        assert not run.needs() and record.seconds <= replay.LONGEST and record.id == run.id
