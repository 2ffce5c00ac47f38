"""Verdicts on claims S1 to S20, each from the records and the rule in `fewlabels.verdicts`.

Claims about every cell of a table are judged over all cells, corrected for their number.
"""

from dataclasses import replace
from typing import Any

import pandas as pd

from fewlabels import data, published, verdicts
from fewlabels.chapters.ssl_medmnist import results
from fewlabels.chapters.ssl_medmnist.planning import (
    SOURCE_EPOCHS,
    SOURCE_METHODS,
    STATIC_RATES,
    TWICE,
    Settings,
)
from fewlabels.chapters.ssl_medmnist.results import ALL, MEAN, QUARTER
from fewlabels.data.medmnist import REBUILDS
from fewlabels.tables import NOT_RUN, percent
from fewlabels.verdicts import Printed, Verdict

SUPERVISED = ("supervised", "scratch")
TRIO = (0, 3, 5)
LIMIT = 0.9


def rows(runs: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Rows for `fewlabels.tables.claims_table`, S1 to S20, all under protocol ``report``."""
    blood, derma = settings.blood, settings.derma
    cells = {
        (dataset, labels): results.classes(runs, dataset, labels)
        for dataset in (blood, derma)
        for labels in (ALL, QUARTER)
    }
    full, quarter = cells[blood, ALL], cells[blood, QUARTER]
    skewed, few = cells[derma, ALL], cells[derma, QUARTER]
    frozen, tuned = (
        {method: (method, backbone) for method in SOURCE_METHODS}
        for backbone in ("frozen", "fine-tuned")
    )
    twice = (f"supervised, {TWICE}", "scratch")
    larger, more = (("moco, resnet34", "fine-tuned"), ("moco, extra cells", "fine-tuned"))
    found = [
        _figures("S1", [(full, "accuracy", "accuracy"), (full, MEAN, MEAN)]),
        _figures("S2", _of_claim("S2", [(quarter, "accuracy"), (quarter, MEAN)])),
        _figures(
            "S3",
            [
                (skewed, "accuracy", "accuracy_full"),
                (skewed, MEAN, "mean_class_accuracy_full"),
                (few, "accuracy", "accuracy_quarter"),
                (few, MEAN, "mean_class_accuracy_quarter"),
            ],
        ),
        _signs("S4", [(c, f, SUPERVISED, -1) for c in cells.values() for f in frozen.values()]),
        _signs("S5", [(c, tuned[m], frozen[m], +1) for c in cells.values() for m in tuned]),
        _signs(
            "S6",
            [
                (full, tuned["moco"], SUPERVISED, +1),
                *((full, tuned["moco"], tuned[m], +1) for m in tuned if m != "moco"),
            ],
        )
        | {
            "figures": [
                _value("accuracy", full, tuned["moco"], "accuracy"),
                _value(MEAN, full, tuned["moco"]),
                _gap("difference", full, tuned["moco"], SUPERVISED),
            ]
        },
        _signs(
            "S7",
            [(full, tuned["simclr"], SUPERVISED, +1), (quarter, tuned["simclr"], SUPERVISED, -1)],
        )
        | {"figures": _gaps(full, quarter, tuned["simclr"], SUPERVISED)},
        _signs(
            "S8",
            [
                *((full, frozen["aim"], frozen[m], +1) for m in frozen if m != "aim"),
                *((quarter, frozen["aim"], frozen[m], -1) for m in ("simclr", "moco")),
            ],
            "accuracy",
        )
        | {
            "figures": [
                _value("frozen_full", full, frozen["aim"], "accuracy"),
                _value("frozen_quarter", quarter, frozen["aim"], "accuracy"),
            ]
        },
        _signs(
            "S9",
            [
                *(
                    (part, frozen["mae"], frozen[m], -1)
                    for part in (full, quarter)
                    for m in frozen
                    if m != "mae"
                ),
                (quarter, tuned["mae"], SUPERVISED, +1),
                *((quarter, tuned["mae"], tuned[m], +1) for m in tuned if m != "mae"),
            ],
        )
        | {
            "figures": [
                _value("frozen_full", full, frozen["mae"], "accuracy"),
                _gap("difference_quarter", quarter, tuned["mae"], SUPERVISED),
            ]
        },
        _signs("S10", [(skewed, each[m], SUPERVISED, -1) for each in (frozen, tuned) for m in each])
        | {
            "figures": [
                # The best by the source's test scores is its fine-tuned MAE.
                _value("best_ssl", skewed, tuned["mae"]),
                _value("supervised", skewed, SUPERVISED),
            ]
        },
        _signs("S11", [(few, tuned["mae"], SUPERVISED, +1)])
        | {"figures": [_gap("difference", few, tuned["mae"], SUPERVISED)]},
        _trio(cells, settings),
        _signs(
            "S13",
            [
                (full, (f"{method}, blur", backbone), (method, backbone), -1)
                for method in ("simclr", "moco")
                for backbone in ("frozen", "fine-tuned")
            ],
        ),
        _signs("S14", [(full, twice, SUPERVISED, -1)], "accuracy")
        | {"figures": [_gap("difference", full, twice, SUPERVISED, "accuracy", rounding=0.1)]},
        _static(full),
        _duplicates(runs, settings),
        _signs(
            "S17",
            [(part, larger, tuned["moco"], -1) for part in (full, quarter)],
        )
        | {"figures": _gaps(full, quarter, larger, tuned["moco"])},
        _signs(
            "S18",
            [(part, more, tuned["moco"], sign) for part, sign in ((full, -1), (quarter, +1))],
        )
        | {"figures": _gaps(full, quarter, more, tuned["moco"])},
        _signs(
            "S19",
            [
                (quarter, (f"{m}, unbalanced images", b), (f"{m}, balanced images", b), -1)
                for m in ("simclr", "moco")
                for b in ("frozen", "fine-tuned")
            ],
        ),
        _figures("S20", [(few, MEAN, MEAN)], tuned["aim"]),
    ]
    for row in found:
        name = row["claim"].id
        row["deviation"] = f"{deviation(settings)} {DEVIATIONS.get(name, '')}".strip()
        row["note"] = f"{row['note']} {READINGS.get(name, '')}".strip()
    return found


DEVIATIONS = {
    "S18": "The extra cells are those of the first of the source's two sets, which is 4,889 of its "
    "11,033 images."
}
READINGS = {
    "S13": "The source says this of SimCLR; its MoCo goes without blur as well.",
    "S17": '"Does not improve" is tested as "is worse".',
}


def deviation(settings: Settings) -> str:
    """What differs from the source under every claim: rebuilt data sets, fewer epochs."""
    said = [f"{name} is {REBUILDS[name].title}." for name in settings.datasets if rebuilt(name)]
    if settings.epochs != SOURCE_EPOCHS:
        said.append(f"Trained for {settings.epochs} of the source's {SOURCE_EPOCHS} epochs.")
    return " ".join(said)


def rebuilt(dataset: str) -> bool:
    """Whether the files at hand are a rebuild of the data set."""
    return dataset in REBUILDS and data.md5(dataset) == REBUILDS[dataset].md5


def _row(name: str, ours, verdict: Verdict, n: int | None = None, note: str = "") -> dict[str, Any]:
    reason = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}. {note}".strip()
    row = {"claim": published.claim(name), "ours": ours, "verdict": verdict, "note": reason}
    return row if n is None else row | {"n": n}


def _of_claim(name: str, parts: list[tuple[pd.DataFrame, str]]) -> list[tuple]:
    """Parts with the keys that the claim's figures have."""
    keys = list(published.claim(name).published)
    return [(frame, metric, key) for (frame, metric), key in zip(parts, keys, strict=True)]


def _figures(name: str, parts: list[tuple], method: tuple[str, str] = SUPERVISED) -> dict[str, Any]:
    """Printed figures against the interval of one more run. parts: frame, metric, key."""
    claim = published.claim(name)
    each, shown, figures, luck, n = [], [], [], [], 0
    for frame, metric, key in parts:
        rows = results.cell(frame, *method)
        found = [*results.values(frame, *method, metric).values()]
        if len(rows) and rebuilt(rows["dataset"].iloc[0]):
            luck.append(percent(results.split_luck(rows, metric)))
        each.append(verdicts.figure(claim.published[key], results.one_more(found), rounding=0.01))
        shown.append(percent(results.interval(found)))
        n = max(n, len(found))
        figures.append(Printed.percent(key, found, 0.01))
    note = (
        "The test images of a rebuild are others than the source's: by the luck of two such draws "
        f"alone its figures may lie {', '.join(luck)} points from ours (95%)."
        if luck
        else ""
    )
    row = _row(name, "; ".join(shown) if n else NOT_RUN, verdicts.together(each), n, note)
    return row | {"figures": figures}


def _gap(
    key: str, frame: pd.DataFrame, method: tuple, other: tuple, metric: str = MEAN, rounding=0.01
) -> Printed:
    """A printed difference between two methods."""
    found = results.differences(frame, method, other, metric)
    return Printed.percent(key, found.values(), rounding)


def _gaps(full: pd.DataFrame, quarter: pd.DataFrame, method: tuple, other: tuple) -> list[Printed]:
    """A printed difference with all labels and with a quarter of them."""
    return [
        _gap("difference_full", full, method, other),
        _gap("difference_quarter", quarter, method, other),
    ]


def _value(key: str, frame: pd.DataFrame, method: tuple, metric: str = MEAN) -> Printed:
    """A printed figure of one method."""
    return Printed.percent(key, results.values(frame, *method, metric).values(), 0.01)


def _signs(name: str, parts: list[tuple], metric: str = MEAN) -> dict[str, Any]:
    """Claimed signs of paired differences. parts: frame, method, other, sign."""
    cells, tested = [], []
    for frame, method, other, sign in parts:
        found = results.differences(frame, method, other, metric)
        where = "".join(f", {frame[key].iloc[0]}" for key in ("dataset", "labels") if len(frame))
        what = f"{results.named(*method)} against {results.named(*other)}{where}"
        cells.append((what, [*found.values()], sign))
        if found:
            tested.append(results.paired(frame, method, other, metric))
    verdict = verdicts.everywhere(cells)
    if len(parts) == 1 or not tested:
        return _row(name, tested[0] if tested else None, verdict)
    low, high = min(d.mean for d in tested), max(d.mean for d in tested)
    span = f"{percent(low, sign=True)} to {percent(high, sign=True)} points"
    return _row(name, span, verdict, min(d.n for d in tested))


def _trio(cells: dict, settings: Settings) -> dict[str, Any]:
    """S12: how much more often classes 0, 3 and 5 are mixed up than any other two."""
    models = [SUPERVISED] + [(m, b) for m in SOURCE_METHODS for b in ("frozen", "fine-tuned")]
    if len(data.load(settings.blood).classes) <= max(TRIO):
        reason = f"{settings.blood} has no class {max(TRIO)}"
        return _row("S12", None, Verdict("not tested", reason))
    each, excess = [], []
    for labels in (ALL, QUARTER):
        for model in models:
            rows = results.cell(cells[settings.blood, labels], *model)
            found = [*results.mixed_up(rows, settings.blood, TRIO).values()]
            each.append((f"{results.named(*model)}, {labels}", found, +1))
            excess += [results.interval(found)] if found else []
    if not excess:
        return _row("S12", None, verdicts.everywhere(each))
    low, high = min(e.mean for e in excess), max(e.mean for e in excess)
    span = f"{percent(low)} to {percent(high)} points more often than other pairs"
    return _row("S12", span, verdicts.everywhere(each), min(e.n for e in excess))


def _static(full: pd.DataFrame) -> dict[str, Any]:
    """S15: accuracy at a static rate, less the 90% that it does not exceed."""
    each, shown, n = [], [], 0
    for rate in STATIC_RATES:
        method = (f"supervised, static rate {rate:g}", "scratch")
        found = [*results.values(full, *method, "accuracy").values()]
        over = results.interval([value - LIMIT for value in found])
        verdict = verdicts.direction(over, -1)
        each.append(replace(verdict, reason=f"rate {rate:g} against 90%: {verdict.reason}"))
        shown.append(percent(results.interval(found)))
        n = max(n, len(found))
    return _row("S15", "; ".join(shown) if n else NOT_RUN, verdicts.together(each), n)


def _duplicates(runs: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """S16: a search, not a sample: it holds where equal images lie in training and validation."""
    record = results.search(runs, settings.blood)
    if record is None:
        return _row("S16", None, verdicts.direction(None, +1))
    own = data.load(settings.blood)
    count = {key: int(value) for key, value in record.metrics.items()}
    across = count["exact_train_valid"]
    ours = f"{count['exact']} equal pairs in all, {across} between training and validation"
    reason = (
        f"{count['exact_train_test']} equal pairs between training and test, "
        f"{count['exact_train_train']} within training, {count['near'] - count['exact']} more "
        "pairs that are nearly equal"
    )
    equal = record.predictions["distances"] == 0
    if torn := int((equal & ~record.predictions["same_class"].astype(bool)).sum()):
        reason += f"; equal pairs with two different labels: {torn}"
    if "rebuild" in own.title:
        # Which image is in which split is not the source's: the place of a pair proves nothing.
        images = len(own.train.labels) + len(own.valid.labels) + len(own.test.labels)
        share = 2 * len(own.train.labels) * len(own.valid.labels) / images**2
        some = 1 - (1 - share) ** count["exact"]
        reason += (
            "; the rebuilt splits are not the source's, and a random split of the same sizes would "
            f"have {share * count['exact']:.1f} of the equal pairs between training and "
            f"validation, at least one with a probability of {percent(some, 0)}%"
        )
        return _row("S16", ours, Verdict("not tested", reason), 1)
    return _row("S16", ours, Verdict("holds" if across else "reversed", reason), 1)
