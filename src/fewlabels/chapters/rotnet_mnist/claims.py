"""Verdicts on claims R1 to R9, each from the records and the rules in `fewlabels.verdicts`."""

import math
from typing import Any

import pandas as pd

from fewlabels import comparisons, published, statistics, tables, verdicts
from fewlabels.chapters.rotnet_mnist import results
from fewlabels.chapters.rotnet_mnist.planning import Settings
from fewlabels.statistics import PairedDifference, fraction_interval, unpaired_difference
from fewlabels.tables import number, percent
from fewlabels.verdicts import Printed, Verdict

CNN = ("cnn", "scratch")
ROTNET = ("rotnet", "frozen")
REGULARISED = ("rotnet, regularised", "frozen")
SOURCE_EPOCHS = 20


def rows(runs: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Rows for `fewlabels.tables.claims_table`, R1 to R9, all under protocol ``report``."""
    turned, tried = results.rotations(runs, "report"), results.starts(runs)
    hundred = results.digits(runs, "report")
    cnn, rotnet = (results.cell(hundred, each) for each in (CNN, ROTNET))
    shorter = (
        f"Pretrained for {settings.pretraining_epochs} of the source's {SOURCE_EPOCHS} epochs. "
        if settings.pretraining_epochs != SOURCE_EPOCHS
        else ""
    )
    if len(tried):
        learn = tables.share((results.learned(record) for record in tried["record"]), "seeds")
        shorter += f"{learn} learn the pretext task; the figures are of runs that learn."
    by_network = f"{len(rotnet)} label draws on {len(set(comparisons.luck(rotnet)))} networks."
    found = [
        _figure("R1", turned, "rotation_accuracy"),
        _worst("R2", turned.set_index("draw")[_recall_columns(turned)], "180"),
        _figure("R3", rotnet, "accuracy", by_network),
        _figure("R4", cnn, "accuracy"),
        _worse(rotnet, cnn, by_network),
        _worst("R6", _by_network(rotnet, settings), "5", by_network),
        _oscillation(runs),
        _regularisation(hundred, rotnet, by_network),
        _turning_point(cnn),
    ]
    own = {"R4", "R9"}
    return [
        row if row["claim"].id in own else row | {"deviation": shorter.strip()} for row in found
    ]


def pretraining_is_worse(difference: PairedDifference | None) -> Verdict:
    """Verdict on what R5 claims, of pretrained minus plain."""
    return verdicts.direction(difference, -1, published.claim("R5").margin_of("difference"))


def _row(name: str, ours, verdict: Verdict, note: str = "", n: int | None = None):
    note = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}. {note}".strip()
    row = {"claim": published.claim(name), "ours": ours, "verdict": verdict, "note": note}
    return row if n is None else row | {"n": n}


def _figure(name: str, rows: pd.DataFrame, key: str, note: str = "") -> dict[str, Any]:
    parts = [Printed.percent(key, rows["accuracy"], 1, comparisons.luck(rows))]
    verdict = verdicts.figures(published.claim(name), parts)
    return _row(name, comparisons.fraction(rows, "accuracy"), verdict, note) | {"figures": parts}


def _worst(name: str, values: pd.DataFrame, column: str, note: str = "") -> dict[str, Any]:
    """A class with the lowest recall of all: one row of ``values`` per pretrained network."""
    values = values.rename(columns=lambda each: each.removeprefix("recall_"))
    if values.empty:
        return _row(name, None, Verdict("not tested", tables.NOT_RUN))
    verdict = verdicts.extreme(values, column, worst=True)
    lowest = (values.idxmin(axis=1) == column).sum()
    note = f"It is the lowest in {lowest} of {len(values)} networks. {note}".strip()
    row = _row(name, fraction_interval(values[column]), verdict, note)
    return row | {"figures": [Printed.percent(f"recall_{column}", values[column], 1)]}


def _by_network(rotnet: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Recall of every digit, one row per pretrained network."""
    recalls = results.recalls(rotnet, settings)
    return recalls.groupby(dict(zip(rotnet["draw"], comparisons.luck(rotnet), strict=True))).mean()


def _worse(rotnet: pd.DataFrame, cnn: pd.DataFrame, note: str) -> dict[str, Any]:
    """R5, and the printed difference against those of single draws."""
    difference = comparisons.difference(rotnet, cnn, "accuracy")
    first, second = (each.set_index("draw")["accuracy"] for each in (rotnet, cnn))
    gaps = (first - second).dropna()
    luck = dict(zip(rotnet["draw"], comparisons.luck(rotnet), strict=True))
    part = Printed.percent("difference", gaps, 1, [luck[draw] for draw in gaps.index])
    row = _row("R5", difference, pretraining_is_worse(difference), note)
    return row | {"figures": [part]}


def _oscillation(runs: pd.DataFrame) -> dict[str, Any]:
    """R7: late in training, validation accuracy is less steady at the report's rate."""
    report, tuned = (
        results.roughness(results.rotations(runs, protocol)) for protocol in ("report", "tuned")
    )
    rough = [*report.values(), *tuned.values()]
    if min(len(report), len(tuned)) < 2 or not all(map(math.isfinite, rough)):
        return _row("R7", None, Verdict("not tested", tables.NOT_RUN))
    # Not paired: the two protocols share no more than the number of the seed.
    difference = unpaired_difference([*report.values()], [*tuned.values()])
    verdict = verdicts.direction(difference, +1, published.claim("R7").margin_of("difference"))
    ours = (
        f"{percent(fraction_interval([*report.values()]))} points from the mean of its neighbours"
    )
    network = (
        "Points of the curve, each a twentieth of its training from the next; compared with "
        "protocol tuned, whose network, schedule and length differ as well as its rate."
    )
    return _row("R7", ours, verdict, network, n=len(report))


def _regularisation(hundred: pd.DataFrame, rotnet: pd.DataFrame, by_network: str) -> dict[str, Any]:
    """R8: the head fits its own images better than others, and deforming them helps."""
    regularised = results.cell(hundred, REGULARISED)
    fitted = [
        fraction_interval(
            [record.curves["train_accuracy"][-1] for record in rows["record"]],
            comparisons.luck(rows),
        )
        for rows in (rotnet, regularised)
    ]
    note = (
        f"Training accuracy {percent(fitted[0])}, test accuracy "
        f"{percent(comparisons.fraction(rotnet, 'accuracy'))}. Both remedies at once, at one "
        f"strength and in as many steps: training accuracy {percent(fitted[1])}. {by_network}"
    )
    difference = comparisons.difference(regularised, rotnet, "accuracy")
    verdict = verdicts.direction(difference, +1, published.claim("R8").margin_of("difference"))
    return _row("R8", difference, verdict, note)


def _turning_point(cnn: pd.DataFrame) -> dict[str, Any]:
    """R9: the epoch of the lowest validation loss."""
    part = Printed("epoch", results.epochs_of_lowest_loss(cnn), 1)
    verdict = verdicts.figures(published.claim("R9"), [part])
    ours = statistics.mean_interval(part.values)
    return _row("R9", f"epoch {number(ours)}", verdict, n=ours.n) | {"figures": [part]}


def _recall_columns(turned: pd.DataFrame) -> list[str]:
    return [column for column in turned.columns if column.startswith("recall_")]
