import math

import numpy as np
import pandas as pd
import pytest

from fewlabels.errors import UserError
from fewlabels.statistics import Interval, PairedDifference
from fewlabels.verdicts import WORDS, Verdict, direction, everywhere, extreme, figure, together


def interval(low, high, n=20):
    return Interval((low + high) / 2, low, high, n, "by hand")


@pytest.mark.parametrize(
    ("low", "high", "claimed", "word"),
    [
        (-0.03, -0.01, -1, "holds"),
        (-0.03, -0.01, +1, "reversed"),
        (0.01, 0.03, +1, "holds"),
        (0.01, 0.03, -1, "reversed"),
        (-0.01, 0.02, +1, "within noise"),
        (-0.01, 0.02, -1, "within noise"),
        # An end at zero does not exclude zero.
        (0.0, 0.02, +1, "within noise"),
        (-0.02, 0.0, -1, "within noise"),
        (0.0, 0.0, +1, "within noise"),
        (1e-12, 0.02, +1, "holds"),
    ],
)
def test_direction(low, high, claimed, word):
    assert direction(interval(low, high), claimed).word == word


def test_direction_needs_three_runs_and_an_interval():
    assert direction(None, -1) == Verdict("not tested", "not run")
    assert direction(interval(0.01, 0.03, n=2), +1) == Verdict("not tested", "too few runs (n = 2)")
    assert direction(interval(0.01, 0.03, n=3), +1).word == "holds"
    assert direction(interval(math.nan, math.nan, n=20), +1).word == "not tested"


def test_direction_gives_its_reason_in_points():
    difference = PairedDifference(-0.021, -0.03, -0.012, 20, 0.001, "by hand")
    reason = "difference \N{MINUS SIGN}2.1 [\N{MINUS SIGN}3.0, \N{MINUS SIGN}1.2] points (n = 20)"
    assert direction(difference, -1) == Verdict("holds", reason)


def test_direction_gives_its_reason_in_a_unit_of_its_own():
    verdict = direction(interval(2, 4), +1, unit="degrees")
    assert verdict == Verdict("holds", "difference +3.0 [+2.0, +4.0] degrees (n = 20)")


@pytest.mark.parametrize("claimed", [0, 2, -0.02])
def test_direction_refuses_what_is_no_sign(claimed):
    with pytest.raises(UserError, match=r"\+1 or -1"):
        direction(interval(0.01, 0.03), claimed)


@pytest.mark.parametrize(
    ("published", "word", "side"),
    [
        (75, "holds", "inside"),
        (70, "holds", "inside"),
        # Half a unit beyond an end is the limit on both sides.
        (69.5, "holds", "inside"),
        (69.4, "reversed", "below"),
        (80.5, "holds", "inside"),
        (80.6, "reversed", "above"),
    ],
)
def test_figure_allows_half_a_unit_of_rounding(published, word, side):
    verdict = figure(published, interval(0.70, 0.80), rounding=1)
    assert verdict.word == word
    assert f" {side} " in verdict.reason


def test_figure_printed_to_two_decimals_gets_less_slack():
    assert figure(93.48, interval(0.93485, 0.95), rounding=0.01).word == "holds"
    assert figure(93.48, interval(0.93486, 0.95), rounding=0.01).word == "reversed"


def test_figure_gives_its_reason():
    verdict = figure(75, interval(0.612, 0.789), rounding=1)
    assert verdict == Verdict("holds", "published 75 inside 61.2 to 78.9 (n = 20)")
    verdict = figure(93.48, interval(0.94, 0.95, n=5), rounding=0.01)
    assert verdict == Verdict("reversed", "published 93.48 below 94.00 to 95.00 (n = 5)")


def test_figure_in_another_unit():
    verdict = figure(10, interval(7.5, 9.2), rounding=1, in_percent=False)
    assert verdict == Verdict("reversed", "published 10 above 7.5 to 9.2 (n = 20)")


def test_figure_not_tested():
    assert figure(75, None, rounding=1) == Verdict("not tested", "not run")
    assert figure(75, interval(0.7, 0.8, n=2), rounding=1).word == "not tested"
    assert figure(75, interval(math.nan, math.nan), rounding=1).word == "not tested"


def recalls(**gaps):
    """20 draws of three classes whose differences are the gaps, give or take a little."""
    rng = np.random.default_rng(0)
    draw = rng.normal(0, 0.05, 20)  # shared by the classes: a pairing has to remove it
    noise = {name: rng.normal(0, 0.01, 20) for name in gaps}
    return pd.DataFrame({name: 0.8 + draw + gap + noise[name] for name, gap in gaps.items()})


def test_extreme_holds_when_lower_than_every_other():
    verdict = extreme(recalls(five=-0.2, eight=-0.1, one=0.1), "five")
    assert verdict.word == "holds"
    assert verdict.reason.startswith("five: ")
    assert verdict.reason.endswith("is lower than all 2 others (n = 20)")


def test_extreme_is_reversed_when_another_is_lower():
    verdict = extreme(recalls(five=-0.1, eight=-0.2, one=0.1), "five")
    assert verdict.word == "reversed"
    assert verdict.reason.startswith("eight: ")


def test_extreme_is_within_noise_when_one_other_is_as_low():
    verdict = extreme(recalls(five=-0.2, eight=-0.2, one=0.1), "five")
    assert verdict.word == "within noise"
    assert "eight: " in verdict.reason and "one: " not in verdict.reason


def test_extreme_can_ask_for_the_best():
    values = recalls(five=-0.2, eight=-0.1, one=0.1)
    assert extreme(values, "one", worst=False).word == "holds"
    assert "higher" in extreme(values, "one", worst=False).reason
    assert extreme(values, "five", worst=False).word == "reversed"


def test_extreme_corrects_for_the_number_of_comparisons():
    # Six draws that all agree: p = 2 / 2**6 = 0.031 for one comparison; Holm doubles it for two.
    one = pd.DataFrame({"a": [0.1, 0.2, 0.1, 0.2, 0.1, 0.2], "b": [0.5, 0.7, 0.6, 0.8, 0.5, 0.7]})
    assert extreme(one, "a").word == "holds"
    two = one.assign(c=one["b"] + 0.1)
    assert extreme(two, "a") == Verdict("not tested", "6 runs cannot separate a from 2 others")


def test_extreme_refuses_unknown_classes_and_missing_values():
    values = recalls(five=-0.2, one=0.1)
    with pytest.raises(UserError, match="no class 'six': choose one of five, one"):
        extreme(values, "six")
    values.loc[3, "one"] = math.nan
    with pytest.raises(UserError, match="missing"):
        extreme(values, "five")


def parts(*words):
    return [Verdict(word, f"{word} {k}") for k, word in enumerate(words)]


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "within noise"], "within noise"),
        (["within noise", "not tested"], "not tested"),
        # One part that is the other way refutes the claim, whatever the others would say.
        (["not tested", "reversed", "holds"], "reversed"),
    ],
)
def test_a_claim_of_parts_is_as_good_as_its_worst(words, word):
    assert together(parts(*words)).word == word
    assert together(parts(*words[::-1])).word == word


def test_a_claim_of_few_parts_gives_every_reason():
    assert together(parts("holds", "reversed")).reason == "holds 0; reversed 1"
    (alone,) = parts("within noise")
    assert together([alone]) == alone
    with pytest.raises(UserError, match="at least one part"):
        together([])


def test_a_claim_of_many_parts_counts_them_and_gives_the_deciding_reasons():
    verdict = together(parts("reversed", "holds", "holds", "holds", "within noise"))
    assert verdict.reason == "5 parts: 3 holds, 1 reversed, 1 within noise. reversed 0"
    many = together(parts(*["holds"] * 6))
    assert many.reason == "6 parts: 6 holds. holds 0; holds 1; holds 2; holds 3; and 2 more"


# Of one cell p = 0.02 (t = 6.93 with 2 degrees of freedom).
BELOW = [-0.02, -0.03, -0.04 + 0.005]


def test_a_cell_is_reversed_only_after_correction_for_the_number_of_cells():
    above = [0.02, 0.03, 0.04]
    assert everywhere([("one", BELOW, +1)]).word == "reversed"
    assert everywhere([("one", BELOW, -1)]).word == "holds"
    assert everywhere([(str(k), above, +1) for k in range(10)]).word == "holds"
    cells = [("one", BELOW, +1)] + [(str(k), above, +1) for k in range(9)]
    verdict = everywhere(cells)
    assert verdict.word == "within noise"
    assert "one: difference" in verdict.reason
    assert "not significant among 10 cells" in verdict.reason


def test_cells_without_runs_count_in_no_correction():
    cells = [("one", BELOW, +1)] + [(str(k), [], +1) for k in range(9)]
    verdict = everywhere(cells)
    assert verdict.word == "reversed"
    assert verdict.reason.startswith("10 parts: 1 reversed, 9 not tested. one: difference")
    assert everywhere([("one", [], +1), ("two", [0.1], +1)]).word == "not tested"


def test_a_verdict_prints_as_its_word():
    assert str(Verdict("within noise", "because")) == "within noise"
    assert WORDS == ("holds", "reversed", "within noise", "not tested")
