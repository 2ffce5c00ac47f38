from types import SimpleNamespace

import pandas as pd
import pytest

from fewlabels import comparisons
from fewlabels.statistics import fraction_interval, mean_difference


def rows(values, starts=None):
    """Draw d has the d-th value, and starts from the d-th network where one is named."""
    starts = starts or [None] * len(values)
    records = [SimpleNamespace(config={"pretraining": s and {"seed": s}}) for s in starts]
    return pd.DataFrame({"draw": range(len(values)), "accuracy": values, "record": records})


def test_draws_that_start_from_one_network_count_as_one():
    found = comparisons.fraction(rows([0.6, 0.7, 0.8, 0.9, 0.5], [*"aabbc"]), "accuracy")
    by_hand = fraction_interval([0.65, 0.85, 0.5])
    assert (found.n, found.low) == (3, pytest.approx(by_hand.low))
    assert comparisons.mean(rows([0.6, 0.7, 0.8]), "accuracy").n == 3
    assert comparisons.fraction(rows([]), "accuracy") is None


@pytest.mark.parametrize("starts", [([*"aabbc"], None), (None, [*"aabbc"]), ([*"aabbc"],) * 2])
def test_a_network_on_either_side_makes_pairs_one(starts):
    first, second = rows([0.6, 0.7, 0.8, 0.9, 0.5], starts[0]), rows([0.5] * 5, starts[1])
    found = comparisons.difference(first, second, "accuracy")
    by_hand = mean_difference([0.15, 0.35, 0.0])
    assert (found.mean, found.n) == (pytest.approx(by_hand.mean), 3)
    assert found.error == pytest.approx(by_hand.error)


def test_networks_that_overlap_on_the_two_sides_are_joined():
    first, second = rows([0.6, 0.7, 0.8], [*"aab"]), rows([0.5] * 3, [*"cdd"])
    assert comparisons.difference(first, second, "accuracy").n == 1


def test_only_draws_that_both_have_are_compared():
    first, second = rows([0.6, 0.7, 0.8]), rows([0.5, 0.5])
    assert comparisons.difference(first, second, "accuracy").n == 2
    assert comparisons.difference(first, rows([]), "accuracy") is None


def test_rows_without_records_stand_for_themselves():
    bare = pd.DataFrame({"draw": [0, 1, 2], "accuracy": [0.1, 0.2, 0.3]})
    assert comparisons.luck(bare) == [None] * 3
    assert comparisons.luck(bare.assign(record=float("nan"))) == [None] * 3
