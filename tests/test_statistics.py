import math

import numpy as np
import pytest
from scipy import stats

from fewlabels.errors import UserError
from fewlabels.evidence.power import detectable, runs_needed
from fewlabels.evidence.spread import variance_components
from fewlabels.evidence.statistics import (
    STARTS,
    fraction_interval,
    from_printed,
    holm,
    mean_difference,
    mean_interval,
    prediction_interval,
    share_interval,
    shared_luck,
    unpaired_difference,
)
from fewlabels.runs import manifest

T2 = 4.302653
"""Student's quantile at 97.5% for two degrees of freedom; 2.919986 at 95%."""


@pytest.mark.parametrize("n", [3, 6, 20])
def test_mean_interval_is_students_at_every_n(n):
    values = np.random.default_rng(n).normal(20, 3, n)
    interval = mean_interval(values)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), values.std(ddof=1) / n**0.5)
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert (interval.mean, interval.n) == (pytest.approx(values.mean()), n)
    assert interval.method == "95% Student t"


def test_runs_that_share_luck_count_as_one():
    # Means of the units 2, 6 and 9: their mean 17/3 and variance 37/3.
    interval = mean_interval([1, 3, 5, 7, 9], ["a", "a", "b", "b", None])
    assert (interval.mean, interval.n) == (pytest.approx(17 / 3), 3)
    assert interval.high - interval.mean == pytest.approx(T2 * (37 / 9) ** 0.5, rel=1e-6)
    # None is luck of its own, however often it occurs.
    assert mean_interval([1, 3, 5], [None, None, None]) == mean_interval([1, 3, 5])
    with pytest.raises(UserError, match="luck has 1 names for 2 values"):
        mean_interval([1, 2], ["a"])


def test_shared_luck_is_the_trained_run_that_a_run_starts_from():
    start = {"seed": 3, "training": {"steps": 5}}
    run = {"draw": 7, "pretraining": start}
    assert shared_luck(start) is None
    assert shared_luck(run) == shared_luck(run | {"draw": 8})
    assert shared_luck(run) != shared_luck(run | {"pretraining": start | {"seed": 4}})
    # What a probe of a classifier shares is the pretraining of that classifier.
    assert shared_luck({"start": run}) == shared_luck(run)
    assert shared_luck({"draw": 7, "pretraining": None}) is None


def test_no_kind_of_run_starts_from_another_under_a_name_that_is_not_known():
    """A run's luck would count as its own."""
    # A scale for others; a config with other seeds; what a split chose; features of one network.
    known = {*STARTS, "reader", "run", "search", "features"}
    for name in manifest.records():
        config = manifest.read(name).config
        nested = {k for k, v in config.items() if isinstance(v, dict) and "recipe" in v}
        assert nested <= known, name


def test_fewer_than_three_runs_have_no_interval():
    for values in ([0.8], [0.8, 0.9]):
        for function in (mean_interval, fraction_interval):
            interval = function(values)
            assert (interval.mean, interval.n) == (pytest.approx(np.mean(values)), len(values))
            assert math.isnan(interval.low) and math.isnan(interval.high)
        found = mean_difference(values)
        assert math.isnan(found.low) and math.isnan(found.p)


def test_no_interval_has_no_width():
    # 0.3 - 0.2 and 0.2 - 0.1 differ by the last bit.
    equal = [0.3 - 0.2, 0.2 - 0.1, 0.1]
    for function in (mean_interval, fraction_interval, prediction_interval):
        interval = function(equal)
        assert math.isnan(interval.low) and interval.method == "no interval: all runs agree"
    assert math.isnan(mean_difference(equal).low)
    # Five equal differences: 2 / 2**5; it takes six for p below 5%.
    assert mean_difference([0.1] * 5).p == 1 / 16
    assert mean_difference([0.1] * 6).p < 0.05
    assert mean_difference([0.0] * 9).p == 1


def test_a_known_variance_widens_a_difference():
    found = mean_difference([1.0, 2.0, 3.0])
    # Error 1 / sqrt(3): twice its variance added makes the error 1 and the 2 degrees of freedom 18.
    wider = found.widened(2 / 3)
    assert (wider.mean, wider.n) == (2, 3)
    assert wider.error == pytest.approx(1) and wider.df == pytest.approx(18)
    assert wider.high == pytest.approx(2 + stats.t.ppf(0.975, 18))
    assert found.widened(0) == found
    # Runs that all agree know the added variance alone.
    equal = mean_difference([1.0, 1.0, 1.0]).widened(4)
    assert (equal.error, equal.df) == (2, math.inf)
    assert equal.high == pytest.approx(1 + 2 * stats.norm.ppf(0.975))


def test_fraction_interval_by_hand_and_within_bounds():
    # Mean 0.8, s = 0.1: error 0.0577350, on the logit scale over 0.16 0.3608439; logit of the mean
    # 1.3862944.
    interval = fraction_interval([0.7, 0.8, 0.9])
    ends = [1 / (1 + math.exp(-1.3862944 - sign * T2 * 0.3608439)) for sign in (-1, 1)]
    assert (interval.low, interval.high) == pytest.approx(tuple(ends), abs=1e-6)
    assert 0.45 < interval.low < 0.8 < interval.high < 0.96
    assert interval.method == "95% Student t, logit scale"
    for values in ([0.999, 0.5, 0.2], [0.0, 0.0, 1.0], [1.0, 1.0, 0.99]):
        for function in (fraction_interval, prediction_interval):
            found = function(values)
            assert 0 <= found.low < found.mean < found.high <= 1
    with pytest.raises(UserError, match=r"outside 0\.\.1"):
        fraction_interval([0.5, 1.5, 0.7])


@pytest.mark.parametrize("bad", [[], [0.8, np.nan], [0.8, np.inf], [[0.8, 0.9]], 0.8])
def test_values_that_are_no_runs_are_refused(bad):
    for function in (mean_interval, fraction_interval, prediction_interval, share_interval):
        with pytest.raises(UserError):
            function(bad)


def test_share_interval_is_wilsons():
    correct = np.array([True] * 8 + [False] * 2)
    interval = share_interval(correct)
    # Wilson (1927) by hand, z = 1.96: centre (8 + z^2/2) / (10 + z^2), and so on.
    z = stats.norm.ppf(0.975)
    centre = (8 + z**2 / 2) / (10 + z**2)
    half = z / (10 + z**2) * np.sqrt(8 * 2 / 10 + z**2 / 4)
    assert interval.mean == 0.8
    assert (interval.low, interval.high) == pytest.approx((centre - half, centre + half))
    assert (interval.low, interval.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert interval.n == 10
    assert interval.method == "95% Wilson"
    assert share_interval([True] * 3).low == pytest.approx(3 / (3 + z**2))


def test_share_interval_refuses_probabilities():
    with pytest.raises(UserError, match="one yes or no"):
        share_interval([0.2, 0.9])


def test_prediction_interval_by_hand():
    # s sqrt(1 + 1/3) = 0.1154701; not beyond 1.
    interval = prediction_interval([0.5, 0.6, 0.7])
    assert (interval.low, interval.high) == pytest.approx((0.6 - T2 * 0.1154701, 1), abs=1e-6)
    assert interval.low == pytest.approx(0.1031721, abs=1e-6)


def test_prediction_interval_needs_three_runs():
    with pytest.raises(UserError, match="at least 3"):
        prediction_interval([0.7, 0.8])


def test_p_value_by_hand_and_in_agreement_with_the_interval():
    # Mean 2, s = 1, t = 2 / (1 / sqrt(3)) = 3.4641; p = 1 - t / sqrt(t**2 + 2) for two degrees.
    found = mean_difference([1, 2, 3])
    assert found.p == pytest.approx(1 - 12**0.5 / 14**0.5)
    assert (found.low, found.high) == pytest.approx((2 - T2 / 3**0.5, 2 + T2 / 3**0.5), rel=1e-6)
    rng = np.random.default_rng(4)
    for n in (3, 5, 6, 10):
        for _ in range(50):
            each = mean_difference(rng.normal(0.5, 1, n))
            assert (each.p <= 0.05) == (not each.low <= 0 <= each.high)


def test_rounding_is_no_difference():
    assert mean_difference([0.1 + 0.2 - 0.3] * 6).p == 1
    assert mean_difference([0.01] * 6).p == 2**-5


def test_a_difference_is_tested_against_a_limit_by_hand():
    # Mean 2, error 1 / sqrt(3); below 3: t = -1.7320508; P(t < -x) = (1 - x / sqrt(x**2 + 2)) / 2.
    found = mean_difference([1, 2, 3])
    assert found.p_above(3) == pytest.approx((1 - 3**0.5 / 5**0.5) / 2)
    assert found.p_above(1) == pytest.approx(1 - found.p_above(3))
    assert found.ends(0.9) == pytest.approx((2 - 2.919986 / 3**0.5, 2 + 2.919986 / 3**0.5))


def test_pairs_that_share_luck_count_as_one():
    found = mean_difference([0.1, 0.3, 0.4, 0.6, 0.9], ["x", "x", "y", "y", None])
    assert (found.mean, found.n) == (pytest.approx((0.2 + 0.5 + 0.9) / 3), 3)
    assert found.error == pytest.approx(mean_difference([0.2, 0.5, 0.9]).error)


def test_a_printed_figure_by_hand():
    # Mean 72, s = 2: error 2 sqrt(4/3) = 2.309401 with 2 degrees of freedom; 73 is 1 away, of which
    # rounding takes a half: t = 0.216506, p = 1 - t / sqrt(t**2 + 2).
    found = from_printed(73, [70, 72, 74], rounding=1)
    assert (found.difference, found.slack, found.n, found.spread) == (1, 0.5, 3, 2)
    assert (found.error, found.df) == pytest.approx((2.309401, 2))
    assert found.p == pytest.approx(1 - 0.216506 / (0.216506**2 + 2) ** 0.5, abs=1e-6)
    assert found.contradicted_beyond() == pytest.approx(T2 * 2.309401 + 0.5, abs=1e-5)
    # As one of two figures, at 2.5%: the quantile at 98.75% for two degrees is 6.205347.
    assert found.contradicted_beyond(2) == pytest.approx(6.205347 * 2.309401 + 0.5, abs=1e-5)
    # Two one-sided tests: 9 - 0.5 - 2.919986 * 2.309401 = 1.7566.
    assert found.agrees_within(9) == pytest.approx(1.7566, abs=1e-4)
    assert found.agrees_within(3) < 0


def test_a_printed_figure_within_its_rounding_is_no_distance_away():
    assert from_printed(72.4, [70, 72, 74], rounding=1).p == 1


def test_two_levels_of_luck_by_hand():
    # Units' means 2, 6, 9: variance 37/3. Within them the variance is 2, of which a unit's mean has
    # (1/2 + 1/2 + 1) / 3 on average: a single run varies by 37/3 + 2 (1 - 2/3) = 13.
    found = from_printed(7, [1, 3, 5, 7, 9], 1, luck=["a", "a", "b", "b", None])
    assert found.spread == pytest.approx(13**0.5)
    assert found.error == pytest.approx((13 + 37 / 9) ** 0.5)
    assert (found.n, found.df) == (3, 2)


def test_two_levels_estimate_the_variance_of_a_single_run_without_bias():
    rng = np.random.default_rng(2)
    units = ["a"] * 7 + ["b"] * 7 + ["c"] * 6
    variances = []
    for _ in range(4_000):
        among = dict(zip("abc", rng.normal(0, 2, 3), strict=True))
        values = [among[unit] + rng.normal() for unit in units]
        variances.append(from_printed(0, values, 1, units).spread ** 2)
    assert np.mean(variances) == pytest.approx(2**2 + 1, rel=0.05)


def test_another_draw_of_test_images_adds_its_variance():
    # 16/3 from the runs and 4 known: Satterthwaite's degrees of freedom 2 (28/3 / (16/3))**2.
    found = from_printed(73, [70, 72, 74], 1, split_variance=4)
    assert found.error == pytest.approx((28 / 3) ** 0.5)
    assert found.df == pytest.approx(2 * 1.75**2)


def test_too_few_or_equal_runs_say_nothing_of_a_printed_figure():
    with pytest.raises(UserError, match="2 runs"):
        from_printed(73, [70, 72], 1)
    with pytest.raises(UserError, match="2 runs"):
        from_printed(73, [70, 71, 72, 73], 1, luck=["a", "a", "b", "b"])
    with pytest.raises(UserError, match="agree exactly"):
        from_printed(73, [72, 72, 72], 1)


# An effect of 1.44 standard deviations is found by six pairs with a probability of 80% (tables of
# the noncentral t); of one, by ten; of half a one, by 34.
def test_power():
    assert detectable(2 / 6**0.5, df=5) == pytest.approx(2 * 1.435, abs=0.01)
    # With a known spread the normal's quantiles: 1.960 and 0.842.
    assert detectable(1, math.inf) == pytest.approx(1.960 + 0.842, abs=0.002)
    assert detectable(1, math.inf, sides=1) == pytest.approx(1.645 + 0.842, abs=0.002)
    assert (runs_needed(1, 1), runs_needed(-0.5, 1), runs_needed(100, 1)) == (10, 34, 3)
    for n in (3, 5, 10, 20):
        found = detectable(1 / n**0.5, n - 1)
        assert runs_needed(1.001 * found, 1) == n
        rng = np.random.default_rng(n)
        hits = [mean_difference(rng.normal(found, 1, n)).p <= 0.05 for _ in range(2_000)]
        assert np.mean(hits) == pytest.approx(0.8, abs=0.03)
    for bad in ((0, 1), (1, 0)):
        with pytest.raises(UserError, match="no number of runs"):
            runs_needed(*bad)


def test_holm_by_hand():
    # Sorted 0.005 0.01 0.03 0.04, times 4 3 2 1: 0.02 0.03 0.06 0.04, the last raised to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_clips_at_one_and_leaves_a_single_test_alone():
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.04]) == pytest.approx([0.04])


@pytest.mark.parametrize("bad", [[0.1, np.nan], [0.1, 1.2], [-0.1], []])
def test_holm_refuses_what_is_no_p_value(bad):
    with pytest.raises(UserError):
        holm(bad)


def test_variance_components_of_a_matrix_with_known_components():
    rows, columns = np.array([-2.0, 0.0, 2.0]), np.array([-1.0, -0.5, 0.5, 1.0])
    # Sums to 0 along both axes; its squares sum to 0.01 * 6 * 4, on 2 * 3 degrees of freedom.
    interaction = np.outer([1, -2, 1], [1, -1, -1, 1]) * 0.1
    components = variance_components(80 + rows[:, None] + columns + interaction)
    residual = 0.01 * 24 / 6
    assert components["residual"] == pytest.approx(residual)
    assert components["draw"] == pytest.approx(4 - residual / 4)
    assert components["seed"] == pytest.approx(2.5 / 3 - residual / 3)


def test_variance_components_without_noise_are_the_plain_variances():
    components = variance_components([[1.0, 2.0], [3.0, 4.0]])
    assert components["draw"] == pytest.approx(2)
    assert components["seed"] == pytest.approx(0.5)
    assert components["residual"] == pytest.approx(0, abs=1e-12)


def test_variance_components_are_unbiased_where_nothing_is_clipped():
    rng = np.random.default_rng(7)
    estimates = [
        variance_components(
            rng.normal(0, 3, (10, 1)) + rng.normal(0, 2, (1, 10)) + rng.normal(0, 1, (10, 10))
        )
        for _ in range(1_000)
    ]
    means = {key: np.mean([e[key] for e in estimates]) for key in estimates[0]}
    assert means["draw"] == pytest.approx(9, rel=0.07)
    assert means["seed"] == pytest.approx(4, rel=0.07)
    assert means["residual"] == pytest.approx(1, rel=0.02)


def test_negative_variance_estimates_become_zero():
    # Pure interaction: the draws' and the seeds' means are all equal.
    assert variance_components([[1.0, -1.0], [-1.0, 1.0]]) == {
        "draw": 0.0,
        "seed": 0.0,
        "residual": 4.0,
    }


@pytest.mark.parametrize("bad", [[0.1, 0.2], [[0.1, 0.2]], [[0.1], [0.2]], [[0.1, np.nan]] * 2])
def test_variance_components_need_a_full_table(bad):
    with pytest.raises(UserError):
        variance_components(bad)


def test_unpaired_difference_of_equal_spreads_by_hand():
    # Both variances are 1, so the standard error is sqrt(2/3) with 4 degrees of freedom, for which
    # the table of t gives 2.776.
    interval = unpaired_difference([11, 12, 13], [1, 2, 3])
    assert (interval.mean, interval.n) == (10, 3)
    assert interval.high - interval.mean == pytest.approx(2.776 * (2 / 3) ** 0.5, abs=1e-3)
    assert interval.mean - interval.low == pytest.approx(interval.high - interval.mean)


def test_unpaired_difference_of_runs_that_all_agree_has_no_interval():
    found = unpaired_difference([0.1] * 3, [0.7] * 4)
    assert (found.mean, found.error) == (pytest.approx(-0.6), 0)
    assert math.isnan(found.low) and math.isnan(found.high)


def test_unpaired_difference_of_too_few_values_decides_nothing():
    found = unpaired_difference([1, 2], [1])
    assert (found.mean, found.n) == (0.5, 1) and math.isnan(found.p)


def test_overlapping_splits_interval_by_hand():
    # Mean 0.8, variance 0.01; three splits with a third tested for every image trained on:
    # error sqrt((1/3 + 1/2) * 0.01) = 0.0912871, over 0.16 on the logit scale.
    interval = fraction_interval([0.7, 0.8, 0.9], test_to_train=0.5)
    assert (interval.mean, interval.n) == (pytest.approx(0.8), 3)
    for end, sign in ((interval.low, -1), (interval.high, 1)):
        logit = 1.3862944 + sign * T2 * 0.0912871 / 0.16
        assert end == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)


def test_overlapping_splits_difference_by_hand():
    # Differences 0.1, 0.2, 0.3, 0.4: mean 0.25, variance 1/60; error with n_test / n_train = 1/4:
    # sqrt((1/4 + 1/4) / 60) = 0.0912871; t = 2.73861 with 3 degrees of freedom.
    found = mean_difference([0.1, 0.2, 0.3, 0.4], test_to_train=0.25)
    assert found.mean == pytest.approx(0.25)
    assert found.p == pytest.approx(0.0714, abs=1e-4)
    assert found.high - found.mean == pytest.approx(3.18245 * 0.0912871, rel=1e-5)


def test_more_splits_of_the_same_images_do_not_make_a_mean_certain():
    values = np.tile([0.6, 0.8], 500)
    width = {}
    for n in (10, 1000):
        interval = fraction_interval(values[:n], test_to_train=3 / 7)
        width[n] = interval.high - interval.low
    # Without the correction ten times narrower; the second term stays.
    assert 0.7 < width[1000] / width[10] < 1


def test_corrected_intervals_cover_the_accuracy_of_overlapping_splits():
    """Splits of a small pool, a classifier that is right for an image or not: the truth is the
    rate in the population the pool was drawn from. The usual interval misses it far too often."""
    rng = np.random.default_rng(0)
    corrected = usual = 0
    for _ in range(300):
        right = rng.random(60) < 0.7
        splits = [right[rng.permutation(60)[:18]].mean() for _ in range(15)]
        interval = fraction_interval(splits, test_to_train=18 / 42)
        corrected += interval.low <= 0.7 <= interval.high
        plain = mean_interval(splits)
        usual += plain.low <= 0.7 <= plain.high
    assert usual < 0.75 * 300
    assert corrected > 0.9 * 300


def test_overlapping_splits_difference_without_variation_or_with_one_split():
    found = mean_difference([0.0] * 5, test_to_train=0.4)
    assert (found.mean, found.p) == (0, 1) and math.isnan(found.low)
    one = mean_difference([0.4], test_to_train=0.4)
    assert math.isnan(one.p) and math.isnan(one.low)


@pytest.mark.parametrize("ratio", [-1, np.nan, np.inf])
def test_an_impossible_ratio_of_test_to_training_images_is_refused(ratio):
    with pytest.raises(UserError, match="n_test / n_train"):
        mean_interval([0.1, 0.2], test_to_train=ratio)
