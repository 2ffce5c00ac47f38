"""How many runs a question takes, and what so many runs could have found."""

import math
from functools import cache

import numpy as np
from scipy import optimize, stats

from fewlabels.errors import UserError
from fewlabels.evidence.statistics import ALPHA, FEWEST, POWER, student


def detectable(error: float, df: float, sides: int = 2) -> float:
    """The true difference that a t test at 5% finds with a probability of `POWER`.

    error: standard error of the mean difference, in whose unit the answer is; df: degrees of
    freedom; sides: 1 for the distance from a limit, which is tested on one side.
    """
    return error * _found(df, sides)


@cache
def _found(df: float, sides: int) -> float:
    """`detectable` in standard errors."""

    def short(effect: float) -> float:
        return _power(effect, df, sides) - POWER

    return float(optimize.brentq(short, 0.0, 100.0, xtol=1e-6))


def _power(effect: float, df: float, sides: int = 2) -> float:
    """Probability that t, or |t| of two sides, exceeds its critical value; effect in standard
    errors."""
    # The mean over the sample variance, at its quantiles: SciPy's noncentral t gives nan in places.
    known = math.isinf(df)
    variance = 1.0 if known else stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, df) / df
    limit = student(1 - ALPHA / sides, df) * np.sqrt(variance)
    other = stats.norm.cdf(-limit - effect) if sides == 2 else 0.0
    return float((stats.norm.sf(limit - effect) + other).mean())


def runs_needed(difference: float, spread: float) -> int:
    """Pairs of runs with which a t test at 5% finds a difference with a probability of `POWER`.

    difference, and spread, the standard deviation of the difference between single runs: in one
    unit. To show that a difference stays below a margin, pass the margin: about as many are needed
    where there is no difference. Raises UserError for a difference of zero or without spread.
    """
    if difference == 0 or not spread > 0:
        raise UserError(
            f"difference is {difference} and spread {spread}: no number of runs follows from that."
        )
    effect = abs(difference) / spread
    n = FEWEST
    while _power(effect * math.sqrt(n), n - 1) < POWER:
        n += max(1, n // 50)
    return n
