"""Answers to questions D1 to D5, each from the records and the rules in `fewlabels.verdicts`.

The sheet asks and prints no figures. What every question is taken to ask is its hypothesis in
``reference/claims.yaml``.
"""

from typing import Any

import pandas as pd

from fewlabels import published, verdicts
from fewlabels.chapters.few_data_caltech import planning, results
from fewlabels.chapters.few_data_caltech.planning import Settings
from fewlabels.experiments.few_photographs import AUGMENTATIONS, BATCH
from fewlabels.statistics import FEWEST, PairedDifference
from fewlabels.tables import number, percent

AS_IT_IS = "accuracy, as it is"


def rows(runs: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Rows for `fewlabels.tables.claims_table`, D1 to D5."""
    small = (
        f"The sheet's network at {settings.scratch_size} pixels, {settings.scratch_steps} steps."
    )
    network = planning.networks(settings)[0].title
    return [
        _small_network(runs, settings) | {"deviation": small},
        _augmentation(runs, settings) | {"deviation": small},
        _features(runs, settings)
        | {"protocol": "tuned", "deviation": f"{small} Features: {network}, {settings.size} px."},
        _fine_tuning(runs, settings)
        | {"protocol": "tuned", "deviation": f"{network}, at {settings.tuning_size} pixels."},
        _new_photograph(runs, settings) | {"protocol": "tuned", "deviation": f"{network}."},
    ]


def _row(name: str, difference: PairedDifference | None, note: str) -> dict[str, Any]:
    """The row of a question whose hypothesis is that a difference is positive."""
    verdict = answered(name, difference)
    note = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}. {note}".strip()
    return {"claim": published.claim(name), "ours": difference, "verdict": verdict, "note": note}


def answered(name: str, difference: PairedDifference | None) -> verdicts.Verdict:
    """The answer to a question whose hypothesis is that a difference is positive."""
    margin = published.claim(name).margin_of("difference")
    return verdicts.answer(verdicts.direction(difference, +1, margin))


def _small_network(runs: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """D1: the small network knows its own images and not the others."""
    rows, native = results.small(runs, settings), results.native(runs, settings)
    gap = results.gap(rows) if len(rows) else None
    note = ""
    if len(native):
        total = native["record"].iloc[0].parameters["total"]
        there = results.gap(native)
        if there.n < FEWEST:
            there = there.mean
        note = (
            f"{number(total, 0)} parameters at {settings.size} pixels, "
            f"{number(seconds_per_pass(native, settings), 1)} seconds a pass over the training "
            f"images; the gap there is {percent(there, sign=True)} points (n = {len(native)})."
        )
    return _row("D1", gap, note)


def seconds_per_pass(rows: pd.DataFrame, settings: Settings) -> float:
    """Median time of a run over the number of its passes through the training images."""
    return float(rows["seconds"].median()) / passes(rows["steps"].iloc[0], settings)


def passes(steps: float, settings: Settings) -> float:
    """Passes over the whole training part that so many batches make."""
    return steps / -(-len(results.tested(settings, 0)[0]) // BATCH)


def augmentations(runs: pd.DataFrame, settings: Settings) -> dict[str, PairedDifference | None]:
    """Accuracy of the small network under each augmentation minus that without, by split."""
    plain = results.small(runs, settings)
    return {
        name: results.paired(results.small(runs, settings, augmentation=name), plain)
        for name in AUGMENTATIONS
        if name != "none"
    }


def _augmentation(runs: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """D2: the sheet's vertical flip helps the sheet's network."""
    differences = augmentations(runs, settings)
    flip = differences["vertical flip"]
    others = {name: found for name, found in differences.items() if found and found is not flip}
    note = ""
    if others:
        each = (f"{name} {percent(found, sign=True)}" for name, found in others.items())
        note = f"The others, in points: {'; '.join(each)}."
    return _row("D2", flip, note)


def _features(runs: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """D3: frozen features under an MLP beat the network trained from scratch."""
    ours, scratch = results.on_features(runs, settings), results.small(runs, settings)
    difference = results.paired(ours, scratch)
    note = ""
    if difference is not None:
        note = (
            f"{percent(planning.share(ours['accuracy']))} against "
            f"{percent(planning.share(scratch['accuracy']))}%."
        )
    return _row("D3", difference, note)


def _fine_tuning(runs: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """D4: training the last block on beats the fixed features it starts from."""
    fixed = results.on_features(runs, settings, size=settings.tuning_size)
    difference = results.paired(results.fine_tuned(runs, settings, 1), fixed)
    return _row("D4", difference, f"At {settings.tuning_size} pixels, one block.")


def _new_photograph(runs: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """D5: what stands in for new photographs are test photographs as files."""
    rows = results.chosen(runs, kind="recognition")
    reason = "no photograph of the four classes from outside the data set is at hand"
    verdict = verdicts.Verdict("not tested", reason)
    note, ours = "", None
    if len(rows):
        ours = f"{percent(planning.share(rows[AS_IT_IS]))}% of the data set's test photographs"
        note = (
            "In their place: test photographs written to files and read by `fewlabels classify`'s "
            "function; always naming the largest class is right for "
            f"{percent(largest_class(settings))}%."
        )
    note = f"{reason[:1].upper()}{reason[1:]}. {note}".strip()
    row = {"claim": published.claim("D5"), "ours": ours, "verdict": verdict, "note": note}
    return row | {"n": len(rows)}


def largest_class(settings: Settings) -> float:
    """Share of the most frequent class in the first split's test part; splits are by class."""
    labels = results.load(settings).labels[results.tested(settings, 0)[1]]
    return labels.bincount().max().item() / len(labels)
