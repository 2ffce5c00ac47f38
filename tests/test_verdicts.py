import math

import numpy as np
import pandas as pd
import pytest

from fewlabels.errors import UserError
from fewlabels.evidence.power import detectable
from fewlabels.evidence.statistics import PairedDifference, mean_difference
from fewlabels.evidence.verdicts import (
    ANSWERS,
    DIFFERENCE_WORDS,
    FIGURE_WORDS,
    WORST_FIRST,
    Printed,
    Verdict,
    answer,
    at_most,
    compared,
    direction,
    everywhere,
    extreme,
    printed_figures,
    together,
)
from fewlabels.reference import published

MINUS = "\N{MINUS SIGN}"


def difference(mean, error, n=6):
    """Student's quantiles for five degrees of freedom: 2.570582 at 97.5%, 2.015048 at 95%."""
    return PairedDifference(mean, error, n - 1, n, "by hand")


@pytest.mark.parametrize(
    ("mean", "error", "claimed", "word"),
    [
        (-0.020, 0.0077, -1, "holds"),  # ends -0.0002
        (-0.020, 0.0077, +1, "opposite"),
        (+0.020, 0.0077, +1, "holds"),
        (-0.020, 0.0079, -1, "undecided"),  # ends +0.0003
        # 0.004 + 2.015 x 0.0029 = 0.0098 lies below the margin of a point, with 0.0030 above it.
        (+0.004, 0.0029, +1, "no difference"),
        (-0.004, 0.0029, +1, "no difference"),
        (+0.004, 0.0030, +1, "undecided"),
        (0.0, 0.0045, -1, "no difference"),
    ],
)
def test_direction(mean, error, claimed, word):
    assert direction(difference(mean, error), claimed, margin=1).word == word


def test_direction_needs_three_runs():
    assert direction(None, -1, 1) == Verdict("not tested", "not run")
    verdict = direction(mean_difference([0.01, 0.03]), +1, 1)
    assert (verdict.word, verdict.reason) == ("not tested", "too few runs (n = 2)")
    assert direction(mean_difference([0.02, 0.03, 0.025]), +1, 1).word == "holds"
    # Equal runs have a sign test: six of them decide, five do not.
    assert direction(mean_difference([0.02] * 5), +1, 1).word == "undecided"
    assert direction(mean_difference([0.02] * 6), +1, 1).word == "holds"


def test_direction_gives_its_reason_in_points_or_a_unit_of_its_own():
    verdict = direction(difference(-0.021, 0.0035), -1, margin=1)
    assert verdict.reason == f"difference {MINUS}2.1 [{MINUS}3.0, {MINUS}1.2] points (n = 6)"
    assert verdict.p == pytest.approx(0.0019, abs=1e-4)
    verdict = direction(difference(3, 0.4), +1, margin=1, unit="degrees")
    assert verdict.reason == "difference +3.00 [+1.97, +4.03] degrees (n = 6)"


def test_an_undecided_difference_says_what_could_have_been_found():
    # With six pairs 1.4345 sqrt(6) = 3.5139 standard errors.
    verdict = direction(difference(0.010, 0.01), +1, margin=1)
    assert verdict.reason.endswith("3.5 points would have been found with a probability of 80%")


def test_a_difference_below_the_margin_says_so():
    small = direction(difference(0.004, 0.001), +1, margin=1)
    assert small.word == "holds" and small.reason.endswith(", which is less than 1")
    none = direction(difference(0.002, 0.003), +1, margin=1)
    assert str(none) == "no difference above 1 point"


def test_less_training_makes_a_difference_a_bound():
    behind, ahead = difference(-0.03, 0.005), difference(0.03, 0.005)
    assert direction(behind, +1, 1).word == "opposite"
    verdict = direction(behind, +1, 1, less_trained=True)
    assert verdict.word == "undecided" and "a bound only" in verdict.reason
    assert direction(behind, -1, 1, less_trained=True).word == "undecided"
    assert direction(ahead, +1, 1, less_trained=True).word == "holds"
    assert direction(ahead, -1, 1, less_trained=True).word == "opposite"
    assert direction(difference(0.0, 0.001), +1, 1, less_trained=True).word == "undecided"
    assert at_most(behind, 0, less_trained=True).word == "undecided"
    assert at_most(ahead, 0, less_trained=True).word == "opposite"


@pytest.mark.parametrize(
    ("mean", "error", "limit", "word"),
    [
        # "Does not improve", margin one point: the upper end of the 90% interval decides.
        (0.000, 0.0049, 1, "holds"),  # 0.0099
        (0.000, 0.0050, 1, "undecided"),  # 0.0101
        (0.005, 0.0020, 1, "holds"),  # above zero, and below a point
        (0.020, 0.0049, 1, "opposite"),
        (0.020, 0.0050, 1, "undecided"),
        # "Does not reach": limit zero.
        (-0.010, 0.0049, 0, "holds"),
        (-0.010, 0.0050, 0, "undecided"),
        (+0.010, 0.0049, 0, "opposite"),
    ],
)
def test_at_most(mean, error, limit, word):
    assert at_most(difference(mean, error), limit).word == word


def test_what_is_claimed_of_a_difference():
    ahead = difference(0.005, 0.0015)  # 0.0011 to 0.0089; the 90% interval ends below 0.0081
    words = {
        claimed: compared(ahead, claimed, margin=1).word
        for claimed in ("above", "below", "does not reach", "does not improve")
    }
    assert words == {
        "above": "holds",
        "below": "opposite",
        "does not reach": "opposite",
        "does not improve": "holds",
    }
    assert compared(ahead, "does not improve", 1, less_trained=True).word == "undecided"


@pytest.mark.parametrize("claimed", [0, 2, -0.02])
def test_direction_refuses_what_is_no_sign(claimed):
    with pytest.raises(UserError, match=r"\+1 or -1"):
        direction(difference(0.01, 0.03), claimed, 1)


def figure(id, values, key="accuracy", rounding=1, **more):
    (verdict,) = printed_figures(published.claim(id), [Printed(key, values, rounding, **more)])
    return verdict


# R3 prints 73, margin 3. Runs with s = 1 and n = 3: a single one varies by sqrt(4/3) = 1.154701,
# times 4.302653 and with half a unit of rounding 5.468; times 2.919986 and with it 3.872.
@pytest.mark.parametrize(
    ("mean", "scatter", "word"),
    [
        (67.54, 1, "cannot tell"),
        (67.52, 1, "contradicted"),
        (78.46, 1, "cannot tell"),
        (78.48, 1, "contradicted"),
        (73, 1, "cannot tell"),  # 3.872 is above the margin
        (73, 0.7, "agrees"),  # 0.5 + 2.360
        (72.8, 0.7, "cannot tell"),  # 0.2 + 2.860
        # 2 away, which a t test tells from zero, but within the margin: 2 + 0.5 + 0.337.
        (71, 0.1, "agrees"),
        (70, 0.1, "contradicted"),
    ],
)
def test_a_printed_figure(mean, scatter, word):
    assert figure("R3", [mean - scatter, mean, mean + scatter]).word == word


def test_a_printed_figure_says_what_would_have_been_contradicted():
    verdict = figure("R3", [71.0, 72.0, 73.0])
    assert verdict.reason == (
        "printed 73, our mean 72.0 (n = 3); a figure more than 5.5 away would have been "
        "contradicted, one shown to be within 3 would agree"
    )


def test_what_lies_within_the_margin_is_not_contradicted():
    # Shown to be within 3 up to 3 - 0.5 - 0.337, which is further than 0.5 + 0.497.
    verdict = figure("R3", [70.9, 71.0, 71.1])
    assert verdict.beyond == pytest.approx(2.1628, abs=1e-3)


def test_printed_figures_are_corrected_for_their_number():
    # 93.48 alone is 6 away, of which p = 0.035; of two figures p = 0.07.
    claim = published.claim("S1")
    far = Printed("accuracy", [86.48, 87.48, 88.48], 0.01)
    near = Printed("mean_class_accuracy", [91.58, 92.58, 93.58], 0.01)
    (alone,) = printed_figures(claim, [far])
    assert alone.word == "contradicted" and alone.p == pytest.approx(0.035, abs=1e-3)
    first, second = printed_figures(claim, [far, near])
    assert first.word == "cannot tell" and first.p == pytest.approx(2 * alone.p)
    assert second.word == "cannot tell" and second.p == 1
    # A figure without runs is not tested and not counted.
    first, second = printed_figures(claim, [far, Printed("mean_class_accuracy", [], 0.01)])
    assert (first.p, second) == (alone.p, Verdict("not tested", "not run"))


def test_another_test_set_and_shared_luck_make_a_figure_harder_to_contradict():
    values = [67.0, 67.1, 67.2]
    assert figure("R3", values).word == "contradicted"
    assert figure("R3", values, split_variance=3.0**2).word == "cannot tell"
    six = [67.0, 67.2, 70.0, 70.2, 66.0, 66.2]
    assert figure("R3", six, rounding=0.01).word == "contradicted"
    assert figure("R3", six, rounding=0.01, luck=[*"aabbcc"]).word == "cannot tell"
    two = figure("R3", six, luck=[*"aaabbb"])
    assert (two.word, two.reason) == ("not tested", "too few runs (n = 2)")
    assert figure("R3", [72.0] * 3).reason == "all runs agree exactly (n = 3)"


def test_a_count_is_exact_and_what_the_source_leaves_open_is_not_judged():
    assert figure("C5", [13_696], "trainable_transfer", rounding=0).word == "agrees"
    verdict = figure("C5", [4_098], "trainable_transfer", rounding=0)
    assert verdict == Verdict("contradicted", "printed 13,696, counted 4,098")
    assert figure("C5", [], "trainable_transfer", rounding=0).word == "not tested"
    verdict = figure("R3", [70.0, 71.0, 72.0], instead=Verdict("not identifiable", "the layers"))
    assert verdict == Verdict("not identifiable", "the layers")


def test_printed_percentages_come_from_fractions():
    part = Printed.percent("accuracy", [0.7, 0.72], 1, split_variance=0.01**2)
    assert part.values == pytest.approx([70, 72]) and part.split_variance == pytest.approx(1)
    with pytest.raises(UserError, match="claim R3 prints no recall"):
        figure("R3", [70.0], key="recall")


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
    assert "is lower than all 2 others; the next is eight" in verdict.reason


def test_extreme_is_opposite_when_another_is_lower():
    verdict = extreme(recalls(five=-0.1, eight=-0.2, one=0.1), "five")
    assert verdict.word == "opposite"
    assert verdict.reason.startswith("eight: ")


def test_extreme_is_undecided_when_one_other_is_as_low():
    verdict = extreme(recalls(five=-0.2, eight=-0.2, one=0.1), "five")
    assert verdict.word == "undecided"
    assert "eight: " in verdict.reason and "one: " not in verdict.reason
    assert "would have been found" in verdict.reason


def test_extreme_does_not_hold_beside_a_lower_class_that_correction_leaves_open():
    # Hundredths with mean 1.02 and a standard error of sqrt(0.8 / 6): t = 2.8 at 5 degrees of
    # freedom, p = 0.038, which Holm's correction over two classes doubles.
    apart = (1.02 + np.array([-1, -1, 0, 0, 1, 1])) / 100
    values = pd.DataFrame({"five": 0.5, "low": 0.5 - apart, "high": 0.5 + apart})
    assert mean_difference(apart).p == pytest.approx(0.038, abs=0.001)
    assert extreme(values, "five").word == "undecided"


def test_extreme_corrects_what_refutes_and_not_what_supports():
    # Differences of five minus eight: -1, -2, -3 hundredths: p = 0.074.
    few = pd.DataFrame({"five": [0.3, 0.3, 0.3], "eight": [0.31, 0.32, 0.33]})
    assert extreme(few, "five").word == "undecided"
    assert extreme(few.iloc[:2], "five") == Verdict("not tested", "too few runs (n = 2)")
    # A class below by p = 0.02 refutes alone, and not as one of three.
    below = pd.DataFrame({"five": [0.3, 0.3, 0.3], "one": [0.28, 0.27, 0.265]})
    assert extreme(below, "five").word == "opposite"
    others = below.assign(two=[0.31, 0.29, 0.3], three=[0.29, 0.31, 0.3])
    assert extreme(others, "five").word == "undecided"


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
        (["holds", "undecided"], "undecided"),
        (["no difference", "undecided", "holds"], "undecided"),
        (["no difference", "holds"], "no difference"),
        (["undecided", "not tested", "no difference"], "not tested"),
        # One part that is the other way refutes the claim, whatever the others would say.
        (["not tested", "opposite", "holds"], "opposite"),
        (["agrees", "cannot tell"], "cannot tell"),
        (["agrees", "contradicted", "not tested"], "contradicted"),
        (["yes", "undecided"], "undecided"),
    ],
)
def test_a_claim_of_parts_is_as_good_as_its_worst(words, word):
    assert together(parts(*words)).word == word
    assert together(parts(*words[::-1])).word == word


def test_a_claim_of_parts_has_the_p_value_of_the_part_that_decides():
    both = [Verdict("holds", "a", 0.01), Verdict("holds", "b", 0.04)]
    assert together(both).p == 0.04
    assert together([*both, Verdict("opposite", "c", 0.02)]).p == 0.02
    assert math.isnan(together(parts("not tested", "holds")).p)


def test_a_claim_of_few_parts_gives_every_reason():
    assert together(parts("holds", "opposite")).reason == "holds 0; opposite 1"
    (alone,) = parts("undecided")
    assert together([alone]) == alone
    with pytest.raises(UserError, match="at least one part"):
        together([])


def test_a_claim_of_many_parts_counts_them_and_gives_the_deciding_reasons():
    verdict = together(parts("opposite", "holds", "holds", "holds", "undecided"))
    assert verdict.reason == "5 parts: 1 opposite, 1 undecided, 3 holds. opposite 0"
    many = together(parts(*["holds"] * 6))
    assert many.reason == "6 parts: 6 holds. holds 0; holds 1; holds 2; holds 3; and 2 more"


def cell(values, claimed=+1):
    return direction(mean_difference(values) if values else None, claimed, margin=1)


# Of one cell p = 0.02 (t = 6.93 with 2 degrees of freedom).
BELOW = [-0.02, -0.03, -0.04 + 0.005]
ABOVE = [0.02, 0.03, 0.04]


def test_a_cell_refutes_only_after_correction_for_the_number_of_cells():
    assert everywhere([("one", cell(BELOW))]).word == "opposite"
    assert everywhere([("one", cell(BELOW, -1))]).word == "holds"
    above = [0.0200, 0.0205, 0.0210]
    assert everywhere([(str(k), cell(above)) for k in range(10)]).word == "holds"
    wide = [-0.01, 0.03, 0.04]
    cells = [("one", cell(BELOW))] + [(str(k), cell(wide)) for k in range(9)]
    verdict = everywhere(cells)
    assert verdict.word == "undecided"
    assert "one: difference" in verdict.reason
    assert "not significant after correction over 10 cells" in verdict.reason


def test_a_cell_without_a_difference_says_why_correction_opens_it():
    # Half the 90% interval is 2.92 * 0.0029 / sqrt(3) = 0.5 points; p = 0.012 that it is 1 or more.
    small = [0.003, -0.001, -0.0025]
    assert str(everywhere([("one", cell(small))])) == "no difference above 1 point"
    verdict = everywhere([("one", cell(small)), *((str(k), cell(ABOVE)) for k in range(9))])
    assert verdict.word == "undecided"
    assert "no difference above 1 point, but not after correction over 10 cells" in verdict.reason


def test_cells_without_runs_count_in_the_correction():
    found = cell(BELOW)
    cells = [("one", found)] + [(str(k), cell([])) for k in range(9)]
    few, many = everywhere(cells[: int(0.05 / found.p)]), everywhere([*cells, *cells[1:] * 99])
    assert few.word == "opposite" and few.p == pytest.approx(found.p * int(0.05 / found.p))
    assert many.word == "not tested" and "1 undecided" in many.reason
    assert everywhere([("one", cell([])), ("two", cell([0.1]))]).word == "not tested"


def test_a_fact_refutes_without_a_p_value():
    exact = Verdict("opposite", "at most 1e-2, where rounding is below 1e-5")
    verdict = everywhere([("inside", exact), ("border", cell(ABOVE)), ("other", cell([]))])
    assert verdict.word == "opposite" and math.isnan(verdict.p)


def test_a_question_gets_an_answer_by_the_same_tests():
    assert answer(cell(ABOVE)).word == "yes"
    assert answer(cell(ABOVE, -1)).word == "no"
    assert answer(cell([-0.01, 0.03, 0.04])).word == "undecided"
    assert answer(cell([])).word == "not tested"


def test_every_word_has_its_place_among_the_parts_of_a_claim():
    assert set(WORST_FIRST) == {*FIGURE_WORDS, *DIFFERENCE_WORDS, *ANSWERS}
    assert str(Verdict("undecided", "because")) == "undecided"
    assert Verdict("holds", "").predicate == "holds"
    assert Verdict("opposite", "").predicate == "is opposite"
    assert Verdict("no difference", "", above="1 point").predicate == (
        "finds no difference above 1 point"
    )


def test_how_every_claim_is_judged_is_stated_beforehand():
    for claim in published.claims().values():
        assert claim.kind in published.KINDS, claim.id
        assert claim.luck in published._document()["luck"], claim.id
        assert set(claim.margin) <= set(published.margins()), claim.id
        assert (claim.kind == "question") == bool(claim.hypothesis), claim.id
        judged = claim.kind in ("difference", "order", "limit", "question")
        assert claim.open or judged == bool(claim.direction), claim.id
        assert claim.kind != "figure" or claim.published, claim.id
        if claim.chapter in ("ssl-medmnist", "fusion"):
            assert claim.open or claim.reduced in published._document()["reduced"], claim.id
    assert all(each["margin"] > 0 and each["why"] for each in published.margins().values())
    assert published.claim("R1").margin_of("rotation_accuracy") == 1
    assert published.claim("R3").margin_of("accuracy") == 3
    assert published.claim("C1").margin_of("cohen_kappa") == 6
    assert published.claim("C3").margin_of("difference_balanced_accuracy") == 1
    assert published.claim("S9").margin_of("frozen_full") == 3


def test_an_undecided_limit_says_what_could_have_been_found_beyond_it():
    # One side at 5%, five degrees of freedom: SciPy's noncentral t gives 2.9046 standard errors.
    verdict = at_most(difference(0.010, 0.01), 1)
    shown = detectable(1, 5, sides=1)
    assert shown == pytest.approx(2.9046, abs=1e-3) and shown < detectable(1, 5)
    assert verdict.reason.endswith(
        f"{shown:.1f} points from 1 would have been found with a probability of 80%"
    )


def test_of_an_undecided_claim_the_weakest_part_gives_the_p_value():
    parts = [Verdict("undecided", "a", 0.06), Verdict("undecided", "b", 0.4)]
    assert together(parts).p == 0.4
    assert together([*parts, Verdict("opposite", "c", 0.01)]).p == 0.01


def test_a_bound_rests_on_no_test():
    behind = difference(-0.03, 0.005)
    assert math.isnan(direction(behind, +1, 1, less_trained=True).p)
    assert math.isnan(at_most(behind, 0, less_trained=True).p)
