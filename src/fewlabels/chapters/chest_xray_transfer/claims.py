"""Verdicts on claims C1 to C7, each from the records and the rules in `fewlabels.verdicts`."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchvision

from fewlabels import published, verdicts
from fewlabels.chapters.chest_xray_transfer import results
from fewlabels.chapters.chest_xray_transfer.planning import Settings
from fewlabels.chapters.chest_xray_transfer.results import (
    ALL_LAYERS,
    CNN,
    HEAD,
    SMALL,
    TRANSFER,
    WEIGHTED,
)
from fewlabels.models.xray_cnn import TenConvolutions
from fewlabels.statistics import PairedDifference
from fewlabels.tables import number, percent
from fewlabels.verdicts import Printed, Verdict

SOURCE_SIZE = 224
SOURCE_EPOCHS = 15
SOURCE_MACHINE = "P100"
PRINTED = {
    "accuracy": ("accuracy", "accuracy"),
    "balanced_accuracy": ("mean_class_accuracy", "balanced accuracy"),
    "cohen_kappa": ("cohen_kappa", "kappa"),
}
"""Printed figure -> metric of a run, and its name in a note."""


OPEN = Verdict(
    "not identifiable", "the source does not print which layers of the ResNet-50 it trained"
)
RECALLS = {"recall_normal_transfer": TRANSFER, "recall_normal_cnn": CNN}


def rows(runs: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Rows for `fewlabels.tables.claims_table`, C1 to C7, under protocol ``report``."""
    smaller, cnn = "", results.select(runs, CNN)
    if len(cnn) and (differs := where_the_source(settings)):
        smaller = (
            f"The ten convolutions were trained at {settings.cnn_size} pixels for "
            f"{settings.cnn_epochs} epochs{differs}."
        )
    found = [
        _figures("C1", results.select(runs, TRANSFER), _readings(runs), OPEN)
        | {"deviation": _head_only(settings)},
        _figures("C2", cnn),
        _transfer_beats(runs),
        _imbalance(runs),
        _parameters(runs),
        _overfitting(runs),
        _time(runs),
    ]
    with_cnn = {"C2", "C3", "C4", "C6"}
    return [row | {"deviation": smaller} if row["claim"].id in with_cnn else row for row in found]


def _row(name: str, ours, verdict: Verdict, note: str = "", n: int | None = None):
    note = f"{verdict.reason[:1].upper()}{verdict.reason[1:]}. {note}".strip()
    row = {"claim": published.claim(name), "ours": ours, "verdict": verdict, "note": note}
    return row if n is None else row | {"n": n}


def where_the_source(settings: Settings) -> str:
    """The source's size and epochs of its ten convolutions, where they are not ours."""
    differs = []
    if settings.cnn_size != SOURCE_SIZE:
        differs.append(f"{SOURCE_SIZE} pixels")
    if settings.cnn_epochs != SOURCE_EPOCHS:
        differs.append(f"{SOURCE_EPOCHS} epochs")
    return f" (the source: {', '.join(differs)})" if differs else ""


def _head_only(settings: Settings) -> str:
    weights = settings.weights or "torchvision's"
    return (
        "The source does not print which layers it trains; read, from its printed count, as the "
        f"head alone. Weights {weights}; {settings.crops} random crop of each training image for "
        "all epochs."
    )


def _figures(
    name: str, group: pd.DataFrame, note: str = "", instead: Verdict | None = None
) -> dict[str, Any]:
    """C1 and C2: three printed figures, of the runs that learn."""
    group, failures = results.learned(group), results.failures(group)
    figures = [
        Printed.percent(key, group[metric], 0.1, instead=instead)
        for key, (metric, _) in PRINTED.items()
    ]
    ours = [
        f"{words} {percent(results.interval(group, metric))}" for metric, words in PRINTED.values()
    ]
    verdict = verdicts.figures(published.claim(name), figures)
    note = f"{failures}. {note}".strip(". ") + "." if failures else note
    row = _row(name, "; ".join(ours) if len(group) else None, verdict, note, n=len(group))
    return row | {"figures": figures}


def _readings(runs: pd.DataFrame) -> str:
    """What either reading of the source gives."""
    printed = published.claim("C1").published["balanced_accuracy"]
    found = {
        "the head alone": results.learned(results.select(runs, TRANSFER)),
        "all layers of a smaller ResNet": results.select(runs, ALL_LAYERS),
    }
    each = (
        f"{name} {percent(results.interval(group, 'mean_class_accuracy'))} (n = {len(group)})"
        for name, group in found.items()
    )
    return f"Balanced accuracy, of which {printed:g} is printed: {', '.join(each)}."


def _transfer_beats(runs: pd.DataFrame) -> dict[str, Any]:
    """C3: open with the layers, whatever either reading gives."""
    readings = {
        words: results.difference(runs, role, other, "mean_class_accuracy")
        for words, role, other in (
            ("the head alone", TRANSFER, CNN),
            ("all layers of a smaller ResNet", ALL_LAYERS, CNN),
            ("protocol tuned", HEAD, SMALL),
        )
    }
    each = (
        f"{words} {percent(found, sign=True)} (n = {found.n if found else 0})"
        for words, found in readings.items()
    )
    note = f"Balanced accuracy less that of the convolutions, in points: {', '.join(each)}."
    if failures := results.failures(results.select(runs, CNN)):
        note += f" Of the ten convolutions, {failures}."
    own = readings["the head alone"]
    row = _row("C3", own, OPEN, note)
    transfer, cnn = (
        results.by_seed(results.learned(results.select(runs, name)), "mean_class_accuracy")
        for name in (TRANSFER, CNN)
    )
    gaps = [transfer[seed] - cnn[seed] for seed in transfer.keys() & cnn.keys()]
    figure = Printed.percent("difference_balanced_accuracy", gaps, 0.1, instead=OPEN)
    return row | {"figures": [figure]}


def causes(runs: pd.DataFrame, name: str) -> dict[str, PairedDifference | None]:
    """What lowers the test recall of NORMAL of one model, paired by seed.

    ``weights``, ``threshold``: what class weights and a threshold moved on validation images give
    back. ``shift``: what the network with class weights, for which the classes are balanced, loses
    from validation to test images. ``surplus``: what the weights give minus that shift. None where
    runs are missing. Runs that fail to learn are left out: they have no recall to lose, and a
    threshold turns them from one constant into the other.
    """
    plain, weighted = (
        results.learned(results.select(runs, f"{name}{balance}")).set_index("seed")
        for balance in ("", WEIGHTED)
    )
    gains = (weighted["recall_normal"] - plain["recall_normal"]).dropna()
    shift = (weighted["valid_recall_normal"] - weighted["recall_normal"])[gains.index]
    found = {
        "weights": gains,
        "threshold": plain["moved_recall_normal"] - plain["recall_normal"],
        "shift": shift,
        "surplus": gains - shift,
    }
    return {
        key: results.paired(values.to_dict(), dict.fromkeys(values.index, 0.0))
        for key, values in found.items()
    }


def _imbalance(runs: pd.DataFrame) -> dict[str, Any]:
    """C4: imbalance explains the low recall of NORMAL, for both models."""
    claim, parts, texts = published.claim("C4"), [], []
    for name in (TRANSFER, CNN):
        found, words = causes(runs, name), constant(runs, name)
        verdict = verdicts.direction(found["surplus"], +1, claim.margin_of("difference"))
        if found["surplus"] is None and words:
            verdict = Verdict("not tested", words)
        elif words:
            verdict = replace(verdict, reason=f"{verdict.reason}, where {words}")
        parts.append((f"{name}, the head alone" if name == TRANSFER else name, verdict))
        texts.append(
            f"{name}: class weights give {percent(found['weights'], sign=True)}, a moved threshold "
            f"{percent(found['threshold'], sign=True)}; with weights, validation to test costs "
            f"{percent(found['shift'])}"
        )
    learned = {name: results.learned(results.select(runs, name)) for name in (TRANSFER, CNN)}
    n = min(map(len, learned.values()))
    rule = "Recall of NORMAL in points; the difference is what the weights give minus that cost."
    row = _row("C4", "; ".join(texts), verdicts.everywhere(parts), rule, n=n)
    figures = [
        Printed.percent(
            key,
            learned[name]["recall_normal"],
            1,
            instead=OPEN if name == TRANSFER else None,
        )
        for key, name in RECALLS.items()
    ]
    return row | {"figures": figures}


def constant(runs: pd.DataFrame, name: str) -> str:
    """How many runs of a model learn, without and with class weights; empty where all do."""
    found = {
        words: results.failures(results.select(runs, f"{name}{balance}"))
        for words, balance in (("", ""), ("with class weights ", WEIGHTED))
    }
    return ", ".join(f"{words}{count}" for words, count in found.items() if count)


def _parameters(runs: pd.DataFrame) -> dict[str, Any]:
    """C5: the counts, which need no run."""
    printed = published.claim("C5").published
    head = 2 * 2048 + 2
    cnn = sum(parameter.numel() for parameter in TenConvolutions(2).parameters())
    figures = [
        Printed(
            "trainable_transfer",
            [head],
            0,
            instead=replace(OPEN, reason=f"{OPEN.reason}; a head has {head:,}"),
        ),
        Printed("trainable_cnn", [cnn], 0),
    ]
    first, _ = first_tensors(printed["trainable_transfer"])
    note = (
        f"The first printed figure is the size of the first {first} tensors of a ResNet-50."
        if first
        else ""
    )
    ours = f"head {number(head, 0)}; ten convolutions {number(cnn, 0)}"
    verdict = verdicts.figures(published.claim("C5"), figures)
    return _row("C5", ours, verdict, note, n=1) | {"figures": figures}


def first_tensors(count: int) -> tuple[int, int]:
    """How many of a ResNet-50's tensors, from its first one on, have ``count`` values together (0
    where none do), and how many values it has without its last layer."""
    with torch.device("meta"):
        network = torchvision.models.resnet50(weights=None)
    sums = np.cumsum([parameter.numel() for parameter in network.parameters()])
    found = np.flatnonzero(sums == count)
    return (int(found[0]) + 1 if len(found) else 0), int(sums[-3])


def _overfitting(runs: pd.DataFrame) -> dict[str, Any]:
    """C6: training accuracy is not visibly above validation accuracy; the test gap beside it."""
    margin = published.claim("C6").margin_of("difference")
    parts, texts = [], []
    for name in (TRANSFER, CNN):
        group = results.learned(results.select(runs, name))
        fitted, held, test = (
            results.by_seed(group, metric)
            for metric in ("train_accuracy", "valid_accuracy", "accuracy")
        )
        gap = results.paired(fitted, held)
        parts.append((name, verdicts.at_most(gap, margin)))
        texts.append(
            f"{name}: {percent(gap, sign=True)} points to validation, "
            f"{percent(results.paired(fitted, test), sign=True)} to test"
        )
    note = "The difference is training minus validation accuracy."
    cnn = results.select(runs, CNN)
    if failures := results.failures(cnn):
        note += f" Of the ten convolutions, {failures}."
    n = len(results.learned(cnn))
    return _row("C6", "; ".join(texts), verdicts.everywhere(parts), note, n=n)


def _time(runs: pd.DataFrame) -> dict[str, Any]:
    """C7: comparable only on the source's machine."""
    pair = [results.select(runs, name) for name in (TRANSFER, CNN)]
    seconds = sum(group["seconds"].median() for group in pair if len(group))
    machines = {record.hardware["device"] for group in pair for record in group["record"]}
    text = None
    if all(map(len, pair)):
        text = f"{number(seconds / 60, 1)} minutes, one run of each model, without the features"
    if all(SOURCE_MACHINE in machine for machine in machines):
        minutes = [
            sum(each) / 60 for each in zip(*(group["seconds"] for group in pair), strict=False)
        ]
        verdict = verdicts.figures(published.claim("C7"), [Printed("minutes", minutes, 10)])
    else:
        names = ", ".join(sorted(machines))
        verdict = Verdict("not tested", f"our runs are on another machine ({names})")
    return _row("C7", text, verdict, n=min(map(len, pair)))
