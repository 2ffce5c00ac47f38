"""Verdicts on claims C1 to C7, each from the records and the rule in `fewlabels.verdicts`."""

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
from fewlabels.statistics import Interval, PairedDifference
from fewlabels.tables import number, percent
from fewlabels.verdicts import Printed, Verdict

MARGIN = 0.02
"""A gap between training and validation accuracy that counts as visible over-fitting."""
SOURCE_SIZE = 224
SOURCE_EPOCHS = 15
SOURCE_MACHINE = "P100"
PRINTED = {
    "accuracy": ("accuracy", "accuracy"),
    "balanced_accuracy": ("mean_class_accuracy", "balanced accuracy"),
    "cohen_kappa": ("cohen_kappa", "kappa"),
}
"""Printed figure -> metric of a run, and its name in a note."""


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
        _figures("C1", results.select(runs, TRANSFER), _all_layers(runs))
        | {"deviation": _head_only(settings)},
        _figures("C2", results.learned(cnn), _left_out(cnn)),
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


def _together(parts: dict[str, Verdict]) -> Verdict:
    return verdicts.together(
        Verdict(each.word, f"{name}: {each.reason}") for name, each in parts.items()
    )


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


def _left_out(cnn: pd.DataFrame) -> str:
    words = results.stuck(cnn)
    return f"{words} and are left out." if words else ""


def _figures(name: str, group: pd.DataFrame, note: str = "") -> dict[str, Any]:
    """C1 and C2: three printed figures."""
    printed = published.claim(name).published
    parts, ours = {}, []
    for key, (metric, words) in PRINTED.items():
        parts[words] = verdicts.figure(printed[key], results.one_more(group, metric), rounding=0.1)
        ours.append(f"{words} {percent(results.interval(group, metric))}")
    text = "; ".join(ours) if len(group) else None
    verdict = _together(parts)
    if 0 < len(group) < verdicts.FEWEST_RUNS:
        verdict = Verdict("not tested", f"too few runs (n = {len(group)})")
    row = _row(name, text, verdict, note, n=len(group))
    figures = [Printed.percent(key, group[metric], 0.1) for key, (metric, _) in PRINTED.items()]
    return row | {"figures": figures}


def _all_layers(runs: pd.DataFrame) -> str:
    """The other reading of the report: nothing is frozen."""
    group = results.select(runs, ALL_LAYERS)
    if group.empty:
        return (
            "The head alone is trained; the printed number of trained parameters suggests that all "
            "layers were, which is not run here."
        )
    return (
        "The head alone is trained. With all layers of a smaller ResNet trained instead, balanced "
        f"accuracy is {percent(results.interval(group, 'mean_class_accuracy'))} (n = {len(group)})."
    )


def _transfer_beats(runs: pd.DataFrame) -> dict[str, Any]:
    """C3, under protocol report; protocol tuned beside it."""
    own, tuned = (
        results.difference(runs, ours, other, "mean_class_accuracy")
        for ours, other in ((TRANSFER, CNN), (HEAD, SMALL))
    )
    beside = f"In balanced accuracy. Under protocol tuned {percent(tuned, sign=True)} points"
    beside += f" (n = {tuned.n})." if tuned is not None else "."
    every = results.difference(runs, ALL_LAYERS, CNN, "mean_class_accuracy")
    if every is not None:
        beside += f" With all layers trained {percent(every, sign=True)} (n = {every.n})."
    if words := results.stuck(results.select(runs, CNN)):
        beside += f" Of the ten convolutions, {words}."
    transfer, cnn = (
        results.by_seed(results.select(runs, name), "mean_class_accuracy")
        for name in (TRANSFER, CNN)
    )
    gaps = [transfer[seed] - cnn[seed] for seed in transfer.keys() & cnn.keys()]
    row = _row("C3", own, verdicts.direction(own, +1), beside)
    return row | {"figures": [Printed.percent("difference_balanced_accuracy", gaps, 0.1)]}


def causes(runs: pd.DataFrame, name: str) -> dict[str, PairedDifference | None]:
    """What lowers the test recall of NORMAL of one model, paired by seed.

    ``weights``, ``threshold``: what class weights and a threshold moved on validation images give
    back. ``shift``: what the network with class weights, for which the classes are balanced, loses
    from validation to test images. ``surplus``: what the weights give minus that shift. None where
    runs are missing. Runs that give every image the same answer are left out: they have no recall
    to lose, and a threshold turns them from one constant into the other.
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
    parts, texts = {}, []
    for name in (TRANSFER, CNN):
        found, words = causes(runs, name), constant(runs, name)
        parts[name] = verdicts.direction(found["surplus"], +1)
        if found["surplus"] is None and words:
            parts[name] = Verdict("not tested", words)
        texts.append(
            f"{name}: class weights give {percent(found['weights'], sign=True)}, a moved threshold "
            f"{percent(found['threshold'], sign=True)}; with weights, validation to test costs "
            f"{percent(found['shift'])}"
        )
    n = min(len(results.select(runs, name)) for name in (TRANSFER, CNN))
    rule = "Recall of NORMAL in points; the difference is what the weights give minus that cost."
    row = _row("C4", "; ".join(texts), _together(parts), rule, n=n)
    recalls = {key: results.select(runs, name)["recall_normal"] for key, name in RECALLS.items()}
    return row | {"figures": [Printed.percent(key, each, 1) for key, each in recalls.items()]}


def constant(runs: pd.DataFrame, name: str) -> str:
    """How many runs of a model, without and with class weights, give the same answer always."""
    found = {
        words: results.stuck(results.select(runs, f"{name}{balance}"))
        for words, balance in (("", ""), ("with class weights ", WEIGHTED))
    }
    return ", ".join(f"{words}{count}" for words, count in found.items() if count)


def _parameters(runs: pd.DataFrame) -> dict[str, Any]:
    """C5: the counts, which need no run."""
    printed = published.claim("C5").published
    head = 2 * 2048 + 2
    cnn = sum(parameter.numel() for parameter in TenConvolutions(2).parameters())
    parts = {}
    for key, name, count in (
        ("trainable_transfer", TRANSFER, head),
        ("trainable_cnn", CNN, cnn),
    ):
        exact = Interval(count, count, count, verdicts.FEWEST_RUNS, "counted")
        word = verdicts.figure(printed[key], exact, rounding=1, in_percent=False).word
        parts[name] = Verdict(word, f"printed {printed[key]:,}, counted {count:,}")
    first, _ = first_tensors(printed["trainable_transfer"])
    note = (
        f"The first printed figure is the size of the first {first} tensors of a ResNet-50."
        if first
        else ""
    )
    ours = f"head {number(head, 0)}; ten convolutions {number(cnn, 0)}"
    row = _row("C5", ours, _together(parts), note, n=1)
    counts = {"trainable_transfer": head, "trainable_cnn": cnn}
    return row | {"figures": [Printed(key, [count], 1) for key, count in counts.items()]}


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
    parts, texts = {}, []
    for name in (TRANSFER, CNN):
        group = results.learned(results.select(runs, name))
        fitted, held, test = (
            results.by_seed(group, metric)
            for metric in ("train_accuracy", "valid_accuracy", "accuracy")
        )
        gap = results.paired(fitted, {seed: value + MARGIN for seed, value in held.items()})
        parts[name] = verdicts.direction(gap, -1)
        texts.append(
            f"{name}: {percent(results.paired(fitted, held), sign=True)} points to validation, "
            f"{percent(results.paired(fitted, test), sign=True)} to test"
        )
    note = f"The difference is training minus validation accuracy, less {100 * MARGIN:g} points."
    cnn = results.select(runs, CNN)
    if words := _left_out(cnn):
        note += f" Of the ten convolutions, {words}"
    n = len(results.learned(cnn))
    return _row("C6", "; ".join(texts), _together(parts), note, n=n)


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
        prediction = results.prediction_interval(minutes) if len(minutes) >= 3 else None
        verdict = verdicts.figure(60, prediction, rounding=10, in_percent=False)
    else:
        names = ", ".join(sorted(machines))
        verdict = Verdict("not tested", f"our runs are on another machine ({names})")
    return _row("C7", text, verdict, n=min(map(len, pair)))
