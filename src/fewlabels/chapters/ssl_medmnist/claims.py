"""Verdicts on claims S1 to S20, each from the records and the rules in `fewlabels.verdicts`.

Claims about every cell of a table are judged over all cells, corrected for their number. At the
reduced budget a printed figure of self-supervision is not scored, and what is not ahead of the
supervised network is a bound: ``reduced`` in ``reference/claims.yaml`` says so claim by claim.
"""

from typing import Any

import pandas as pd

from fewlabels import comparisons, data, published, verdicts
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
from fewlabels.pretext.methods import backbone_name
from fewlabels.published import Claim
from fewlabels.statistics import mean_difference
from fewlabels.tables import NOT_RUN, percent
from fewlabels.verdicts import Printed, Verdict

SUPERVISED = ("supervised", "scratch")
TRIO = (0, 3, 5)
LIMIT = 0.9
SMALLER = Verdict("not tested", "not at the source's budget")
"""On a printed figure of self-supervision at the reduced budget."""


def rows(runs: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Rows for `fewlabels.tables.claims_table`, S1 to S20, of the source's grid at its budget."""
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

    smaller = settings.grid == "reduced"

    def signs(name: str, parts: list[tuple], metric: str = MEAN) -> dict[str, Any]:
        return _signs(published.claim(name), parts, metric, settings)

    def value(
        key: str, frame: pd.DataFrame, method: tuple = SUPERVISED, metric: str = ""
    ) -> Printed:
        """A printed figure of one method; its name says the metric where none is given."""
        return _value(key, frame, method, metric, smaller)

    def gap(key: str, frame: pd.DataFrame, method: tuple, other: tuple = SUPERVISED) -> Printed:
        """A printed difference in mean class accuracy."""
        return _gap(key, frame, method, other, MEAN, smaller)

    def gaps(method: tuple, other: tuple) -> dict[str, list[Printed]]:
        """Printed differences with all labels and with a quarter of them."""
        parts = (("difference_full", full), ("difference_quarter", quarter))
        return {"figures": [gap(key, frame, method, other) for key, frame in parts]}

    found = [
        _figures("S1", [value("accuracy", full), value(MEAN, full)]),
        _figures("S2", [value("accuracy", quarter), value(MEAN, quarter)]),
        _figures(
            "S3",
            [
                value("accuracy_full", skewed),
                value("mean_class_accuracy_full", skewed),
                value("accuracy_quarter", few),
                value("mean_class_accuracy_quarter", few),
            ],
        ),
        signs(
            "S4",
            [(c, f, SUPERVISED, "does not reach") for c in cells.values() for f in frozen.values()],
        ),
        signs("S5", [(c, tuned[m], frozen[m], "above") for c in cells.values() for m in tuned]),
        signs(
            "S6",
            [
                (full, tuned["moco"], SUPERVISED, "above"),
                *((full, tuned["moco"], tuned[m], "above") for m in tuned if m != "moco"),
            ],
        )
        | {
            "figures": [
                value("accuracy", full, tuned["moco"]),
                value(MEAN, full, tuned["moco"]),
                gap("difference", full, tuned["moco"]),
            ]
        },
        signs(
            "S7",
            [
                (full, tuned["simclr"], SUPERVISED, "above"),
                (quarter, tuned["simclr"], SUPERVISED, "below"),
            ],
        )
        | gaps(tuned["simclr"], SUPERVISED),
        signs(
            "S8",
            [
                *((full, frozen["aim"], frozen[m], "above") for m in frozen if m != "aim"),
                *((quarter, frozen["aim"], frozen[m], "below") for m in ("simclr", "moco")),
            ],
            "accuracy",
        )
        | {
            "figures": [
                value("frozen_full", full, frozen["aim"], "accuracy"),
                value("frozen_quarter", quarter, frozen["aim"], "accuracy"),
            ]
        },
        signs(
            "S9",
            [
                *(
                    (part, frozen["mae"], frozen[m], "below")
                    for part in (full, quarter)
                    for m in frozen
                    if m != "mae"
                ),
                (quarter, tuned["mae"], SUPERVISED, "above"),
                *((quarter, tuned["mae"], tuned[m], "above") for m in tuned if m != "mae"),
            ],
        )
        | {
            "figures": [
                value("frozen_full", full, frozen["mae"], "accuracy"),
                gap("difference_quarter", quarter, tuned["mae"]),
            ]
        },
        signs(
            "S10",
            [
                (skewed, each[m], SUPERVISED, "does not reach")
                for each in (frozen, tuned)
                for m in each
            ],
        )
        | {
            "figures": [
                # The best by the source's test scores is its fine-tuned MAE.
                value("best_ssl", skewed, tuned["mae"]),
                value("supervised", skewed),
            ]
        },
        signs("S11", [(few, tuned["mae"], SUPERVISED, "above")])
        | {"figures": [gap("difference", few, tuned["mae"])]},
        _trio(cells, settings),
        signs(
            "S13",
            [
                (full, (f"{method}, blur", backbone), (method, backbone), "below")
                for method in ("simclr", "moco")
                for backbone in ("frozen", "fine-tuned")
            ],
        ),
        signs("S14", [(full, twice, SUPERVISED, "below")], "accuracy")
        | {"figures": [_gap("difference", full, twice, SUPERVISED, "accuracy", False, 0.1)]},
        _static(full),
        _duplicates(runs, settings),
        signs(
            "S17",
            [(part, larger, tuned["moco"], "does not improve") for part in (full, quarter)],
        )
        | gaps(larger, tuned["moco"]),
        signs(
            "S18",
            [
                (full, more, tuned["moco"], "does not improve"),
                (quarter, more, tuned["moco"], "above"),
            ],
        )
        | gaps(more, tuned["moco"]),
        signs(
            "S19",
            [
                (quarter, (f"{m}, unbalanced images", b), (f"{m}, balanced images", b), "below")
                for m in ("simclr", "moco")
                for b in ("frozen", "fine-tuned")
            ],
        ),
        _figures("S20", [value(MEAN, few, tuned["aim"])]),
    ]
    for row in found:
        claim, own = row["claim"], smaller and row["claim"].reduced != "source"
        row["protocol"] = "reduced" if own else "report"
        row["deviation"] = f"{deviation(settings, own)} {DEVIATIONS.get(claim.id, '')}".strip()
        row["note"] = f"{row['note']} {READINGS.get(claim.id, '')}".strip()
    return found


DEVIATIONS = {
    "S18": "The extra cells are those of the first of the source's two sets, which is 4,889 of its "
    "11,033 images."
}
READINGS = {"S13": "The source says this of SimCLR; its MoCo goes without blur as well."}


def deviation(settings: Settings, reduced: bool) -> str:
    """What differs from the source under a claim: rebuilt data sets, less training."""
    said = [f"{name} is {REBUILDS[name].title}." for name in settings.datasets if rebuilt(name)]
    if reduced:
        said.append(
            f"Protocol reduced: pretrained for {settings.reduced_epochs} epochs (the source: "
            f"{SOURCE_EPOCHS}, MAE 50), fine-tuned for fewer, and with narrower transformers."
        )
    if settings.epochs != SOURCE_EPOCHS:
        said.append(f"Trained for {settings.epochs} of the source's {SOURCE_EPOCHS} epochs.")
    return " ".join(said)


def rebuilt(dataset: str) -> bool:
    """Whether the files at hand are a rebuild of the data set."""
    return dataset in REBUILDS and data.md5(dataset) == REBUILDS[dataset].md5


def split_variance(rows: pd.DataFrame, metric: str) -> float:
    """What other test images may change on a rebuild; zero elsewhere and without rows."""
    if rows.empty or not rebuilt(rows["dataset"].iloc[0]):
        return 0.0
    return results.split_variance(rows, metric)


def _row(name: str, ours, verdict: Verdict, n: int | None = None, note: str = "") -> dict[str, Any]:
    reason = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}. {note}".strip()
    row = {"claim": published.claim(name), "ours": ours, "verdict": verdict, "note": reason}
    return row if n is None else row | {"n": n}


def _figures(name: str, figures: list[Printed]) -> dict[str, Any]:
    """Printed figures, judged with the luck of another draw of the test images on rebuilds."""
    verdict = verdicts.figures(published.claim(name), figures)
    shown = [percent(results.interval([value / 100 for value in each.values])) for each in figures]
    n = max(len(each.values) for each in figures)
    luck = [f"{1.96 * each.split_variance**0.5:.1f}" for each in figures if each.split_variance]
    note = (
        "The test images of a rebuild are others than the source's: the luck of two such draws "
        f"alone puts {', '.join(luck)} points between figures (95%), which the verdict allows for."
        if luck
        else ""
    )
    row = _row(name, "; ".join(shown) if n else NOT_RUN, verdict, n, note)
    return row | {"figures": figures}


def _value(key: str, frame: pd.DataFrame, method: tuple, metric: str, smaller: bool) -> Printed:
    metric = metric or ("accuracy" if key.startswith("accuracy") else MEAN)
    found = results.cell(frame, *method)
    return Printed.percent(
        key,
        found[metric],
        0.01,
        comparisons.luck(found),
        split_variance(found, metric),
        SMALLER if smaller and method != SUPERVISED else None,
    )


def _gap(
    key: str,
    frame: pd.DataFrame,
    method: tuple,
    other: tuple,
    metric: str,
    smaller: bool,
    rounding: float = 0.01,
) -> Printed:
    """A printed difference. Two networks have the same test images, which makes the luck of their
    draw smaller for the difference than the sum that is taken here."""
    found = results.differences(frame, method, other, metric)
    variance = sum(split_variance(results.cell(frame, *each), metric) for each in (method, other))
    return Printed.percent(
        key, found.values(), rounding, None, variance, SMALLER if smaller else None
    )


def control(method: tuple[str, str], settings: Settings) -> tuple[str, str]:
    """The untrained backbone of a method, fine-tuned by the same classifier and recipe."""
    name, backbone = method
    return f"random {backbone_name(name.split(',')[0], settings.grid)}", backbone


def _signs(claim: Claim, parts: list[tuple], metric: str, settings: Settings) -> dict[str, Any]:
    """What is claimed of paired differences. parts: frame, method, other, and what is claimed, as
    `fewlabels.verdicts.compared` takes it.

    At the reduced budget a gain over the supervised network is judged against the method's control
    where the claim says so; the comparison with the supervised network is in the note.
    """
    smaller = settings.grid == "reduced" and claim.reduced != "source"
    margin = claim.margin_of("difference")
    cells, tested, beside = [], [], []
    for frame, method, other, claimed in parts:
        less = smaller and other == SUPERVISED
        given = (frame, metric, claimed, margin)
        if less and claim.reduced == "control":
            name, verdict, found = _compared(method, other, *given, less_trained=True)
            beside += [f"{name}: {verdict.reason}"] if found else []
            other, less = control(method, settings), False
        name, verdict, found = _compared(method, other, *given, less_trained=less)
        cells.append((name, verdict))
        tested += [found] if found else []
    verdict = verdicts.everywhere(cells)
    note = f"Beside the control: {'; '.join(beside)}." if beside else ""
    if len(parts) == 1 or not tested:
        return _row(claim.id, tested[0] if tested else None, verdict, note=note)
    low, high = min(d.mean for d in tested), max(d.mean for d in tested)
    span = f"{percent(low, sign=True)} to {percent(high, sign=True)} points"
    return _row(claim.id, span, verdict, min(d.n for d in tested), note)


def _compared(method, other, frame, metric, claimed, margin, less_trained):
    """Name, verdict and paired difference of one comparison."""
    found = comparisons.difference(
        results.cell(frame, *method), results.cell(frame, *other), metric
    )
    where = "".join(f", {frame[key].iloc[0]}" for key in ("dataset", "labels") if len(frame))
    name = f"{results.named(*method)} against {results.named(*other)}{where}"
    return name, verdicts.compared(found, claimed, margin, less_trained), found


def _trio(cells: dict, settings: Settings) -> dict[str, Any]:
    """S12: how much more often classes 0, 3 and 5 are mixed up than any other two."""
    models = [SUPERVISED] + [(m, b) for m in SOURCE_METHODS for b in ("frozen", "fine-tuned")]
    if len(data.load(settings.blood).classes) <= max(TRIO):
        reason = f"{settings.blood} has no class {max(TRIO)}"
        return _row("S12", None, Verdict("not tested", reason))
    margin = published.claim("S12").margin_of("difference")
    each, excess = [], []
    for labels in (ALL, QUARTER):
        for model in models:
            rows = results.cell(cells[settings.blood, labels], *model)
            found = results.mixed_up(rows, settings.blood, TRIO)
            excess += [comparisons.of_gaps(found, rows)] if found else []
            verdict = verdicts.direction(excess[-1] if found else None, +1, margin)
            each.append((f"{results.named(*model)}, {labels}", verdict))
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
        over = mean_difference([value - LIMIT for value in found]) if found else None
        each.append((f"rate {rate:g} against 90%", verdicts.at_most(over, 0)))
        shown.append(percent(results.interval(found)))
        n = max(n, len(found))
    return _row("S15", "; ".join(shown) if n else NOT_RUN, verdicts.everywhere(each), n)


def _duplicates(runs: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """S16: a search, not a sample: it holds where equal images lie in training and validation."""
    record = results.search(runs, settings.blood)
    if record is None:
        return _row("S16", None, Verdict("not tested", NOT_RUN))
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
    return _row("S16", ours, Verdict("agrees" if across else "contradicted", reason), 1)
