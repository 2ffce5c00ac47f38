"""Verdicts on claims F1 to F6, each from the frame of `results.measure` and `fewlabels.verdicts`.

A claim in several parts is decided as chapter 5's are. Differences are of mean class accuracy
unless the claim names accuracy, paired over draws: both sides share their members' runs.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from fewlabels import published, verdicts
from fewlabels.chapters.fusion import results
from fewlabels.chapters.fusion.planning import Settings
from fewlabels.chapters.fusion.results import STACKING, SUPERVISED, key
from fewlabels.chapters.ssl_medmnist.claims import together
from fewlabels.chapters.ssl_medmnist.planning import SOURCE_EPOCHS, SOURCE_METHODS
from fewlabels.chapters.ssl_medmnist.results import ALL, MEAN, QUARTER, interval, one_more
from fewlabels.tables import NOT_RUN, percent
from fewlabels.verdicts import Verdict

FUSIONS = {
    "fusion-simclr-moco": key("product", ("simclr", "moco")),
    "fusion-aim-mae": key("product", ("aim", "mae")),
    "fusion-all": key("product", SOURCE_METHODS),
}
"""The source's fusions, as its table and as our frame call them."""
TWO_CONTRASTIVE, TWO_PAINTERS, ALL_FOUR = FUSIONS.values()
UNTRIED = (key("most confident", SOURCE_METHODS), key(STACKING, SOURCE_METHODS))


def rows(runs: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Rows for `fewlabels.tables.claims_table`, F1 to F6, all under protocol ``report``."""
    full, quarter = (results.cell(runs, settings.blood, labels) for labels in (ALL, QUARTER))
    skewed, few = (results.cell(runs, settings.derma, labels) for labels in (ALL, QUARTER))
    rivals = (*SOURCE_METHODS, TWO_CONTRASTIVE, TWO_PAINTERS)
    found = [
        _best(full, quarter, rivals),
        _signs("F2", [(full, TWO_CONTRASTIVE, "moco", -1, MEAN)], _pull(full)),
        _signs(
            "F3",
            [(part, TWO_PAINTERS, m, +1, MEAN) for part in (full, quarter) for m in ("aim", "mae")],
        ),
        _signs(
            "F4",
            [
                *((skewed, fusion, SUPERVISED, -1, MEAN) for fusion in FUSIONS.values()),
                (skewed, ALL_FOUR, SUPERVISED, +1, "accuracy"),
            ],
        ),
        _signs("F5", [(few, ALL_FOUR, SUPERVISED, +1, MEAN), (few, ALL_FOUR, "mae", -1, MEAN)]),
        _signs(
            "F6",
            [
                (part, rule, ALL_FOUR, +1, MEAN)
                for part in (full, quarter, skewed, few)
                for rule in UNTRIED
            ],
            "Read as: each of the two ideas is better than the product, everywhere.",
        ),
    ]
    if settings.epochs != SOURCE_EPOCHS:
        shorter = f"Trained for {settings.epochs} of the source's {SOURCE_EPOCHS} epochs."
        found = [row | {"note": f"{row['note']} {shorter}"} for row in found]
    return found


def _best(full: pd.DataFrame, quarter: pd.DataFrame, rivals: Sequence[str]) -> dict[str, Any]:
    """F1: the four printed figures, and more mean class accuracy than every other model."""
    claim = published.claim("F1")
    parts, shown, n = [], [], 0
    for frame, share in ((full, "full"), (quarter, "quarter")):
        for metric in ("accuracy", MEAN):
            found = [*results.values(frame, ALL_FOUR, metric).values()]
            printed = claim.published[f"{metric}_{share}"]
            verdict = verdicts.figure(printed, one_more(found), rounding=0.01)
            parts.append(
                replace(verdict, reason=f"{metric.replace('_', ' ')}, {share}: {verdict.reason}")
            )
            shown.append(percent(interval(found)))
            n = max(n, len(found))
    parts += [
        _direction(frame, ALL_FOUR, rival, +1, MEAN)
        for frame in (full, quarter)
        for rival in rivals
    ]
    return _row("F1", "; ".join(shown) if n else NOT_RUN, together(parts), n)


def _pull(full: pd.DataFrame) -> str:
    """What F2 gives as the reason, which no verdict rests on."""
    difference = results.paired(full, "simclr", "moco")
    if difference is None:
        return ""
    return f"SimCLR alone differs from MoCo by {percent(difference, sign=True)} points."


def _signs(name: str, parts: list[tuple], note: str = "") -> dict[str, Any]:
    """Claimed signs of paired differences. parts: cell, method, other, sign, metric."""
    verdict = together(_direction(*part) for part in parts)
    differences = [
        results.paired(frame, method, other, metric) for frame, method, other, _, metric in parts
    ]
    tested = [difference for difference in differences if difference is not None]
    if len(parts) == 1 or not tested:
        return _row(name, differences[0] if tested else None, verdict, note=note)
    low, high = min(d.mean for d in tested), max(d.mean for d in tested)
    span = f"{percent(low, sign=True)} to {percent(high, sign=True)} points"
    return _row(name, span, verdict, min(d.n for d in tested), note)


def _direction(frame: pd.DataFrame, method: str, other: str, sign: int, metric: str) -> Verdict:
    verdict = verdicts.direction(results.paired(frame, method, other, metric), sign)
    what = f"{results.named(method)} against {results.named(other)}"
    if metric != MEAN:
        what = f"{metric} of {what}"
    if len(frame):
        what += f", {frame['dataset'].iloc[0]}, {frame['labels'].iloc[0]} of the labels"
    return replace(verdict, reason=f"{what}: {verdict.reason}")


def _row(name: str, ours, verdict: Verdict, n: int | None = None, note: str = "") -> dict[str, Any]:
    reason = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}. {note}".strip()
    row = {"claim": published.claim(name), "ours": ours, "verdict": verdict, "note": reason}
    return row if n is None else row | {"n": n}
