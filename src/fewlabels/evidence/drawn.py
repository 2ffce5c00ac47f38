"""Figures of what classifiers answer; of two classes, stored is the probability of the second."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve
from torch.nn import functional as F

from fewlabels.evidence import figures
from fewlabels.evidence.frame import done
from fewlabels.evidence.measures import fraction
from fewlabels.evidence.predictions import classes
from fewlabels.evidence.statistics import Interval
from fewlabels.evidence.tables import percent
from fewlabels.learn import evaluation

COLOURS = (figures.VERMILLION, figures.BLUE, figures.GREEN, figures.PURPLE)
MARKERS = "os^D"


def confusions(
    models: Mapping[str, pd.DataFrame], truth: np.ndarray, names: Sequence[str]
) -> Figure:
    """Mean confusion matrices side by side: percent of the true class, and images.

    models: what a matrix is called -> its runs; truth: [N] classes of the test images.
    """
    fig, axes = plt.subplots(1, len(models), figsize=(figures.WIDTH, 2.6), squeeze=False)
    places = range(len(names))
    for ax, (title, rows) in zip(axes[0], models.items(), strict=True):
        records = done(rows)["record"]
        counts = [evaluation.confusion(classes(r), truth, len(names)) for r in records]
        mean = np.mean(counts, axis=0) if counts else np.full((len(names),) * 2, np.nan)
        share = 100 * mean / mean.sum(axis=1, keepdims=True)
        ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(share):
            text = f"{value:.0f}%\n{mean[row, column]:.0f}" if counts else "not run"
            colour = "white" if value > 60 else figures.INK
            ax.text(column, row, text, ha="center", va="center", color=colour)
        ax.set_xticks(places, names)
        ax.set_yticks(places, names if ax is axes[0, 0] else ["" for _ in names])
        ax.set_title(f"{title}\n(n = {len(counts)})", fontsize=8)
        ax.set_xlabel("predicted")
        ax.grid(False)
    axes[0, 0].set_ylabel("true")
    return figures.shown(fig)


def rates(
    models: Mapping[str, pd.DataFrame],
    truth: np.ndarray,
    negative: str,
    positive: str,
    each: int = 3,
) -> Figure:
    """ROC and precision-recall curves of the first runs of up to four models.

    Dots mark the usual threshold of one half. truth: [N] of 0, ``negative``, and 1, ``positive``.
    """
    fig, (roc, found) = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.1))
    for (name, rows), colour, dash in zip(models.items(), COLOURS, figures.DASHES, strict=False):
        look = {"color": colour, "ls": dash, "lw": 1.2, "alpha": 0.9}
        for k, p in enumerate(_probabilities(rows)[:each]):
            false, true, cuts = roc_curve(truth, p, drop_intermediate=False)
            roc.plot(100 * false, 100 * true, label=None if k else name, **look)
            at = int(np.searchsorted(-cuts, -0.5, side="right")) - 1
            roc.plot(100 * false[at], 100 * true[at], "o", color=colour, ms=4)
            precision, recall, _ = precision_recall_curve(truth, p)
            found.plot(100 * recall, 100 * precision, **look)
    roc.set(xlabel=f"{negative} called {positive}, %", ylabel=f"{positive} found, %", title="ROC")
    found.set(
        xlabel=f"recall of {positive}, %", ylabel="precision, %", title="precision and recall"
    )
    found.set_ylim(100 * truth.mean() - 5, 101)
    fig.legend(loc="outside upper center", ncols=2)
    return figures.shown(fig)


def calibration(models: Mapping[str, pd.DataFrame], truth: np.ndarray, positive: str) -> Figure:
    """How often images are positive, against the probability they were given, all runs together.

    models: up to four; truth: [N] of 0 and 1.
    """
    fig, ax = plt.subplots(figsize=(0.62 * figures.WIDTH, 0.55 * figures.WIDTH))
    ax.plot([0, 100], [0, 100], color=figures.FAINT, lw=1, ls=":")
    for (name, rows), colour, marker in zip(models.items(), COLOURS, MARKERS, strict=False):
        p = _probabilities(rows)
        none = np.empty(0), np.empty(0)
        said, came = evaluation.reliability(np.ravel(p), np.tile(truth, len(p))) if len(p) else none
        error = percent(fraction(rows, "calibration_error"))
        label = f"{name}: calibration error {error}% (n = {len(p)})"
        ax.plot(100 * said, 100 * came, color=colour, marker=marker, label=label)
    ax.set(xlabel=f"probability given to {positive}, %", ylabel=f"share that is {positive}, %")
    fig.legend(loc="outside upper center", ncols=1)
    return figures.shown(fig)


def dots(rows: Sequence[tuple[str, Mapping[str, Interval]]], xlabel: str) -> Figure:
    """A line per row, with the means and intervals of its series: fractions, drawn in percent.

    rows: what each is called, and its series by name; the first has all of them, up to four.
    """
    names = [*rows[0][1]]
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 0.6 + 0.27 * len(rows)))
    for y, (_, series) in enumerate(rows):
        for name, own in series.items():
            k = names.index(name)
            ax.plot([100 * own.low, 100 * own.high], [y, y], color=COLOURS[k], lw=1.5)
            label = name if y == 0 else None
            ax.plot(100 * own.mean, y, MARKERS[k], color=COLOURS[k], label=label)
    ax.set_yticks(range(len(rows)), [words for words, _ in rows])
    ax.invert_yaxis()
    ax.set(xlim=(0, 101), xlabel=xlabel)
    fig.legend(loc="outside upper center", ncols=2)
    return figures.shown(fig)


def overlaid(
    images: np.ndarray, maps: np.ndarray, titles: Sequence[str], right: Sequence[bool], columns: int
) -> Figure:
    """Grey images under heat maps, brighter where a map is higher; titles of wrong ones are bold.

    images: uint8 [N, H, W]; maps: [N, h, w], stretched over them; titles, right: one each.
    """
    rows = -(-len(images) // columns)
    side = figures.WIDTH / columns
    fig, axes = plt.subplots(
        rows, columns, figsize=(figures.WIDTH, rows * (side + 0.3)), squeeze=False
    )
    for ax in axes.flat:
        ax.set_axis_off()
    size = figures.fitting(titles, side, 7)
    heat = F.interpolate(
        torch.tensor(maps[:, None].astype(np.float32)),
        size=images.shape[1:],
        mode="bilinear",
        align_corners=False,
    )[:, 0].numpy()
    for ax, k in zip(axes.flat, range(len(images)), strict=False):
        ax.imshow(images[k], cmap="gray", vmin=0, vmax=255)
        ax.imshow(heat[k], cmap="inferno", alpha=0.45)
        look = ("normal", figures.INK) if right[k] else ("bold", figures.VERMILLION)
        ax.set_title(titles[k], fontsize=size, fontweight=look[0], color=look[1], pad=2)
    return figures.shown(fig)


def _probabilities(rows: pd.DataFrame) -> list[np.ndarray]:
    """By run: the probability [N] of the second of two classes."""
    return [record.predictions["test"].astype(float) for record in done(rows)["record"]]
