"""Verdicts on claims R1 to R9, each from the records and the rule in `fewlabels.verdicts`."""

import math
from typing import Any

import pandas as pd

from fewlabels import published, verdicts
from fewlabels.chapters.rotnet_mnist import results
from fewlabels.chapters.rotnet_mnist.planning import Settings
from fewlabels.statistics import mean_interval, unpaired_difference
from fewlabels.tables import number, percent
from fewlabels.verdicts import Printed

CNN = ("cnn", "scratch")
ROTNET = ("rotnet", "frozen")
REGULARISED = ("rotnet, regularised", "frozen")
SOURCE_EPOCHS = 20


def rows(runs: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Rows for `fewlabels.tables.claims_table`, R1 to R9, all under protocol ``report``."""
    turned, tried = results.rotations(runs, "report"), results.starts(runs)
    hundred = results.digits(runs, "report")
    cnn, rotnet = (
        hundred[(hundred["method"] == method) & (hundred["backbone"] == backbone)]
        for method, backbone in (CNN, ROTNET)
    )
    shorter = (
        f"Pretrained for {settings.pretraining_epochs} of the source's {SOURCE_EPOCHS} epochs."
        if settings.pretraining_epochs != SOURCE_EPOCHS
        else ""
    )
    failed = sum(not results.learned(record) for record in tried["record"])
    shorter = (
        f"{shorter} Over the seeds that learned: {failed} of {len(tried)} stay at chance."
    ).strip()
    network = results.networks(rotnet)
    by_network = f"{len(network)} label draws on {len(set(network.values()))} pretrained networks."
    recalls = results.recalls(rotnet, settings)
    found = [
        _figure("R1", turned["accuracy"], "rotation_accuracy", "Of a run that learns."),
        _worst("R2", turned.set_index("draw")[_recall_columns(turned)], "180"),
        _figure("R3", rotnet["accuracy"], "accuracy", by_network),
        _figure("R4", cnn["accuracy"], "accuracy"),
        _difference("R5", results.paired(hundred, ROTNET, CNN), -1, by_network)
        | {"figures": [Printed.percent("difference", _differences(rotnet, cnn), 1)]},
        _worst("R6", recalls.groupby(recalls.index.map(network)).mean(), "5", by_network),
        _oscillation(runs),
        _regularisation(hundred, rotnet, by_network),
        _turning_point(cnn),
    ]
    own = {"R4", "R9"}
    return [row if row["claim"].id in own else row | {"deviation": shorter} for row in found]


def _row(name: str, ours, verdict: verdicts.Verdict, note: str = "", n: int | None = None):
    note = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}. {note}".strip()
    row = {"claim": published.claim(name), "ours": ours, "verdict": verdict, "note": note}
    return row if n is None else row | {"n": n}


def _figure(name: str, values: pd.Series, key: str, note: str = "") -> dict[str, Any]:
    printed = published.claim(name).published[key]
    verdict = verdicts.figure(printed, results.one_more(values), rounding=1)
    row = _row(name, mean_interval(values) if len(values) else None, verdict, note)
    return row | {"figures": [Printed.percent(key, values, 1)]}


def _worst(name: str, values: pd.DataFrame, column: str, note: str = "") -> dict[str, Any]:
    """A class with the lowest recall of all: one row of ``values`` per pretrained network."""
    values = values.rename(columns=lambda each: each.removeprefix("recall_"))
    if values.empty:
        return _row(name, None, verdicts.direction(None, 1))
    verdict = verdicts.extreme(values, column, worst=True)
    lowest = (values.idxmin(axis=1) == column).sum()
    note = f"It is the lowest in {lowest} of {len(values)} networks. {note}".strip()
    row = _row(name, mean_interval(values[column]), verdict, note)
    return row | {"figures": [Printed.percent(f"recall_{column}", values[column], 1)]}


def _differences(a: pd.DataFrame, b: pd.DataFrame) -> list[float]:
    """Accuracy of ``a`` minus that of ``b`` over the draws both have."""
    first, second = (each.set_index("draw")["accuracy"] for each in (a, b))
    return [*(first - second).dropna()]


def _difference(name: str, difference, claimed: int, note: str = "") -> dict[str, Any]:
    return _row(name, difference, verdicts.direction(difference, claimed), note)


def _oscillation(runs: pd.DataFrame) -> dict[str, Any]:
    """R7: late in training, validation accuracy is less steady at the report's rate."""
    report, tuned = (
        results.roughness(results.rotations(runs, protocol)) for protocol in ("report", "tuned")
    )
    rough = [*report.values(), *tuned.values()]
    if min(len(report), len(tuned)) < 2 or not all(map(math.isfinite, rough)):
        return _row("R7", None, verdicts.direction(None, +1))
    # Not paired: the two protocols share no more than the number of the seed.
    difference = unpaired_difference([*report.values()], [*tuned.values()])
    verdict = verdicts.direction(difference, +1)
    ours = f"{percent(mean_interval([*report.values()]))} points off its neighbours' middle"
    network = (
        "Points of the curve, each a twentieth of its training from the next; compared with "
        "protocol tuned, whose network, schedule and length differ as well as its rate."
    )
    return _row("R7", ours, verdict, network, n=len(report))


def _regularisation(hundred: pd.DataFrame, rotnet: pd.DataFrame, by_network: str) -> dict[str, Any]:
    """R8: the head fits its own images better than others, and deforming them helps."""
    regularised = hundred[hundred["method"] == REGULARISED[0]]
    fitted = [
        mean_interval([record.curves["train_accuracy"][-1] for record in rows["record"]])
        for rows in (rotnet, regularised)
    ]
    note = (
        f"Training accuracy {percent(fitted[0])}, test accuracy "
        f"{percent(mean_interval(rotnet['accuracy']))}. Both remedies at once, at one strength and "
        f"in as many steps: training accuracy {percent(fitted[1])}. {by_network}"
    )
    return _difference("R8", results.paired(hundred, REGULARISED, ROTNET), +1, note)


def _turning_point(cnn: pd.DataFrame) -> dict[str, Any]:
    """R9: the epoch of the lowest validation loss."""
    epochs = results.epochs_of_lowest_loss(cnn)
    verdict = verdicts.figure(
        published.claim("R9").published["epoch"],
        results.one_more(epochs),
        rounding=1,
        in_percent=False,
    )
    row = _row("R9", f"epoch {number(mean_interval(epochs))}", verdict, n=len(epochs))
    return row | {"figures": [Printed("epoch", [*epochs], 1)]}


def _recall_columns(turned: pd.DataFrame) -> list[str]:
    return [column for column in turned.columns if column.startswith("recall_")]
