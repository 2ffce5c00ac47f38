"""Claims as a notebook states them: the claim's id, the runs that decide it, and the rule.

Every function gives one row for `tables.claims_table` and for results/claims.csv. The
margin of a claim, what its figures are and whether it is a question stand in
``reference/claims.yaml``; the rules are `fewlabels.evidence.verdicts`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from fewlabels.evidence import verdicts
from fewlabels.evidence.measures import difference, fraction, luck, mean, pairs
from fewlabels.evidence.statistics import (
    Interval,
    PairedDifference,
    fraction_interval,
    mean_difference,
)
from fewlabels.evidence.tables import NOT_RUN, number, percent
from fewlabels.evidence.verdicts import Printed, Verdict
from fewlabels.reference import published

Row = dict[str, Any]


def quoted(id: str, key: str = "accuracy") -> float:
    """A figure that the source of a claim prints."""
    return published.claim(id).published[key]


def margin(id: str, quantity: str = "difference") -> float:
    """The smallest difference that counts for a claim, in the unit of the quantity."""
    return published.claim(id).margin_of(quantity)


def judged(
    id: str,
    ours: Interval | PairedDifference | str | None,
    verdict: Verdict,
    note: str = "",
    n: int | None = None,
    figures: Iterable[Printed] = (),
    deviation: str = "",
    protocol: str = "report",
) -> Row:
    """A claim with its verdict, whose reason opens the note; a question gets the answer.

    n: units of luck, needed where ``ours`` is a text, which stands only where there are some.
    """
    claim = published.claim(id)
    if claim.hypothesis:
        verdict = verdicts.answer(verdict)
    reason = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}."
    row: Row = {"claim": claim, "verdict": verdict, "note": f"{reason} {note}".strip()}
    made = n != 0 if isinstance(ours, str) else ours is not None and ours.n
    row["ours"] = ours if made else None
    row |= {} if n is None else {"n": n}
    row |= {"figures": [*figures]} if figures else {}
    row |= {"deviation": deviation} if deviation else {}
    return row if protocol == "report" else row | {"protocol": protocol}


def untested(chapter: str) -> list[Row]:
    """A chapter's claims that no run of ours can judge, with the reason in claims.yaml."""
    claims = published.claims(chapter).values()
    return [judged(each.id, None, Verdict(*each.open)) for each in claims if each.open]


def part(
    key: str, rows: pd.DataFrame, metric: str = "accuracy", rounding: float = 1, **more
) -> Printed:
    """A printed figure in percent, and what our runs measured: fractions (0..1)."""
    made = rows[rows[metric].notna()] if metric in rows else rows.iloc[:0]
    return Printed.percent(key, made[metric] if len(made) else [], rounding, luck(made), **more)


def gap(
    key: str,
    rows: pd.DataFrame,
    others: pd.DataFrame,
    metric: str = "accuracy",
    rounding: float = 1,
    **more,
) -> Printed:
    """A printed difference in points, and ours by draw."""
    found = pairs(rows, others, metric)
    return Printed.percent(key, found["difference"], rounding, [*found["luck"]], **more)


def all_printed(id: str, parts: Iterable[Printed], ours: str | None = None, **more) -> Row:
    """A claim of several printed figures. ours: what the table says in place of their means."""
    parts = [*parts]
    verdict = verdicts.figures(published.claim(id), parts)
    units = [mean_difference(each.values, each.luck).n for each in parts if len(each.values)]
    if ours is None:
        ours = "; ".join(
            percent(fraction_interval([v / 100 for v in each.values], each.luck))
            if len(each.values)
            else NOT_RUN
            for each in parts
        )
    return judged(id, ours, verdict, n=min(units, default=0), figures=parts, **more)


def printed(id: str, rows: pd.DataFrame, metric: str = "accuracy", key: str = "", **more) -> Row:
    """A claim of one printed figure in percent. key: its name, where it is not the metric's."""
    one = part(key or metric, rows, metric)
    verdict = verdicts.figures(published.claim(id), [one])
    return judged(id, fraction(rows, metric), verdict, figures=[one], **more)


def printed_number(id: str, rows: pd.DataFrame, metric: str, key: str, unit: str, **more) -> Row:
    """A claim of one printed figure in its own unit, such as an epoch."""
    made = rows[rows[metric].notna()]
    one = Printed(key, [*made[metric]], 1, luck(made))
    verdict = verdicts.figures(published.claim(id), [one])
    ours = mean(rows, metric)
    return judged(id, f"{unit} {number(ours)}", verdict, n=ours.n, figures=[one], **more)


def signed(id: str, found: PairedDifference, claimed: int, **more) -> Row:
    """A claimed sign (+1 or -1) of a difference."""
    verdict = verdicts.direction(found if found.n else None, claimed, margin(id))
    return judged(id, found, verdict, **more)


def lowest(
    id: str,
    recalls: pd.DataFrame,
    name: str,
    note: str = "",
    shared: Sequence[str] | None = None,
    **more,
) -> Row:
    """A class with the lowest recall. recalls: a row per run, a column per class; shared: the
    luck of every run, None where runs share none."""
    if recalls.empty:
        return judged(id, None, Verdict("not tested", "not run"), note, **more)
    networks = recalls if shared is None else recalls.groupby([*shared]).mean()
    verdict = verdicts.extreme(networks, name)
    count = (networks.idxmin(axis=1) == name).sum()
    note = f"It is the lowest in {count} of {len(networks)} networks. {note}".strip()
    one = Printed.percent(f"recall_{name}", recalls[name], 1, shared)
    ours = fraction_interval(recalls[name], shared)
    return judged(id, ours, verdict, note, figures=[one], **more)


def all_of(id: str, ours: Any, parts: Mapping[str, Verdict], **more) -> Row:
    """A claim of several parts, all of which have to hold (`verdicts.everywhere`); not tested where
    the settings leave it none."""
    if not parts:
        return judged(id, None, Verdict("not tested", "these settings plan no part of it"), **more)
    return judged(id, ours, verdicts.everywhere(parts.items()), **more)


class Compared(NamedTuple):
    """One comparison of a claim: ``rows`` minus ``others``.

    claimed: ``above``, ``below``, ``does not reach`` or ``does not improve``. less_trained: the
    first side had less training than in the source, so that being behind is a bound only. metric:
    where it is not the claim's.
    """

    name: str
    rows: pd.DataFrame
    others: pd.DataFrame
    claimed: str
    less_trained: bool = False
    metric: str = ""


def compared(
    id: str,
    parts: Iterable[Compared],
    metric: str = "accuracy",
    beside: Iterable[Compared] = (),
    note: str = "",
    **more,
) -> Row:
    """A claim about differences, all of which have to be as claimed.

    beside: comparisons that the note reports and that decide nothing.
    """
    judged_parts = {part.name: _compared(id, part, metric) for part in parts}
    told = {part.name: _compared(id, part, metric) for part in beside}
    reasons = [f"{name}: {verdict.reason}" for name, (found, verdict) in told.items() if found.n]
    note = " ".join(filter(None, [f"Beside it: {'; '.join(reasons)}." if reasons else "", note]))
    tested = [found for found, _ in judged_parts.values() if found.n]
    more |= {"note": note}
    verdicts_by_name = {name: verdict for name, (_, verdict) in judged_parts.items()}
    if len(judged_parts) == 1 or not tested:
        return all_of(id, tested[0] if tested else None, verdicts_by_name, **more)
    n = min(each.n for each in tested)
    return all_of(id, span(tested), verdicts_by_name, n=n, **more)


def span(found: Iterable[PairedDifference], words: str = "points") -> str:
    """From the smallest to the largest of several differences, in points."""
    means = [each.mean for each in found if each.n]
    if not means:
        return NOT_RUN
    ends = dict.fromkeys(percent(end, sign=True) for end in (min(means), max(means)))
    return f"{' to '.join(ends)} {words}"


def _compared(id: str, part: Compared, metric: str) -> tuple[PairedDifference, Verdict]:
    found = difference(part.rows, part.others, part.metric or metric)
    known = found if found.n else None
    return found, verdicts.compared(known, part.claimed, margin(id), part.less_trained)


def said(rows: Iterable[Row], deviation: str, but: Iterable[str] = ()) -> list[Row]:
    """The rows with the same deviation from the source, except those of the claims ``but``."""
    return [
        row if row["claim"].id in but or not deviation else row | {"deviation": deviation}
        for row in rows
    ]
