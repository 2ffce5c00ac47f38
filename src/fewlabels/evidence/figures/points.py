"""Pictures, confusion matrices, and clouds of points."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator

from fewlabels.errors import UserError
from fewlabels.evidence.figures.looks import BLUE, CLASSES, INK, WIDTH
from fewlabels.evidence.figures.parts import classes_of, fitting, shown


def image_grid(
    images: np.ndarray, titles: Sequence[str] | None = None, columns: int = 10
) -> Figure:
    """Images side by side, each with its title above.

    images: uint8 [N, H, W] (grey) or [N, C, H, W] with C 1 or 3. titles: N texts. Raises UserError
    for another shape or type, or another number of titles.
    """
    images = np.asarray(images)
    grey = images.ndim == 3 or (images.ndim == 4 and images.shape[1] == 1)
    if images.dtype != np.uint8 or not (grey or (images.ndim == 4 and images.shape[1] == 3)):
        raise UserError(
            f"images are {images.dtype} {images.shape}: pass uint8 [N, H, W] or [N, 1 or 3, H, W]."
        )
    if len(images) == 0:
        raise UserError("images are empty: pass at least one.")
    if titles is not None and len(titles) != len(images):
        raise UserError(f"{len(titles)} titles for {len(images)} images: pass one each.")
    pictures = images.reshape(-1, *images.shape[-2:]) if grey else images.transpose(0, 2, 3, 1)
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    side = min(WIDTH / columns, 1.5)
    height = side * images.shape[-2] / images.shape[-1] + (0.2 if titles is not None else 0.04)
    fig, axes = plt.subplots(rows, columns, figsize=(columns * side, rows * height), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for i, (ax, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        # "none" embeds the pixels as they are, in SVG and PDF alike.
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="none")
        if titles is not None:
            ax.set_title(titles[i], fontsize=fitting(titles, side), fontweight="normal", pad=2)
    return shown(fig)


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Heat map of a confusion matrix, each row in percent of its true class.

    matrix: [K, K] counts (or means of counts over runs), rows true, columns predicted. A class
    without images has an empty row. Raises UserError for another shape or negative counts.
    """
    side = min(WIDTH, 1.6 + 0.42 * len(classes))
    fig, ax = plt.subplots(figsize=(side, 0.9 * side))
    _heat_map(ax, matrix, classes, size=8)
    ax.set(xlabel="predicted class", ylabel="true class (each row is 100%)")
    return shown(fig)


def confusion_grid(matrices: Mapping[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Heat maps of one or more confusion matrices as `confusion` has them, two in a row."""
    rows = -(-len(matrices) // 2)
    fig, axes = plt.subplots(rows, 2, figsize=(WIDTH, 0.48 * WIDTH * rows), squeeze=False)
    for ax, (title, matrix) in zip(axes.flat, matrices.items(), strict=False):
        _heat_map(ax, matrix, classes, size=6)
        ax.set_title(title, fontsize=8)
    for ax in axes.flat[len(matrices) :]:
        ax.set_axis_off()
    fig.supxlabel("predicted class", fontsize=8)
    fig.supylabel("true class (each row is 100%)", fontsize=8)
    return shown(fig)


def _heat_map(ax: Axes, matrix: np.ndarray, classes: Sequence[str], size: float) -> None:
    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (len(classes), len(classes)):
        raise UserError(
            f"matrix has shape {matrix.shape} for {len(classes)} classes: pass one row and one "
            "column per class."
        )
    if (matrix < 0).any() or not np.isfinite(matrix).all():
        raise UserError("matrix has negative or missing counts: pass counts of images.")
    total = matrix.sum(axis=1, keepdims=True)
    share = 100 * np.divide(matrix, total, out=np.full_like(matrix, np.nan), where=total > 0)
    sns.heatmap(
        share,
        annot=np.vectorize(_cell)(share),
        fmt="",
        annot_kws={"size": size},
        cmap="Blues",
        vmin=0,
        vmax=100,
        square=True,
        linewidths=0.5,
        linecolor="white",
        cbar=False,
        xticklabels=list(classes),
        yticklabels=list(classes),
        ax=ax,
    )
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)


def _cell(share: float) -> str:
    if math.isnan(share) or share == 0:
        return ""
    if share < 0.5:
        return "<1"
    return ">99" if 99.5 <= share < 100 else f"{share:.0f}"


def strip(
    values: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    xlabel: str,
    middle: float,
    ticks: Sequence[float],
) -> Figure:
    """Values on a log scale as a row of points for each class, scattered within their row.

    values: [N], positive. labels: [N] integers 0..K-1 into `classes`. middle: where a line stands.
    Raises UserError for other shapes and values.
    """
    values, labels = np.asarray(values), np.asarray(labels)
    if values.ndim != 1 or not values.size or not (values > 0).all():
        raise UserError(f"values have shape {values.shape}: pass [N] above zero, at least one.")
    classes_of(labels, values, classes)
    fig, ax = plt.subplots(figsize=(WIDTH, 0.7 + 0.4 * len(classes)))
    height = labels + np.random.default_rng(0).uniform(-0.25, 0.25, len(values))
    for k in range(len(classes)):
        ax.scatter(values[labels == k], height[labels == k], s=12, color=BLUE, alpha=0.5, lw=0)
    ax.axvline(middle, color=INK, lw=1)
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yticks(range(len(classes)), classes)
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    return shown(fig)


def embedding(points: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Figure:
    """Points of a two-dimensional embedding by class, each class named at its median.

    points: [N, 2]. labels: [N] integers 0..K-1 into `classes`. Raises UserError for other shapes
    and labels outside the classes.
    """
    points, labels = np.asarray(points), np.asarray(labels)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise UserError(f"points have shape {points.shape}: pass [N, 2], at least one.")
    classes_of(labels, points, classes)
    fig, ax = plt.subplots(figsize=(WIDTH * 0.9, WIDTH * 0.66))
    for k, name in enumerate(classes):
        here = points[labels == k]
        if len(here) == 0:
            continue
        # Thousands of points as vectors make a page slow: they are one bitmap instead.
        ax.scatter(
            *here.T,
            s=4,
            color=CLASSES[k % len(CLASSES)],
            alpha=0.6,
            lw=0,
            rasterized=True,
            label=name,
        )
        ax.text(
            *np.median(here, axis=0),
            name,
            ha="center",
            va="center",
            fontweight="bold",
            fontsize=10,
            color=INK,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    # Where classes overlap their names do too: the legend still tells them apart.
    legend = fig.legend(loc="outside right center", markerscale=3)
    for handle in legend.legend_handles:
        handle.set_alpha(1)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return shown(fig)
