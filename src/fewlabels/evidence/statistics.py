"""Intervals, comparisons and power over repeated runs.

Values are one number per run (usually a metric in 0..1). Runs that start from one trained network
share its luck: ``luck`` names, for every value, what it shares with others (`shared_luck` reads it
off a run's config), and n counts these units and not the runs. Random splits of one data set into
training and test images overlap: ``test_to_train`` corrects for that. How sure one is of a mean
(`mean_interval`, `fraction_interval`), of a share (`share_interval`), of a difference
(`mean_difference`) and of the distance from a figure that somebody printed (`from_printed`) are
four questions; an `Interval` says in ``method`` which of them it answers.

No interval is given under `FEWEST` units, and none where all of them agree exactly: they do not
tell how far another one may lie.
"""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from fewlabels.errors import UserError

FEWEST = 3
"""Units of luck under which nothing is said about another one."""
ALPHA = 0.05
LEVEL = f"{1 - ALPHA:.0%}"
POWER = 0.8
EQUAL = 1e-9
"""Units whose means differ by no more agree exactly: the rest is floating-point arithmetic."""


@dataclass(frozen=True)
class Interval:
    """A mean and its interval, in the unit of the values; ``low`` and ``high`` may be nan."""

    mean: float
    low: float
    high: float
    n: int
    method: str


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference with its standard error, both in the unit of the values.

    Its interval and its p value are those of Student's t with ``df`` degrees of freedom, and so
    agree: the 95% interval excludes zero where p is below 5%. Both are nan under `FEWEST` units.
    Where all units agree exactly the error is zero: there is no interval, and p is the sign
    test's, 2 / 2**n, or 1 where there is no difference.
    """

    mean: float
    error: float
    df: float
    n: int
    method: str

    def ends(self, confidence: float) -> tuple[float, float]:
        """Low and high end of the interval at a confidence between 0 and 1."""
        if self.n < FEWEST or not self.error > 0:
            return math.nan, math.nan
        half = student((1 + confidence) / 2, self.df) * self.error
        return self.mean - half, self.mean + half

    def widened(self, variance: float) -> "PairedDifference":
        """With a variance added that is known, in the unit squared: of other test images, say.

        Satterthwaite (1946) gives the degrees of freedom of the sum.
        """
        error, df = _widened(self.error, self.df, variance)
        return replace(self, error=error, df=df)

    @property
    def low(self) -> float:
        return self.ends(1 - ALPHA)[0]

    @property
    def high(self) -> float:
        return self.ends(1 - ALPHA)[1]

    @property
    def p(self) -> float:
        """Two-sided p value of no difference."""
        if self.n < FEWEST:
            return math.nan
        if not self.error > 0:
            return min(1.0, 2.0 ** (1 - self.n)) if abs(self.mean) > EQUAL else 1.0
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.df))

    def p_above(self, limit: float) -> float:
        """One-sided p value of a true difference of at least ``limit``: small where it is less."""
        if self.n < FEWEST:
            return math.nan
        if not self.error > 0:
            return 0.5**self.n if self.mean < limit else 1.0
        return float(stats.t.cdf((self.mean - limit) / self.error, self.df))


@dataclass(frozen=True)
class FromPrinted:
    """How far a printed figure lies from the mean of our runs, in its unit.

    ``difference``: printed minus mean; ``slack``: half the last place it is printed with;
    ``error``: standard error of the difference, of which ``spread`` is what single runs scatter
    (standard deviation); ``n``: units of luck.
    """

    difference: float
    slack: float
    error: float
    df: float
    spread: float
    n: int

    @property
    def p(self) -> float:
        """Two-sided p value of the distance that the rounding leaves."""
        distance = max(0.0, abs(self.difference) - self.slack)
        return float(2 * stats.t.sf(distance / self.error, self.df))

    def contradicted_beyond(self, figures: int = 1) -> float:
        """The distance from our mean beyond which a figure is contradicted, as one of so many."""
        return student(1 - ALPHA / figures / 2, self.df) * self.error + self.slack

    def agrees_within(self, margin: float) -> float:
        """The distance up to which two one-sided tests at 5% put a figure within a margin of our
        mean; negative where the runs scatter too much to put any there."""
        return margin - self.slack - student(1 - ALPHA, self.df) * self.error


STARTS = ("pretraining", "start", "head")
"""Under which of these a config holds that of the trained run it starts from."""


def shared_luck(config: Mapping[str, Any]) -> str | None:
    """What a run shares with others: the config of the trained run that it starts from.

    config: a record's. None for a run that starts from no other, whose luck is its own, and for one
    that starts from published weights: a result is about these and no others.
    """
    start = next((config[key] for key in STARTS if config.get(key)), None)
    if start is None or start.get("kind") == "transfer-start":
        return None
    return shared_luck(start) or json.dumps(start, sort_keys=True)


@cache
def student(probability: float, df: float) -> float:
    """Quantile of Student's t."""
    return float(stats.t.ppf(probability, df))


def _sample(values: ArrayLike, name: str = "values") -> np.ndarray:
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or sample.size == 0:
        raise UserError(
            f"{name} has shape {sample.shape}: pass one number per run, and at least one run."
        )
    if not np.isfinite(sample).all():
        bad = np.flatnonzero(~np.isfinite(sample)).tolist()
        raise UserError(f"{name} is not finite at position {bad}: mend or leave out those runs.")
    return sample


@dataclass(frozen=True)
class _Levels:
    """Runs in units of luck, by a two-level random-effects model.

    ``mean``: of the units' means; ``among``: their variance, and ``error`` the standard error of
    their mean; ``single``: variance of a single run of a new unit; ``n``: units.
    """

    mean: float
    among: float
    error: float
    single: float
    n: int


def _levels(
    values: ArrayLike, luck: Sequence[Hashable | None] | None, test_to_train: float = 0.0
) -> _Levels:
    """Means and variances with runs grouped by ``luck``; None stands for a unit of its own.

    Two random splits share many of their images, so their results are not independent. Nadeau and
    Bengio (2003, section 3.3) take the correlation of two splits to be the share of images that are
    tested, which turns the variance of the mean of J splits from s2 / J into
    (1 / J + n_test / n_train) s2. More splits lower it only down to the second term: the images are
    no more.

    A unit's mean varies by the units' variance and a part of the runs' variance within a unit,
    which is that part for 1 / (its number of runs), so that ``among`` plus the rest of the
    variance within estimates without bias how a single run varies (the model is that of Searle,
    Casella and McCulloch 1992, chapter 3).
    """
    sample = _sample(values)
    if not np.isfinite(test_to_train) or test_to_train < 0:
        raise UserError(f"test_to_train is {test_to_train}: give n_test / n_train.")
    if luck is None:
        luck = [None] * sample.size
    if len(luck) != sample.size:
        raise UserError(f"luck has {len(luck)} names for {sample.size} values: give one for each.")
    units: dict[Hashable, list[float]] = {}
    for place, (value, unit) in enumerate(zip(sample, luck, strict=True)):
        units.setdefault((unit is None, place if unit is None else unit), []).append(value)
    groups = [np.array(group) for group in units.values()]
    means = np.array([group.mean() for group in groups])
    n = len(groups)
    among = float(means.var(ddof=1)) if n > 1 and np.ptp(means) > EQUAL else 0.0
    single = among
    if sample.size > n:
        within = sum(((g - g.mean()) ** 2).sum() for g in groups) / (sample.size - n)
        single += float(within) * (1 - float(np.mean([1 / g.size for g in groups])))
    error = math.sqrt((1 / n + test_to_train) * among)
    return _Levels(float(means.mean()), among, error, single, n)


def mean_interval(
    values: ArrayLike,
    luck: Sequence[Hashable | None] | None = None,
    test_to_train: float = 0.0,
) -> Interval:
    """Student's t interval of the mean over units of luck: mean +- t s / sqrt(n), df = n - 1.

    Convention: s with n - 1, as everywhere here.

    values: [runs], finite, in any unit. luck: for every value what it shares with others, None
    where it shares nothing; runs of one unit are averaged first. test_to_train: for overlapping
    splits, the ratio of their parts. Under `FEWEST` units, and where all agree exactly, low and
    high are nan. For fractions there is `fraction_interval`. Coverage is in the appendix "Protocol
    and statistics". Raises UserError for empty or non-finite values.
    """
    found = _levels(values, luck, test_to_train)
    if found.n < FEWEST or not found.among:
        return _no_interval(found)
    half = student(1 - ALPHA / 2, found.n - 1) * found.error
    return Interval(found.mean, found.mean - half, found.mean + half, found.n, f"{LEVEL} Student t")


def fraction_interval(
    values: ArrayLike,
    luck: Sequence[Hashable | None] | None = None,
    test_to_train: float = 0.0,
) -> Interval:
    """Interval of the mean of fractions, within 0..1: Student's t on the logit scale.

    The standard error of the mean m is carried to the logit scale by the delta method, divided by
    m (1 - m), and the ends are carried back. values: [runs], each in 0..1; the rest as in
    `mean_interval`. Raises UserError also for values outside 0..1.
    """
    found = _levels(_fractions(values), luck, test_to_train)
    if found.n < FEWEST or not found.among:
        return _no_interval(found)
    half = student(1 - ALPHA / 2, found.n - 1) * found.error
    half /= found.mean * (1 - found.mean)
    odds = math.log(found.mean / (1 - found.mean))
    low, high = (float(special.expit(odds + sign * half)) for sign in (-1, 1))
    return Interval(found.mean, low, high, found.n, f"{LEVEL} Student t, logit scale")


def prediction_interval(values: ArrayLike) -> Interval:
    """Where one further run with luck of its own is expected, for fractions.

    Mean +- t times the root of a single run's variance plus the mean's, with ends no further than
    0 and 1: on the logit scale coverage is worse (see the appendix). At least `FEWEST` units;
    UserError otherwise, and as in `fraction_interval`; nan where all units agree exactly.
    """
    found = _levels(_fractions(values), None)
    if found.n < FEWEST:
        raise UserError(
            f"a prediction interval needs at least {FEWEST} runs, here {found.n}: add label draws."
        )
    if not found.among:
        return _no_interval(found)
    half = student(1 - ALPHA / 2, found.n - 1)
    half *= math.sqrt(found.single + found.error**2)
    low, high = max(0.0, found.mean - half), min(1.0, found.mean + half)
    return Interval(found.mean, low, high, found.n, f"{LEVEL} prediction of one further run")


def _fractions(values: ArrayLike) -> np.ndarray:
    sample = _sample(values)
    if (sample < 0).any() or (sample > 1).any():
        raise UserError("values has entries outside 0..1: pass fractions, or use mean_interval.")
    return sample


def _no_interval(found: _Levels) -> Interval:
    why = "all runs agree" if found.n >= FEWEST else f"{found.n} of {FEWEST} runs"
    return Interval(found.mean, np.nan, np.nan, found.n, f"no interval: {why}")


def share_interval(hits: ArrayLike) -> Interval:
    """Wilson interval of a share, of test images of one run or of runs that learn.

    hits: [N] booleans (or 0 and 1). Raises UserError for an empty array or other values.
    """
    found = _sample(hits, "hits")
    if not np.isin(found, (0, 1)).all():
        raise UserError("hits holds values other than 0 and 1: pass one yes or no for each.")
    test = stats.binomtest(int(found.sum()), found.size)
    ci = test.proportion_ci(1 - ALPHA, method="wilson")
    method = f"{LEVEL} Wilson"
    return Interval(float(found.mean()), float(ci.low), float(ci.high), found.size, method)


def mean_difference(
    values: ArrayLike,
    luck: Sequence[Hashable | None] | None = None,
    test_to_train: float = 0.0,
) -> PairedDifference:
    """Mean of differences that are already taken, one per run or pair of runs.

    values: [pairs], finite, in any unit; luck and test_to_train as in `mean_interval`.
    """
    found = _levels(values, luck, test_to_train)
    return PairedDifference(found.mean, found.error, found.n - 1, found.n, "Student t")


def unpaired_difference(a: ArrayLike, b: ArrayLike) -> PairedDifference:
    """Mean of ``a`` minus mean of ``b`` for runs that share no draw: Welch's t.

    n is the smaller of the two numbers of runs. Raises UserError as `mean_interval` does.
    """
    a, b = _sample(a, "a"), _sample(b, "b")
    n = min(a.size, b.size)
    mean = float(a.mean() - b.mean())
    if n < 2:
        return PairedDifference(mean, math.nan, math.nan, n, "Welch t")
    parts = [each.var(ddof=1) / each.size if np.ptp(each) > EQUAL else 0.0 for each in (a, b)]
    total = sum(parts)
    weight = sum(p**2 / (each.size - 1) for p, each in zip(parts, (a, b), strict=True))
    df = float(total**2 / weight) if weight else float(n - 1)
    return PairedDifference(mean, math.sqrt(total), df, n, "Welch t")


def from_printed(
    printed: float,
    values: ArrayLike,
    rounding: float,
    luck: Sequence[Hashable | None] | None = None,
    split_variance: float = 0.0,
) -> FromPrinted:
    """A figure that somebody printed, of one run, against our runs of the same protocol.

    The variance of printed minus mean is that of a single run plus that of our mean, with n - 1
    degrees of freedom for n units of luck; where the two were scored on different draws of the
    test images, ``split_variance`` is added, which is known (Satterthwaite 1946 gives the degrees
    of freedom of the sum).

    values: [runs] in the printed unit; rounding: the unit's last place, 1 for "73%". Raises
    UserError for fewer than `FEWEST` units, and where all agree and nothing else varies.
    """
    found = _levels(values, luck)
    if found.n < FEWEST:
        raise UserError(f"{found.n} runs do not tell where another may lie: at least {FEWEST} do.")
    error, df = _widened(math.sqrt(found.single + found.error**2), found.n - 1, split_variance)
    if not error:
        raise UserError("all runs agree exactly: they do not tell how far another may lie.")
    return FromPrinted(
        printed - found.mean,
        rounding / 2,
        error,
        df,
        math.sqrt(found.single),
        found.n,
    )


def _widened(error: float, df: float, variance: float) -> tuple[float, float]:
    """A standard error and its degrees of freedom after a known variance is added."""
    own = error**2
    whole = own + variance
    if whole == own:
        return error, df
    return math.sqrt(whole), df * (whole / own) ** 2 if own else math.inf


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p values [m], in the order given.

    Rejecting where the adjusted value is at most alpha keeps the chance of any false rejection
    among the m tests below alpha. Raises UserError for empty, nan, or values outside 0..1.
    """
    p = _sample(p_values, "p_values")
    if (p < 0).any() or (p > 1).any():
        raise UserError("p_values has entries outside 0..1: pass p values, not test statistics.")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)).clip(max=1)
    return adjusted
