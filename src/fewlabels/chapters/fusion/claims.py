"""Verdicts on claims F1 to F6, each from the frame of `results.measure` and `fewlabels.verdicts`.

Differences are of mean class accuracy unless the claim names accuracy, paired over draws: both
sides share their members' runs. Signs in several cells are judged over all of them, corrected for
their number. At the reduced budget a printed figure is not scored, and a fusion that is not ahead
of the supervised network is a bound.
"""

from typing import Any

import pandas as pd

from fewlabels import comparisons, published, verdicts
from fewlabels.chapters.fusion import planning, results
from fewlabels.chapters.fusion.planning import Settings
from fewlabels.chapters.fusion.results import STACKING, SUPERVISED, key
from fewlabels.chapters.ssl_medmnist.claims import SMALLER, deviation, split_variance
from fewlabels.chapters.ssl_medmnist.planning import SOURCE_METHODS
from fewlabels.chapters.ssl_medmnist.results import ALL, MEAN, QUARTER
from fewlabels.published import Claim
from fewlabels.statistics import PairedDifference
from fewlabels.tables import percent
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
    """Rows for `fewlabels.tables.claims_table`, F1 to F6, of the source's grid at its budget."""
    full, quarter = (results.cell(runs, settings.blood, labels) for labels in (ALL, QUARTER))
    skewed, few = (results.cell(runs, settings.derma, labels) for labels in (ALL, QUARTER))
    own = planning.source(settings)
    smaller = own.grid == "reduced"

    def signs(name: str, parts: list[tuple], note: str = "") -> dict[str, Any]:
        return _signs(published.claim(name), parts, smaller, note)

    def value(key: str, frame: pd.DataFrame, method: str, metric: str = MEAN) -> Printed:
        """A printed figure of one method."""
        return Printed.percent(
            key,
            results.values(frame, method, metric).values(),
            0.01,
            split_variance=split_variance(frame[frame["method"] == method], metric),
            instead=SMALLER if smaller and method != SUPERVISED else None,
        )

    def of_both(method: str) -> dict[str, list[Printed]]:
        """Accuracy and mean class accuracy with all labels and with a quarter of them."""
        parts = ((full, "full"), (quarter, "quarter"))
        return {
            "figures": [
                value(f"{metric}_{share}", frame, method, metric)
                for frame, share in parts
                for metric in ("accuracy", MEAN)
            ]
        }

    rivals = (*SOURCE_METHODS, TWO_CONTRASTIVE, TWO_TRANSFORMERS)
    pulled = Printed.percent(
        "difference",
        results.differences(full, TWO_CONTRASTIVE, "moco").values(),
        0.01,
        split_variance=sum(
            split_variance(full[full["method"] == each], MEAN) for each in (TWO_CONTRASTIVE, "moco")
        ),
        instead=SMALLER if smaller else None,
    )
    found = [
        signs(
            "F1",
            [(part, ALL_FOUR, each, "above", MEAN) for part in (full, quarter) for each in rivals],
        )
        | of_both(ALL_FOUR),
        signs("F2", [(full, TWO_CONTRASTIVE, "moco", "below", MEAN)], _pull(full))
        | {"figures": [pulled]},
        signs(
            "F3",
            [
                (part, TWO_TRANSFORMERS, member, "above", MEAN)
                for part in (full, quarter)
                for member in ("aim", "mae")
            ],
        )
        | of_both(TWO_TRANSFORMERS),
        signs(
            "F4",
            [
                *(
                    (skewed, fusion, SUPERVISED, "does not improve", MEAN)
                    for fusion in FUSIONS.values()
                ),
                (skewed, ALL_FOUR, SUPERVISED, "above", "accuracy"),
            ],
        )
        | {"figures": [value(metric, skewed, ALL_FOUR, metric) for metric in ("accuracy", MEAN)]},
        signs(
            "F5",
            [
                (few, ALL_FOUR, SUPERVISED, "above", MEAN),
                (few, ALL_FOUR, "mae", "does not improve", MEAN),
            ],
        )
        | {
            "figures": [
                value("fusion", few, ALL_FOUR),
                value("mae", few, "mae"),
                value("supervised", few, SUPERVISED),
            ]
        },
        signs(
            "F6",
            [
                (part, rule, ALL_FOUR, "above", MEAN)
                for part in (full, quarter, skewed, few)
                for rule in UNTRIED
            ],
        ),
    ]
    said = {"deviation": deviation(own, smaller), "protocol": own.grid}
    return [row | said for row in found]


def _pull(full: pd.DataFrame) -> str:
    """What F2 gives as the reason, which no verdict rests on."""
    difference = results.paired(full, "simclr", "moco")
    if difference is None:
        return ""
    return f"SimCLR alone differs from MoCo by {percent(difference, sign=True)} points."


def _signs(claim: Claim, parts: list[tuple], smaller: bool, note: str = "") -> dict[str, Any]:
    """What is claimed of paired differences. parts: frame, method, other, what is claimed (as
    `fewlabels.verdicts.compared` takes it), metric."""
    margin = claim.margin_of("difference")
    cells, tested = [], []
    for frame, method, other, claimed, metric in parts:
        found = _difference(frame, method, other, metric)
        less = smaller and other == SUPERVISED
        verdict = verdicts.compared(found, claimed, margin, less)
        cells.append((_named(frame, method, other, metric), verdict))
        tested += [found] if found else []
    verdict = verdicts.everywhere(cells)
    if claim.hypothesis:
        verdict = verdicts.answer(verdict)
    if len(parts) == 1 or not tested:
        return _row(claim, tested[0] if tested else None, verdict, note=note)
    low, high = min(d.mean for d in tested), max(d.mean for d in tested)
    span = f"{percent(low, sign=True)} to {percent(high, sign=True)} points"
    return _row(claim, span, verdict, min(d.n for d in tested), note)


def _difference(
    frame: pd.DataFrame, method: str, other: str, metric: str
) -> PairedDifference | None:
    sides = (frame[frame["method"] == each] for each in (method, other))
    return comparisons.difference(*sides, metric)


def _named(frame: pd.DataFrame, method: str, other: str, metric: str) -> str:
    where = "".join(f", {frame[column].iloc[0]}" for column in ("dataset", "labels") if len(frame))
    what = f"{results.named(method)} against {results.named(other)}{where}"
    return what if metric == MEAN else f"{metric} of {what}"


def _row(
    claim: Claim, ours, verdict: Verdict, n: int | None = None, note: str = ""
) -> dict[str, Any]:
    reason = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}. {note}".strip()
    row = {"claim": claim, "ours": ours, "verdict": verdict, "note": reason}
    return row if n is None else row | {"n": n}
