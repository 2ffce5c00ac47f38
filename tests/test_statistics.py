import numpy as np
import pytest
from scipy import stats

from fewlabels.errors import UserError
from fewlabels.statistics import (
    _expanded_bootstrap,
    _expanded_tail,
    holm,
    image_interval,
    mean_interval,
    paired_difference,
    prediction_interval,
    resampled_difference,
    resampled_interval,
    t_test,
    unpaired_difference,
    variance_components,
)


def test_expanded_level_by_hand():
    # t(0.975, 9) = 2.26216, times sqrt(10 / 9) is 2.38452; t(0.975, 4) = 2.77645 becomes 3.10416.
    assert _expanded_tail(10, 0.95) == pytest.approx(0.00855, abs=1e-5)
    assert _expanded_tail(5, 0.95) == pytest.approx(0.000954, abs=1e-6)
    assert _expanded_tail(10**6, 0.95) == pytest.approx(0.025, abs=1e-5)


def test_mean_interval_is_the_percentile_interval_at_the_expanded_level():
    values = np.random.default_rng(1).normal(0.8, 0.05, 10)
    means = values[np.random.default_rng(2).integers(0, 10, (200_000, 10))].mean(axis=1)
    low, high = np.quantile(means, [0.00855, 1 - 0.00855])
    interval = mean_interval(values)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.n == 10
    assert interval.method == "95% expanded percentile bootstrap over label draws"
    # 9,999 resamples place a quantile at 0.9% to within a few percent of the interval's width.
    assert interval.low == pytest.approx(low, abs=0.05 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.05 * (high - low))


def test_mean_interval_is_wider_than_the_plain_percentile_interval():
    values = np.random.default_rng(3).normal(size=8)
    plain = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
    interval = mean_interval(values)
    assert interval.low < plain.confidence_interval.low
    assert interval.high > plain.confidence_interval.high


def test_mean_interval_depends_on_nothing_but_values_and_seed():
    values = np.random.default_rng(8).normal(size=10)
    np.random.seed(0)
    first = mean_interval(values, seed=4)
    np.random.seed(1)
    assert mean_interval(values, seed=4) == first
    assert mean_interval(values, seed=5) != first


def test_mean_interval_of_few_runs_by_hand():
    # Mean 0.8, s = 0.1; Student's quantile for two degrees of freedom is 4.302653.
    interval = mean_interval([0.7, 0.8, 0.9])
    half = 4.302653 * 0.1 / 3**0.5
    assert (interval.low, interval.high) == pytest.approx((0.8 - half, 0.8 + half), abs=1e-6)
    assert interval.method == "95% Student t over label draws"


def test_five_runs_are_few_and_six_are_resampled():
    values = [0.7, 0.9, 0.75, 0.8, 0.85, 0.8]
    assert "Student" in mean_interval(values[:5]).method
    assert "bootstrap" in mean_interval(values).method


def test_mean_interval_of_one_run_has_no_ends():
    interval = mean_interval([0.8])
    assert (interval.mean, interval.n) == (0.8, 1)
    assert np.isnan(interval.low) and np.isnan(interval.high)


def test_mean_interval_of_equal_values_has_no_width():
    interval = mean_interval([0.1] * 7)
    assert interval.low == interval.mean == interval.high == 0.1


@pytest.mark.parametrize("bad", [[], [0.8, np.nan], [0.8, np.inf], [[0.8, 0.9]], 0.8])
def test_values_that_are_no_runs_are_refused(bad):
    for function in (mean_interval, prediction_interval, image_interval):
        with pytest.raises(UserError):
            function(bad)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_is_a_fraction(confidence):
    with pytest.raises(UserError, match=r"0\.95"):
        mean_interval([0.7, 0.8, 0.9], confidence)


# Measured on 20,000 samples with 9,999 resamples, n = 10, 20: normal 94.5, 95.2%, exponential 91.0,
# 92.1%. The bands are these within three standard errors of 1,200 samples, which the plain
# percentile interval misses at n = 10. Student's interval, for fewer runs, covers 95% of normal
# values by its making.
@pytest.mark.parametrize(
    ("draw", "n", "least", "most"),
    [
        ("normal", 10, 0.925, 0.965),
        ("normal", 20, 0.933, 0.970),
        ("exponential", 10, 0.885, 0.935),
        ("exponential", 20, 0.898, 0.945),
    ],
)
def test_coverage_of_the_mean_interval(draw, n, least, most):
    covered = []
    for block in range(4):  # blocks, since samples of a block share their resampling indices
        rng = np.random.default_rng([block, n])
        if draw == "normal":
            samples = rng.normal(size=(300, n))
        else:
            samples = rng.exponential(size=(300, n)) - 1
        low, high = _expanded_bootstrap(samples, 0.95, seed=block, n_resamples=1_999)
        covered.append((low <= 0) & (high >= 0))
    assert least <= np.mean(covered) <= most


def test_image_interval_is_wilsons():
    correct = np.array([True] * 8 + [False] * 2)
    interval = image_interval(correct)
    # Wilson (1927) by hand, z = 1.96: centre (8 + z^2/2) / (10 + z^2), and so on.
    z = stats.norm.ppf(0.975)
    centre = (8 + z**2 / 2) / (10 + z**2)
    half = z / (10 + z**2) * np.sqrt(8 * 2 / 10 + z**2 / 4)
    assert interval.mean == 0.8
    assert (interval.low, interval.high) == pytest.approx((centre - half, centre + half))
    assert (interval.low, interval.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert interval.n == 10
    assert "test images" in interval.method


def test_image_interval_refuses_probabilities():
    with pytest.raises(UserError, match="predicted == labels"):
        image_interval([0.2, 0.9])


def test_prediction_interval_by_hand():
    # Mean 2, s = 1, n = 3: t(0.975, 2) = 4.30265, sqrt(4 / 3) = 1.15470, half width 4.96828.
    interval = prediction_interval([1.0, 2.0, 3.0])
    assert (interval.low, interval.high) == pytest.approx((2 - 4.96828, 2 + 4.96828), abs=1e-4)


def test_prediction_interval_holds_the_next_run_at_its_level():
    runs = np.random.default_rng(0).normal(size=(2_000, 6))
    intervals = [prediction_interval(row[:5]) for row in runs]
    held = [i.low <= row[5] <= i.high for i, row in zip(intervals, runs, strict=True)]
    assert 0.935 <= np.mean(held) <= 0.965


def test_prediction_interval_needs_three_runs():
    with pytest.raises(UserError, match="at least 3"):
        prediction_interval([0.7, 0.8])


def runs(differences):
    """b is 0.5 at every draw and a differs from it as told."""
    return {i: 0.5 + d for i, d in enumerate(differences)}, dict.fromkeys(
        range(len(differences)), 0.5
    )


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3], 2 / 8),  # only + + + reaches a sum of 6
        ([-1, -2, -3], 2 / 8),
        # Sums of +-1 +-2 +-3: 6 4 2 0 0 -2 -4 -6; observed 4 (that is -1 + 2 + 3): two reach it.
        ([-1, 2, 3], 4 / 8),
        ([1, 1], 2 / 4),
        ([1], 1.0),
        ([0, 0, 0, 0], 1.0),
        ([2, -2], 1.0),
        ([1, 1, 1, 1, 1], 2 / 32),
    ],
)
def test_sign_flip_p_value_by_enumeration(differences, p):
    assert paired_difference(*runs(differences)).p == pytest.approx(p)


def test_sign_flip_p_value_of_uneven_differences_by_enumeration():
    d = np.random.default_rng(5).normal(0.4, 1, 8)
    signs = 1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)
    expected = np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-12)
    a = dict(enumerate(d))
    assert paired_difference(a, dict.fromkeys(a, 0.0)).p == pytest.approx(expected)


def test_random_sign_flips_count_the_observed_pattern():
    # 30 draws, all positive: no random pattern comes near, which leaves 2 (0 + 1) / (9,999 + 1).
    assert paired_difference(*runs([1 + i / 100 for i in range(30)])).p == pytest.approx(2e-4)


def test_paired_difference_pairs_by_draw_not_by_position():
    a = {0: 0.9, 1: 0.5, 2: 0.7, 3: 0.6}
    b = {3: 0.55, 2: 0.65, 1: 0.45, 0: 0.85}
    result = paired_difference(a, b)
    assert (result.mean, result.n) == (pytest.approx(0.05), 4)
    # 0.05 up to rounding: pairing by position would spread from -0.15 to 0.35.
    assert result.high - result.low < 1e-12


def test_paired_difference_does_not_depend_on_the_order_of_draws():
    values = dict(enumerate(np.random.default_rng(9).normal(size=10)))
    zeros = dict.fromkeys(values, 0.0)
    turned = dict(reversed(values.items()))
    assert paired_difference(turned, zeros) == paired_difference(values, zeros)


def test_paired_difference_has_the_sign_and_interval_of_a_minus_b():
    rng = np.random.default_rng(6)
    a, b = ({i: v for i, v in enumerate(rng.normal(m, 0.02, 10))} for m in (0.8, 0.7))
    result = paired_difference(a, b, seed=3)
    interval = mean_interval([a[i] - b[i] for i in range(10)], seed=3)
    assert (result.mean, result.low, result.high) == (interval.mean, interval.low, interval.high)
    assert 0 < result.low < result.mean < result.high
    assert result.p == pytest.approx(2 / 1024)
    assert "sign-flip" in result.method


def test_paired_difference_names_missing_draws():
    with pytest.raises(UserError, match="b lacks label draw 2, 5"):
        paired_difference({1: 0.5, 2: 0.6, 5: 0.7}, {1: 0.5})
    with pytest.raises(UserError, match="a lacks label draw 7"):
        paired_difference({1: 0.5}, {1: 0.5, 7: 0.7})
    with pytest.raises(UserError):
        paired_difference({}, {})


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


def test_unpaired_difference_needs_two_values_on_each_side():
    with pytest.raises(UserError, match="b 1"):
        unpaired_difference([1, 2], [1])


def test_resampled_interval_by_hand():
    # Mean 0.8, variance 0.01; three splits with a third tested for every image trained on:
    # error sqrt((1/3 + 1/2) * 0.01) = 0.091287, and t(0.975, 2) = 4.30265.
    interval = resampled_interval([0.7, 0.8, 0.9], test_to_train=0.5)
    assert (interval.mean, interval.n) == (pytest.approx(0.8), 3)
    assert interval.high - 0.8 == pytest.approx(4.30265 * 0.0912871, rel=1e-5)
    assert 0.8 - interval.low == pytest.approx(interval.high - 0.8)
    assert "overlapping splits" in interval.method


def test_resampled_difference_by_hand():
    # Differences 0.1, 0.2, 0.3, 0.4: mean 0.25, variance 1/60; error with n_test / n_train = 1/4:
    # sqrt((1/4 + 1/4) / 60) = 0.0912871; t = 2.73861 with 3 degrees of freedom.
    a = {0: 0.5, 1: 0.7, 2: 0.9, 3: 0.9}
    b = {3: 0.5, 2: 0.6, 1: 0.5, 0: 0.4}
    found = resampled_difference(a, b, test_to_train=0.25)
    assert found.mean == pytest.approx(0.25)
    assert found.p == pytest.approx(0.0714, abs=1e-4)
    assert found.high - found.mean == pytest.approx(3.18245 * 0.0912871, rel=1e-5)
    assert resampled_difference(b, a, 0.25).mean == pytest.approx(-0.25)


def test_more_splits_of_the_same_images_do_not_make_a_mean_certain():
    values = np.tile([0.6, 0.8], 500)
    width = {}
    for n in (10, 1000):
        interval = resampled_interval(values[:n], test_to_train=3 / 7)
        width[n] = interval.high - interval.low
    # Without the correction ten times narrower; the second term stays.
    assert 0.7 < width[1000] / width[10] < 1
    assert width[1000] > 2 * 1.96 * 0.1 * (3 / 7) ** 0.5


def test_corrected_intervals_cover_the_accuracy_of_overlapping_splits():
    """Splits of a small pool, a classifier that is right for an image or not: the truth is the
    rate in the population the pool was drawn from. The usual interval misses it far too often."""
    rng = np.random.default_rng(0)
    corrected = usual = 0
    for _ in range(300):
        right = rng.random(60) < 0.7
        splits = [right[rng.permutation(60)[:18]].mean() for _ in range(15)]
        interval = resampled_interval(splits, test_to_train=18 / 42)
        corrected += interval.low <= 0.7 <= interval.high
        plain = mean_interval(splits)
        usual += plain.low <= 0.7 <= plain.high
    assert usual < 0.75 * 300
    assert corrected > 0.9 * 300


def test_resampled_difference_without_variation_or_with_one_split():
    same = dict.fromkeys(range(5), 0.5)
    found = resampled_difference(same, same, 0.4)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
    apart = resampled_difference(dict.fromkeys(range(5), 0.75), same, 0.4)
    assert (apart.mean, apart.p) == (0.25, 0)
    one = resampled_difference({0: 0.9}, {0: 0.5}, 0.4)
    assert one.p == 1 and np.isnan(one.low)


@pytest.mark.parametrize("ratio", [0, -1, np.nan, np.inf])
def test_resampled_interval_refuses_an_impossible_ratio(ratio):
    with pytest.raises(UserError, match="n_test / n_train"):
        resampled_interval([0.1, 0.2], ratio)


def test_resampled_difference_needs_the_same_splits():
    with pytest.raises(UserError, match="b lacks label draw 1"):
        resampled_difference({0: 0.1, 1: 0.2}, {0: 0.1}, 0.4)


def test_t_test_by_hand():
    # mean 2, s = 1, t = 2 / (1 / sqrt(3)) = 3.4641; p = 1 - t / sqrt(t**2 + 2) for 2 degrees.
    assert t_test([1, 2, 3]) == pytest.approx(1 - 12**0.5 / 14**0.5)
    assert t_test([-1, -2, -3]) == pytest.approx(t_test([1, 2, 3]))
    assert t_test([0, 0, 0]) == 1
    assert t_test([0.1, 0.1]) == 0
    with pytest.raises(UserError, match="at least 2"):
        t_test([0.1])
