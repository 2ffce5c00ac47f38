"""Verdicts on claims F1 to F6, each from the frame of `results.measure` and `fewlabels.verdicts`.

Differences are of mean class accuracy unless the claim names accuracy, paired over draws: both
sides share their members' runs. Signs in several cells are judged over all of them, corrected for
their number.
"""

from typing import Any

import pandas as pd

from fewlabels import published, verdicts
from fewlabels.chapters.fusion import planning, results
from fewlabels.chapters.fusion.planning import Settings
from fewlabels.chapters.fusion.results import STACKING, SUPERVISED, key
from fewlabels.chapters.ssl_medmnist.claims import deviation
from fewlabels.chapters.ssl_medmnist.planning import SOURCE_METHODS
from fewlabels.chapters.ssl_medmnist.results import ALL, MEAN, QUARTER, interval, one_more
from fewlabels.tables import NOT_RUN, percent
from fewlabels.verdicts import Printed, Verdict

FUSIONS = {
    "fusion-simclr-moco": key("product", ("simclr", "moco")),
    "fusion-aim-mae": key("product", ("aim", "mae")),
    "fusion-all": key("product", SOURCE_METHODS),
}
"""The source's fusions, as its table and as our frame call them."""
TWO_CONTRASTIVE, TWO_TRANSFORMERS, ALL_FOUR = FUSIONS.values()
UNTRIED = (key("most confident", SOURCE_METHODS), key(STACKING, SOURCE_METHODS))


def rows(runs: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Rows for `fewlabels.tables.claims_table`, F1 to F6, all under protocol ``report``."""
    full, quarter = (results.cell(runs, settings.blood, labels) for labels in (ALL, QUARTER))
    skewed, few = (results.cell(runs, settings.derma, labels) for labels in (ALL, QUARTER))
    found = [
        _best(full, quarter),
        _signs("F2", [(full, TWO_CONTRASTIVE, "moco", -1, MEAN)], _pull(full))
        | {"figures": [_difference("difference", full, TWO_CONTRASTIVE, "moco")]},
        _signs(
            "F3",
            [
                (part, TWO_TRANSFORMERS, member, +1, MEAN)
                for part in (full, quarter)
                for member in ("aim", "mae")
            ],
        )
        | {"figures": _of_both(full, quarter, TWO_TRANSFORMERS)},
        _signs(
            "F4",
            [
                *((skewed, fusion, SUPERVISED, -1, MEAN) for fusion in FUSIONS.values()),
                (skewed, ALL_FOUR, SUPERVISED, +1, "accuracy"),
            ],
        )
        | {"figures": [_value(metric, skewed, ALL_FOUR, metric) for metric in ("accuracy", MEAN)]},
        _signs("F5", [(few, ALL_FOUR, SUPERVISED, +1, MEAN), (few, ALL_FOUR, "mae", -1, MEAN)])
        | {
            "figures": [
                _value("fusion", few, ALL_FOUR),
                _value("mae", few, "mae"),
                _value("supervised", few, SUPERVISED),
            ]
        },
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
    return [row | {"deviation": deviation(planning.source(settings))} for row in found]


def _best(full: pd.DataFrame, quarter: pd.DataFrame) -> dict[str, Any]:
    """F1: the four printed figures, and more mean class accuracy than every other model."""
    claim = published.claim("F1")
    parts, shown, n = [], [], 0
    for frame, share in ((full, "full"), (quarter, "quarter")):
        for metric in ("accuracy", MEAN):
            found = [*results.values(frame, ALL_FOUR, metric).values()]
            printed = claim.published[f"{metric}_{share}"]
            parts.append(verdicts.figure(printed, one_more(found), rounding=0.01))
            shown.append(percent(interval(found)))
            n = max(n, len(found))
    rivals = (*SOURCE_METHODS, TWO_CONTRASTIVE, TWO_TRANSFORMERS)
    best = [(frame, ALL_FOUR, each, +1, MEAN) for frame in (full, quarter) for each in rivals]
    parts.append(verdicts.everywhere(map(_cell, best)))
    row = _row("F1", "; ".join(shown) if n else NOT_RUN, verdicts.together(parts), n)
    return row | {"figures": _of_both(full, quarter, ALL_FOUR)}


def _pull(full: pd.DataFrame) -> str:
    """What F2 gives as the reason, which no verdict rests on."""
    difference = results.paired(full, "simclr", "moco")
    if difference is None:
        return ""
    return f"SimCLR alone differs from MoCo by {percent(difference, sign=True)} points."


def _signs(name: str, parts: list[tuple], note: str = "") -> dict[str, Any]:
    """Claimed signs of paired differences. parts: frame, method, other, sign, metric."""
    verdict = verdicts.everywhere(map(_cell, parts))
    paired = [results.paired(*part[:3], part[4]) for part in parts]
    tested = [difference for difference in paired if difference is not None]
    if len(parts) == 1 or not tested:
        return _row(name, tested[0] if tested else None, verdict, note=note)
    low, high = min(d.mean for d in tested), max(d.mean for d in tested)
    span = f"{percent(low, sign=True)} to {percent(high, sign=True)} points"
    return _row(name, span, verdict, min(d.n for d in tested), note)


def _cell(part: tuple) -> tuple[str, list[float], int]:
    """One part of `_signs` as `verdicts.everywhere` takes it."""
    frame, method, other, sign, metric = part
    where = "".join(f", {frame[column].iloc[0]}" for column in ("dataset", "labels") if len(frame))
    what = f"{results.named(method)} against {results.named(other)}{where}"
    if metric != MEAN:
        what = f"{metric} of {what}"
    return what, [*results.differences(frame, method, other, metric).values()], sign


def _value(key: str, frame: pd.DataFrame, method: str, metric: str = MEAN) -> Printed:
    """A printed figure of one method."""
    return Printed.percent(key, results.values(frame, method, metric).values(), 0.01)


def _of_both(full: pd.DataFrame, quarter: pd.DataFrame, method: str) -> list[Printed]:
    """Accuracy and mean class accuracy with all labels and with a quarter of them."""
    return [
        _value(f"{metric}_{share}", frame, method, metric)
        for frame, share in ((full, "full"), (quarter, "quarter"))
        for metric in ("accuracy", MEAN)
    ]


def _difference(key: str, frame: pd.DataFrame, method: str, other: str) -> Printed:
    """A printed difference between two methods."""
    return Printed.percent(key, results.differences(frame, method, other).values(), 0.01)


def _row(name: str, ours, verdict: Verdict, n: int | None = None, note: str = "") -> dict[str, Any]:
    reason = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}. {note}".strip()
    row = {"claim": published.claim(name), "ours": ours, "verdict": verdict, "note": reason}
    return row if n is None else row | {"n": n}
