"""The rules by which a claim gets its verdict, decided on 2026-11-27.

Decided before any result of chapters 5 and 6 was known but that of the supervised networks; the
former verdicts of the other chapters were. The margins are in ``reference/claims.yaml``.

A **printed figure** is one run of the source (`printed_figures`). It *agrees* where two one-sided t
tests at 5% put its distance from the mean of our runs below the margin. Else it is *contradicted*
where it lies further away than one more run would, by a t test at 5%, Holm's correction over the
figures of a claim, half a unit of rounding allowed. Otherwise our runs *cannot tell*: the reason
says how far off a figure would have been contradicted.

A **difference** (`direction`) of a claimed sign *holds* or is *opposite* where the 95% interval of
Student's t lies on one side of zero; where it does not and the 90% interval lies within the margin
on both sides, there is *no difference* above the margin; else it is *undecided*, and the reason
says which difference these runs would have found with a probability of 80%. That something *does
not exceed* a limit (`at_most`; "no improvement": the margin; "does not reach": zero) holds, or is
opposite, where a one-sided t test at 5% says so. A claim about many cells or classes holds where
every one does; it is opposite where one is after Holm's correction over them, and finds no
difference where no cell is open.

A **question** of a source gets an *answer*, yes or no, to the hypothesis printed with it, by the
same tests (`answer`). Answers are counted apart from claims.

A claim is *not tested* where fewer than three units of luck measure it, and *not identifiable*
where the settings that the source leaves open decide it. Runs that fail to learn are counted, and
what is then said of the others is said of runs that learn.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from fewlabels.errors import UserError
from fewlabels.evidence import power, statistics
from fewlabels.evidence.statistics import (
    ALPHA,
    FEWEST,
    FromPrinted,
    Interval,
    PairedDifference,
    holm,
)
from fewlabels.evidence.tables import NOT_RUN, in_percent, number, percent
from fewlabels.reference.published import Claim, spelled, unit

OPEN = ("not identifiable", "not tested")
FIGURE_WORDS = ("agrees", "contradicted", "cannot tell", *OPEN)
DIFFERENCE_WORDS = ("holds", "opposite", "no difference", "undecided", *OPEN)
ANSWERS = ("yes", "no", "no difference", "undecided", *OPEN)
WORST_FIRST = (
    *("contradicted", "opposite", "no", *OPEN),
    *("cannot tell", "undecided", "no difference", "agrees", "holds", "yes"),
)
"""Of several parts the first of these that occurs is the claim's."""
BOUND = "a bound only, as the first is smaller or was trained for less than in the source"
FORMER = {
    "holds": ("agrees", "holds", "yes"),
    "reversed": ("contradicted", "opposite", "no"),
    "within noise": ("cannot tell", "undecided", "no difference"),
    "not tested": ("not tested",),
}
"""Words of the rules before, and those that mean the same now."""
SHOWN = 4
"""Parts of a claim whose reasons are all given; of more, those that decide, and a count."""


@dataclass(frozen=True)
class Verdict:
    """One of the words above, and the computed reason for it. As a string it is the word.

    ``p``: the p value that it rests on, nan where none does; ``above``: of *no difference*, the
    margin with its unit; ``beyond``: of a printed figure, the distance from our mean from which on
    it would have been contradicted, in its unit.
    """

    word: str
    reason: str
    p: float = math.nan
    above: str = ""
    beyond: float = math.nan

    def __str__(self) -> str:
        return f"{self.word} above {self.above}" if self.above else self.word

    @property
    def predicate(self) -> str:
        """The word as what a sentence says of a claim: ``"is undecided"``."""
        if self.word in ("holds", "agrees"):
            return self.word
        if self.word == "no difference":
            return f"finds {self}"
        return "cannot be told" if self.word == "cannot tell" else f"is {self.word}"


@dataclass(frozen=True)
class Printed:
    """A figure that a source prints, and what our runs of its protocol gave for it.

    key: its name in the claim's ``published``; values: one per run, in the printed unit; rounding:
    the unit's last place, 1 for "73%", 0 for a count; luck: of every run, see
    `fewlabels.evidence.statistics.shared_luck`, None where runs share nothing; split_variance: that
    two draws of the test images add, in the printed unit squared, where ours are others than the
    source's; instead: the verdict where the figure is not to be judged by these runs.
    """

    key: str
    values: Sequence[float]
    rounding: float
    luck: Sequence[str | None] | None = None
    split_variance: float = 0.0
    instead: Verdict | None = None

    @classmethod
    def percent(
        cls,
        key: str,
        fractions: Iterable[float],
        rounding: float,
        luck: Sequence[str | None] | None = None,
        split_variance: float = 0.0,
        instead: Verdict | None = None,
    ) -> "Printed":
        """For a figure in percent, from fractions (0..1) and the variance of a fraction."""
        values = [100 * float(value) for value in fractions]
        return cls(key, values, rounding, luck, 1e4 * split_variance, instead)

    def interval(self) -> Interval:
        """Mean of our runs in the printed unit; of shares in percent on the logit scale."""
        if unit(self.key) == "%" and self.key != "cohen_kappa":
            shares = [value / 100 for value in self.values]
            return in_percent(statistics.fraction_interval(shares, self.luck))
        return statistics.mean_interval(self.values, self.luck)

    def against(self, printed: float) -> FromPrinted | None:
        """How far the printed figure lies from these runs; None where they cannot be compared."""
        if self.instead or not self.rounding or not len(self.values):
            return None
        units = statistics.mean_difference(self.values, self.luck)
        if units.n < FEWEST or not (units.error or self.split_variance):
            return None
        return statistics.from_printed(
            printed, self.values, self.rounding, self.luck, self.split_variance
        )


def printed_figures(claim: Claim, parts: Sequence[Printed]) -> list[Verdict]:
    """A verdict on each figure of a claim, corrected for their number.

    Raises UserError where the claim prints no such figure.
    """
    if unknown := sorted({part.key for part in parts} - (claim.published or {}).keys()):
        raise UserError(f"claim {claim.id} prints no {', '.join(unknown)}.")
    found = [part.against(claim.published[part.key]) for part in parts]
    tested = [each for each in found if each is not None]
    adjusted = iter(holm([each.p for each in tested]) if tested else ())
    return [
        _figure(claim, part, each, len(tested), next(adjusted) if each else math.nan)
        for part, each in zip(parts, found, strict=True)
    ]


def figures(claim: Claim, parts: Sequence[Printed]) -> Verdict:
    """One verdict on all printed figures of a claim."""
    found = printed_figures(claim, parts)
    if len({verdict.reason for verdict in found}) == 1:
        return together(found)
    return together(
        replace(verdict, reason=f"{spelled(part.key)}: {verdict.reason}")
        for part, verdict in zip(parts, found, strict=True)
    )


def _figure(
    claim: Claim, part: Printed, found: FromPrinted | None, figures: int, p: float
) -> Verdict:
    printed = claim.published[part.key]
    if part.instead:
        return part.instead
    if not part.rounding:
        if not len(part.values):
            return Verdict("not tested", _too_few(part))
        (count,) = part.values
        word = "agrees" if count == printed else "contradicted"
        return Verdict(word, f"printed {printed:,}, counted {count:,}")
    if found is None:
        return Verdict("not tested", _too_few(part))
    margin = claim.margin_of(part.key)
    near = found.agrees_within(margin)
    beyond = max(near, found.contradicted_beyond(figures))
    if abs(found.difference) <= near:
        word = "agrees"
    else:
        word = "contradicted" if p <= ALPHA else "cannot tell"
    places = 2 if part.rounding < 1 else 1
    reason = (
        f"printed {printed:,.12g}, our mean {number(printed - found.difference, places)} "
        f"(n = {found.n}); a figure more than {number(beyond, places)} away would have been "
        f"contradicted, one shown to be within {margin:g} would agree"
    )
    return Verdict(word, reason, p, beyond=beyond)


def _too_few(part: Printed) -> str:
    if not len(part.values):
        return NOT_RUN
    n = statistics.mean_difference(part.values, part.luck).n
    return f"too few runs (n = {n})" if n < FEWEST else f"all runs agree exactly (n = {n})"


def direction(
    found: PairedDifference | None,
    claimed: int,
    margin: float,
    unit: str = "points",
    less_trained: bool = False,
) -> Verdict:
    """Verdict on a claimed sign (+1 or -1) of a difference.

    found: in fractions (0..1), which the reason gives in percentage points; or in any other `unit`
    that is named, as "degrees". margin: the smallest difference that counts, in `unit`.
    less_trained: the first side had less training, or a smaller network, than in the source; where
    it is not ahead, that may be why, and the difference is a bound. Raises UserError for any other
    `claimed`.
    """
    if claimed not in (1, -1):
        raise UserError(f"claimed is {claimed!r}: give +1 or -1, the sign the source claims.")
    if reason := _untested(found):
        return Verdict("not tested", reason)
    said, limit = _said(found, unit), _scaled(margin, unit)
    if less_trained and not (found.mean > 0 and found.p <= ALPHA):
        return Verdict("undecided", f"{said}, {BOUND}")
    if found.p <= ALPHA:
        word = "holds" if found.mean * claimed > 0 else "opposite"
        low, high = found.ends(1 - 2 * ALPHA)
        small = f", which is less than {margin:g}" if max(abs(low), abs(high)) < limit else ""
        return Verdict(word, f"{said}{small}", found.p)
    low, high = found.ends(1 - 2 * ALPHA)
    if -limit < low and high < limit:
        p = max(found.p_above(limit), replace(found, mean=-found.mean).p_above(limit))
        above = f"{margin:g} {unit}" if margin != 1 else f"1 {unit.removesuffix('s')}"
        return Verdict("no difference", said, p, above)
    return Verdict("undecided", f"{said}; {_could(found, unit)}", found.p)


def at_most(
    found: PairedDifference | None,
    limit: float,
    unit: str = "points",
    less_trained: bool = False,
) -> Verdict:
    """Verdict on a claim that a difference does not exceed a limit, in `unit`.

    found, unit, less_trained: as in `direction`; limit: zero for "does not reach", the margin for
    "does not improve".
    """
    if reason := _untested(found):
        return Verdict("not tested", reason)
    said = f"{_said(found, unit)}, claimed to be at most {limit:g}"
    below = found.p_above(_scaled(limit, unit))
    above = replace(found, mean=-found.mean).p_above(-_scaled(limit, unit))
    if above <= ALPHA:
        return Verdict("opposite", said, above)
    if less_trained:
        return Verdict("undecided", f"{said}, {BOUND}")
    if below <= ALPHA:
        return Verdict("holds", said, below)
    could = _could(found, unit, beyond=limit)
    return Verdict("undecided", f"{said}; {could}", min(below, above))


def compared(
    found: PairedDifference | None,
    claimed: str,
    margin: float,
    less_trained: bool = False,
) -> Verdict:
    """`direction` or `at_most` by what is claimed of a difference in points.

    claimed: ``above``, ``below``, ``does not reach`` or ``does not improve``.
    """
    if claimed in ("above", "below"):
        sign = 1 if claimed == "above" else -1
        return direction(found, sign, margin, less_trained=less_trained)
    limit = {"does not reach": 0.0, "does not improve": margin}[claimed]
    return at_most(found, limit, less_trained=less_trained)


def answer(verdict: Verdict) -> Verdict:
    """The verdict on a hypothesis as the answer to the question that it stands for."""
    return replace(verdict, word={"holds": "yes", "opposite": "no"}.get(verdict.word, verdict.word))


def extreme(values: pd.DataFrame, name: str) -> Verdict:
    """Verdict on "class `name` is the worst of all".

    values: [units of luck, classes], a metric in fractions (0..1). It holds where the class is
    significantly lower than each other one, and is opposite where another one is than it,
    after Holm's correction. Raises UserError for an unknown class and for values that are missing.
    """
    if name not in values.columns:
        raise UserError(f"no class {name!r}: choose one of {', '.join(map(str, values.columns))}")
    if values.isna().to_numpy().any():
        raise UserError("values has missing entries: leave those draws out of every class.")
    others = [column for column in values.columns if column != name]
    n = len(values)
    if n < FEWEST:
        return Verdict("not tested", f"too few runs (n = {n})")
    found = {other: statistics.mean_difference(values[name] - values[other]) for other in others}
    adjusted = dict(zip(others, holm([each.p for each in found.values()]), strict=True))
    ours = f"{name}: {percent(values[name].mean())}"
    closest = min(others, key=lambda other: -found[other].mean)
    rival = f"{closest}: {percent(values[closest].mean())}"
    said = f"difference {percent(found[closest], sign=True)} points, n = {n}"
    behind = [o for o in others if found[o].mean > 0 and adjusted[o] <= ALPHA]
    if behind:
        p = min(adjusted[other] for other in behind)
        return Verdict("opposite", f"{rival} is lower than {ours} ({said})", p)
    p = max(each.p for each in found.values())
    if p <= ALPHA and all(each.mean < 0 for each in found.values()):
        reason = f"{ours} is lower than all {len(others)} others; the next is {rival} ({said})"
        return Verdict("holds", reason, p)
    could = _could(found[closest], "points")
    return Verdict("undecided", f"{ours} beside {rival} ({said}); {could}", p)


def together(parts: Iterable[Verdict]) -> Verdict:
    """One verdict for a claim of several parts, with their reasons.

    The worst word is the claim's: what refutes it before what leaves it open before what supports
    it. Raises UserError where there are no parts.
    """
    parts = list(parts)
    if not parts:
        raise UserError("a claim needs at least one part.")
    if len(parts) == 1:
        return parts[0]
    if all(part.reason.endswith(NOT_RUN) for part in parts):
        return Verdict("not tested", NOT_RUN)
    words = [part.word for part in parts]
    word = next(each for each in WORST_FIRST if each in words)
    deciding = [part for part in parts if part.word == word]
    ps = [part.p for part in deciding if not math.isnan(part.p)]
    # One part is enough to refute; else all have to agree, and the weakest counts.
    worst = min if word in ("contradicted", "opposite", "no") else max
    p, above = (worst(ps) if ps else math.nan), deciding[0].above
    if len(parts) <= SHOWN:
        reason = "; ".join(dict.fromkeys(part.reason for part in parts))
        return Verdict(word, reason, p, above)
    reasons = list(dict.fromkeys(part.reason for part in deciding))
    more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    counted = ", ".join(f"{words.count(each)} {each}" for each in WORST_FIRST if each in words)
    reason = f"{len(parts)} parts: {counted}. {'; '.join(reasons[:SHOWN])}{more}"
    return Verdict(word, reason, p, above)


def everywhere(cells: Iterable[tuple[str, Verdict]]) -> Verdict:
    """One verdict on a claim about many cells, with what refutes it corrected for their number.

    cells: of each its name and the verdict of `direction` or `at_most`. One cell may well be
    opposite, or have no difference, by chance alone: it counts as such only where its p value is
    at most 5% after Holm's correction over all cells, and is undecided otherwise; and while a cell
    is undecided, no difference in others does not answer for it. Cells that are
    not tested yet count in it: the first cell to be run must not refute a claim about many. A
    refutation without a p value is a fact, as an error above rounding, and stands. That all hold
    needs no correction. Raises UserError where there are no cells.
    """
    cells = list(cells)
    found = [verdict for _, verdict in cells]
    refuting = ("opposite", "no", "no difference")
    adjusted = holm([float(v.word not in refuting) if math.isnan(v.p) else v.p for v in found])
    for i, p in enumerate(adjusted):
        if found[i].word in refuting and not math.isnan(found[i].p):
            found[i] = replace(found[i], p=float(p))
            if p > ALPHA:
                word = f"{found[i]}, but not" if found[i].above else "not significant"
                reason = f"{found[i].reason}, {word} after correction over {len(found)} cells"
                found[i] = Verdict("undecided", reason, float(p))
    return together(
        replace(verdict, reason=f"{name}: {verdict.reason}")
        for (name, _), verdict in zip(cells, found, strict=True)
    )


def _scaled(value: float, unit: str) -> float:
    return value / 100 if unit == "points" else value


def _said(found: PairedDifference, unit: str) -> str:
    written = percent(found, sign=True) if unit == "points" else number(found, 2, sign=True)
    return f"difference {written} {unit} (n = {found.n})"


def _could(found: PairedDifference, unit: str, beyond: float | None = None) -> str:
    """What these runs could have shown, whatever the outcome; ``beyond`` a limit, by the one-sided
    test of `at_most`."""
    if not found.error > 0:
        return f"all {found.n} runs agree, which is too few to decide"
    shown = power.detectable(found.error, found.df, sides=2 if beyond is None else 1)
    written = f"{percent(shown) if unit == 'points' else number(shown, 2)} {unit}"
    apart = "" if beyond is None else f" from {beyond:g}"
    return f"{written}{apart} would have been found with a probability of {statistics.POWER:.0%}"


def _untested(found: PairedDifference | None) -> str | None:
    if found is None:
        return NOT_RUN
    return f"too few runs (n = {found.n})" if found.n < FEWEST else None
