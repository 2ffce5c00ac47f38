"""The rule by which a claim gets its verdict.

A claim about a difference (A is better than B) states its sign. The interval of the mean paired
difference over label draws (95%) decides: wholly on the claimed side of zero, the claim *holds*;
wholly on the other side, it is *reversed*; with zero inside or at an end, it is *within noise*.

A printed figure is one run of the source. It *holds* when it lies in the interval in which 95% of
further runs of the same protocol are expected, after allowing half a unit of the printed rounding;
otherwise our runs contradict it and the verdict is *reversed*, and the reason says on which side of
the interval it lies.

A claim that one class is the worst (or best) is compared with every other class by paired
sign-flip tests over label draws, with Holm's correction at 5%. It *holds* when the class is
significantly lower (higher) than every other one; it is *reversed* when some other class is
significantly lower (higher) than it; otherwise it is *within noise*.

A claim in several parts *holds* where all parts hold and is *reversed* where one part is; else it
is *not tested* where one part is not, and *within noise* where all are tested. Where the parts are
differences in many cells ("always", "never", "in every table"), one may be reversed by chance
alone: it then counts as reversed only after Holm's correction over the cells, at 5%. That all cells
hold needs no correction.

A claim is *not tested* when it was not run, when fewer than three runs measure it, or, where a
sign-flip test decides, when even complete agreement among so few runs could not be significant.

The rule is applied to the protocol that the claim was made under.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from fewlabels.errors import UserError
from fewlabels.statistics import (
    Interval,
    PairedDifference,
    holm,
    mean_interval,
    paired_difference,
    t_test,
)
from fewlabels.tables import NOT_RUN, number, percent

WORDS = ("holds", "reversed", "within noise", "not tested")
FEWEST_RUNS = 3
ALPHA = 0.05
SHOWN = 4
"""Parts of a claim whose reasons are all given; of more, those that decide, and a count."""


@dataclass(frozen=True)
class Verdict:
    """One of `WORDS`, and the computed reason for it. As a string it is the word."""

    word: Literal["holds", "reversed", "within noise", "not tested"]
    reason: str

    def __str__(self) -> str:
        return self.word


@dataclass(frozen=True)
class Printed:
    """A figure that a source prints, and what our runs of its protocol gave for it.

    key: its name in the claim's ``published``; values: one per run, in the printed unit; rounding:
    the unit's last place, as in `figure`.
    """

    key: str
    values: Sequence[float]
    rounding: float

    @classmethod
    def percent(cls, key: str, fractions: Iterable[float], rounding: float) -> "Printed":
        """For a figure in percent, from fractions (0..1)."""
        return cls(key, [100 * float(value) for value in fractions], rounding)


def direction(
    interval: Interval | PairedDifference | None, claimed: int, unit: str | None = None
) -> Verdict:
    """Verdict on a claimed sign (+1 or -1) of a difference, from the interval of its mean.

    interval: of the paired difference, in fractions (0..1), which the reason gives in percentage
    points; or in any `unit` that is named, as "degrees". Raises UserError for any other `claimed`.
    """
    if claimed not in (1, -1):
        raise UserError(f"claimed is {claimed!r}: give +1 or -1, the sign the source claims.")
    if reason := _untested(interval):
        return Verdict("not tested", reason)
    written = number(interval, sign=True) if unit else percent(interval, sign=True)
    reason = f"difference {written} {unit or 'points'} (n = {interval.n})"
    if interval.low <= 0 <= interval.high:
        return Verdict("within noise", reason)
    return Verdict("holds" if interval.low * claimed > 0 else "reversed", reason)


def figure(
    published: float, prediction: Interval | None, rounding: float, in_percent: bool = True
) -> Verdict:
    """Verdict on a printed figure, from the prediction interval for one further run.

    published: as printed, in percent unless `in_percent` is False. prediction: in fractions (0..1),
    or in the printed unit where `in_percent` is False. rounding: the printed unit's last place, 1
    for "73%", 0.01 for "93.48%"; half of it is allowed on both sides.

    "reversed" means that our runs contradict the figure; the reason says on which side it lies.
    """
    if reason := _untested(prediction):
        return Verdict("not tested", reason)
    scale = 100 if in_percent else 1
    low, high = scale * prediction.low, scale * prediction.high
    where = side(published, low, high, rounding)
    decimals = max(1, -math.floor(math.log10(rounding)))
    span = f"{number(low, decimals)} to {number(high, decimals)}"
    if where == "inside" and not low <= published <= high:
        span += ", give or take the rounding"
    reason = f"published {published:,.12g} {where} {span} (n = {prediction.n})"
    return Verdict("holds" if where == "inside" else "reversed", reason)


def side(published: float, low: float, high: float, rounding: float) -> str:
    """Where a printed figure lies: ``below``, ``inside`` or ``above`` low..high, all in its unit.

    Half the last place it is printed with is allowed on both sides.
    """
    # The last term keeps 73.5 = 73 + 0.5 inside, whatever binary fractions make of it.
    slack = rounding / 2 + 1e-9
    if published < low - slack:
        return "below"
    return "above" if published > high + slack else "inside"


def extreme(values: pd.DataFrame, name: str, worst: bool = True) -> Verdict:
    """Verdict on "class `name` is the worst of all" (or the best, with worst=False).

    values: [draws, classes], a metric in fractions (0..1), one row per label draw, one column per
    class. Raises UserError for an unknown class and for values that are missing.
    """
    if name not in values.columns:
        raise UserError(f"no class {name!r}: choose one of {', '.join(map(str, values.columns))}")
    if values.isna().to_numpy().any():
        raise UserError("values has missing entries: leave those draws out of every class.")
    others = [column for column in values.columns if column != name]
    n = len(values)
    # 2 / 2**n is the smallest p value of a sign-flip test; Holm multiplies it by the comparisons.
    if n < FEWEST_RUNS or len(others) * 2 / 2**n > ALPHA:
        reason = f"{n} runs cannot separate {name} from {len(others)} others"
        return Verdict("not tested", reason)
    toward = 1 if worst else -1
    comparisons = [
        paired_difference((toward * values[name]).to_dict(), (toward * values[other]).to_dict())
        for other in others
    ]
    frame = pd.DataFrame(
        {"mean": [c.mean for c in comparisons], "p": holm([c.p for c in comparisons])},
        index=others,
    )
    significant = frame[frame["p"] <= ALPHA]
    lower = "lower" if worst else "higher"
    ours = f"{name}: {percent(values[name].mean())}"
    beaten_by = significant[significant["mean"] > 0]
    if len(beaten_by):
        other = beaten_by["mean"].idxmax()
        rival = f"{other}: {percent(values[other].mean())}"
        return Verdict("reversed", f"{rival} is {lower} than {ours} (n = {n})")
    if len(significant) == len(others):
        return Verdict("holds", f"{ours} is {lower} than all {len(others)} others (n = {n})")
    close = frame.drop(significant.index)["mean"].idxmax()
    rival = f"{close}: {percent(values[close].mean())}"
    return Verdict("within noise", f"{ours} is not {lower} than {rival} for certain (n = {n})")


def together(parts: Iterable[Verdict]) -> Verdict:
    """One verdict for a claim of several parts, with their reasons.

    Raises UserError where there are no parts.
    """
    parts = list(parts)
    if not parts:
        raise UserError("a claim needs at least one part.")
    if len(parts) == 1:
        return parts[0]
    if all(part.reason.endswith(NOT_RUN) for part in parts):
        return Verdict("not tested", NOT_RUN)
    words = [part.word for part in parts]
    order = ("reversed", "not tested", "within noise", "holds")
    word = next(each for each in order if each in words)
    if len(parts) <= SHOWN:
        return Verdict(word, "; ".join(dict.fromkeys(part.reason for part in parts)))
    reasons = list(dict.fromkeys(part.reason for part in parts if part.word == word))
    more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    counted = ", ".join(f"{words.count(each)} {each}" for each in WORDS if each in words)
    return Verdict(word, f"{len(parts)} parts: {counted}. {'; '.join(reasons[:SHOWN])}{more}")


def everywhere(cells: Iterable[tuple[str, Sequence[float], int]]) -> Verdict:
    """Verdict on the sign of a difference in many cells, corrected for their number.

    cells: of each its name, its paired differences (fractions, one per draw) and the claimed sign,
    +1 or -1. That a cell is reversed is tested by a two-sided t test with Holm's correction over
    all cells with at least `FEWEST_RUNS` draws; a sign-flip test of three draws could never be
    significant. Raises UserError where there are no cells.
    """
    cells = list(cells)
    found = [
        direction(mean_interval(values) if len(values) else None, sign) for _, values, sign in cells
    ]
    tested = [i for i, verdict in enumerate(found) if verdict.word != "not tested"]
    adjusted = holm([t_test(cells[i][1]) for i in tested]) if tested else ()
    for i, p in zip(tested, adjusted, strict=True):
        if found[i].word == "reversed" and p > ALPHA:
            reason = f"{found[i].reason}, not significant among {len(tested)} cells"
            found[i] = Verdict("within noise", reason)
    return together(
        Verdict(verdict.word, f"{name}: {verdict.reason}")
        for (name, _, _), verdict in zip(cells, found, strict=True)
    )


def _untested(interval: Interval | PairedDifference | None) -> str | None:
    if interval is None:
        return NOT_RUN
    if interval.n < FEWEST_RUNS or math.isnan(interval.low) or math.isnan(interval.high):
        return f"too few runs (n = {interval.n})"
    return None
