"""The book's figures in one style: column width, colour-blind-safe, fit for light and dark pages.

Every function returns a closed `Figure`: as the last value of a notebook cell it is shown once.
Call `style` once per notebook. Vector or bitmap is not decided here: Quarto's ``fig-format`` does
(svg for HTML, pdf for PDF); photographs and dense point clouds are embedded as bitmaps either way.
"""

import math
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullLocator

from fewlabels.errors import UserError
from fewlabels.evidence.statistics import mean_interval
from fewlabels.evidence.tables import MINUS, percent

WIDTH = 6.3  # inches: the text column of the PDF; the web page is a little wider
INK = "#333333"
FAINT = "#8c8c8c"
DASHES = ("-", "--", "-.", ":")
THIN = {"lw": 0.5, "alpha": 0.4}
"""A single run's line, under the mean over runs."""


class Look(NamedTuple):
    """How one method is drawn in every chapter."""

    label: str
    colour: str
    marker: str


# Okabe and Ito's colours, which stay apart under the common colour-vision deficiencies; the marker
# tells methods apart without any colour.
BLUE, VERMILLION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
PURPLE, SKY, BLACK = "#cc79a7", "#56b4e9", "#222222"

# Ten classes need more colours: Paul Tol's muted scheme, and grey.
CLASSES = sns.color_palette(
    [
        *("#332288", "#88ccee", "#44aa99", "#117733", "#999933"),
        *("#ddaa33", "#cc6677", "#882255", "#aa4499", "#777777"),
    ]
)

METHODS = {
    "supervised": Look("supervised", BLUE, "o"),
    "cnn": Look("CNN", BLUE, "o"),
    "rotnet": Look("RotNet, frozen", VERMILLION, "s"),
    "rotnet-finetuned": Look("RotNet, fine-tuned", ORANGE, "X"),
    "random": Look("random, frozen", FAINT, "P"),
    "s4l": Look("S4L", PURPLE, "D"),
    "fixmatch": Look("FixMatch", GREEN, "^"),
    "simclr": Look("SimCLR", VERMILLION, "s"),
    "simclr-probe": Look("SimCLR, linear probe", PURPLE, "D"),
    "simclr-finetuned": Look("SimCLR, fine-tuned", ORANGE, "X"),
    "moco": Look("MoCo", GREEN, "^"),
    "aim": Look("AIM", PURPLE, "D"),
    "mae": Look("MAE", ORANGE, "v"),
    "rotation": Look("rotation", SKY, "X"),
    "vicreg": Look("VICReg", FAINT, "P"),
    "imagenet-head": Look("ImageNet features, linear head", VERMILLION, "s"),
    "scratch": Look("small network from scratch", BLUE, "o"),
    "fusion": Look("fusion", BLACK, "*"),
    "small-cnn": Look("small CNN", BLUE, "o"),
    "features-mlp": Look("frozen features, MLP", VERMILLION, "s"),
    "features-knn": Look("frozen features, kNN", ORANGE, "X"),
    "fine-tuned": Look("one block fine-tuned", GREEN, "^"),
}


def style() -> None:
    """Set the book's look for every figure made afterwards, and make saved files repeatable.

    Nothing that a reader has set for matplotlib counts: not a backend, and not an rc file.
    """
    _shown_in_notebooks()
    matplotlib.rcdefaults()
    sns.set_theme(
        context="paper",
        style="ticks",
        palette=[BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK, FAINT],
        rc={
            "figure.figsize": (WIDTH, 3.2),
            "figure.dpi": 144,
            "figure.constrained_layout.use": True,
            # White, not transparent: dark ink has to be read on the dark page as well.
            "figure.facecolor": "white",
            "axes.facecolor": "white",
            "savefig.facecolor": "white",
            "savefig.bbox": "tight",
            "savefig.pad_inches": 0.1,
            "font.size": 9,
            "axes.labelsize": 9,
            "axes.titlesize": 9,
            "axes.titleweight": "bold",
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8,
            "legend.title_fontsize": 8,
            "legend.frameon": False,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": FAINT,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.6,
            "lines.markersize": 5,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "svg.hashsalt": "fewlabels",
        },
    )
    # Matplotlib takes the date it writes into SVG and PDF files from here.
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")


def look(method: str) -> Look:
    """Label, colour and marker of a method. Raises UserError for one that has none yet."""
    if method not in METHODS:
        raise UserError(
            f"no colour and marker for method {method!r}: add it to "
            f"fewlabels.evidence.figures.METHODS ({', '.join(METHODS)})."
        )
    return METHODS[method]


def learning_curves(
    frame: pd.DataFrame, ylabel: str | None = None, xlabel: str = "epoch"
) -> Figure:
    """Every run as a thin line; per series the mean over runs and its 95% interval as a band.

    frame: one row per run and epoch, with columns epoch (1, 2, ...), value, run, series (such as
    training and validation: told apart by colour and dash), and optionally panel: one axes for
    each, side by side, and luck: what a run shares with others. With `ylabel`, all panels share
    that axis and are titled; without, each panel's name is its own axis label, for panels of
    different units. The mean covers the epochs that all runs of a series reached.
    """
    _need(frame, "epoch", "value", "run", "series")
    panels = list(dict.fromkeys(frame["panel"])) if "panel" in frame else [None]
    shared = ylabel is not None
    fig, axes = plt.subplots(
        1, len(panels), figsize=(WIDTH, 2.7), sharey=shared, squeeze=False, sharex=shared
    )
    names = list(dict.fromkeys(frame["series"]))
    palette = sns.color_palette("colorblind", len(names))
    looks = {name: (palette[k], DASHES[k % len(DASHES)]) for k, name in enumerate(names)}
    for ax, panel in zip(axes[0], panels, strict=True):
        part = frame if panel is None else frame[frame["panel"] == panel]
        for series, rows in part.groupby("series", sort=False):
            runs = rows.pivot(index="epoch", columns="run", values="value").sort_index()
            colour, dash = looks[series]
            if runs.shape[1] > 1:
                ax.plot(runs.index, runs, color=colour, lw=0.6, alpha=0.45)
                runs = runs.dropna()
                luck = None
                if "luck" in rows:
                    luck = [*rows.drop_duplicates("run").set_index("run")["luck"][runs.columns]]
                interval = [mean_interval(values, luck) for values in runs.to_numpy()]
                ax.fill_between(
                    runs.index,
                    [i.low for i in interval],
                    [i.high for i in interval],
                    color=colour,
                    alpha=0.2,
                    lw=0,
                )
            mean = runs.mean(axis=1)
            ax.plot(mean.index, mean, color=colour, ls=dash, label=series)
        ax.set_xlabel(xlabel)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if shared:
            ax.set_title(panel or "")
        else:
            ax.set_ylabel(panel or "")
    if shared:
        axes[0, 0].set_ylabel(ylabel)
    _legend(fig, axes.flat)
    return _finish(fig)


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Heat map of a confusion matrix, each row in percent of its true class.

    matrix: [K, K] counts (or means of counts over runs), rows true, columns predicted. A class
    without images has an empty row. Raises UserError for another shape or negative counts.
    """
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
    text = np.vectorize(_cell)(share)
    side = min(WIDTH, 1.6 + 0.42 * len(classes))
    fig, ax = plt.subplots(figsize=(side, 0.9 * side))
    sns.heatmap(
        share,
        annot=text,
        fmt="",
        annot_kws={"size": 8},
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
    ax.set(xlabel="predicted class", ylabel="true class (each row is 100%)")
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)
    return _finish(fig)


def _cell(share: float) -> str:
    if math.isnan(share) or share == 0:
        return ""
    if share < 0.5:
        return "<1"
    return ">99" if 99.5 <= share < 100 else f"{share:.0f}"


def accuracy_against_labels(frame: pd.DataFrame, ylabel: str = "test accuracy, %") -> Figure:
    """One line per method: mean and interval against the number of labels, on a log axis.

    frame: columns method (a key of `METHODS`), labels (number of labelled images), mean, low,
    high (fractions 0..1). The legend lists the methods in the order of their last means. Raises
    UserError for other columns and means.
    """
    _need(frame, "method", "labels", "mean", "low", "high")
    _fractions(frame, "mean")
    fig, ax = plt.subplots(figsize=(WIDTH, 3.4))
    for method, rows in frame.groupby("method", sort=False):
        label, colour, marker = look(method)
        rows = rows.sort_values("labels")
        mean = 100 * rows["mean"]
        ax.fill_between(
            rows["labels"], 100 * rows["low"], 100 * rows["high"], color=colour, alpha=0.15, lw=0
        )
        # A single number of labels has no band: the bar shows its interval too.
        ax.vlines(rows["labels"], 100 * rows["low"], 100 * rows["high"], color=colour, lw=1)
        ax.plot(
            rows["labels"], mean, color=colour, marker=marker, label=label, mec="white", mew=0.5
        )
    log_counts(ax, frame["labels"])
    ax.set(xlabel="labelled images (log scale)", ylabel=ylabel)
    # In the order of the lines' right ends, so that the eye finds its line.
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: -handles[i].get_ydata()[-1])
    fig.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside right center",
    )
    return _finish(fig)


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
            ax.set_title(titles[i], fontsize=8, fontweight="normal", pad=2)
    return _finish(fig)


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
    _classes_of(labels, values, classes)
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
    return _finish(fig)


def embedding(points: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Figure:
    """Points of a two-dimensional embedding by class, each class named at its median.

    points: [N, 2]. labels: [N] integers 0..K-1 into `classes`. Raises UserError for other shapes
    and labels outside the classes.
    """
    points, labels = np.asarray(points), np.asarray(labels)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise UserError(f"points have shape {points.shape}: pass [N, 2], at least one.")
    _classes_of(labels, points, classes)
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
    return _finish(fig)


def paired_differences(frame: pd.DataFrame) -> Figure:
    """Forest plot: the mean paired difference of each comparison with its interval, and zero.

    frame: columns comparison (text), mean, low, high (fractions; drawn in percentage points), n.
    The figures stand at the right edge. Filled marks have an interval that excludes zero. Raises
    UserError for other columns and means.
    """
    _need(frame, "comparison", "mean", "low", "high", "n")
    _fractions(frame, "mean", low=-1)
    fig, ax = _forest(frame["comparison"])
    ax.axvline(0, color=INK, lw=1)
    for y, row in enumerate(frame.itertuples()):
        clear = row.low > 0 or row.high < 0
        ax.plot([100 * row.low, 100 * row.high], [y, y], color=BLUE, lw=1.8)
        ax.plot(100 * row.mean, y, "o", color=BLUE, mfc=BLUE if clear else "white")
    _beside(
        ax,
        [f"{percent(row, sign=True)}  n = {row.n}" for row in frame.itertuples()],
        heading="mean [95% interval]",
    )
    ax.set_xlabel("difference, percentage points")
    return _finish(fig)


def published_against_ours(frame: pd.DataFrame, bar: str = "95% of further runs") -> Figure:
    """Forest plot: our mean, the printed figure, and a range for it that `bar` names.

    frame: columns quantity (text), published, mean, low, high (fractions, differences of them
    too; the range's ends), n. Raises UserError for other columns, means and printed figures.
    """
    _need(frame, "quantity", "published", "mean", "low", "high", "n")
    _fractions(frame, "published", "mean", low=-1)
    fig, ax = _forest(frame["quantity"])
    for y, row in enumerate(frame.itertuples()):
        first = y == 0
        ax.plot(
            [100 * row.low, 100 * row.high],
            [y, y],
            color=BLUE,
            lw=1.8,
            marker="|",
            ms=8,
            label=bar if first else None,
        )
        ax.plot(100 * row.mean, y, "o", color=BLUE, label="our mean" if first else None)
        ax.plot(
            100 * row.published,
            y,
            "D",
            color=VERMILLION,
            mfc="white",
            mew=1.5,
            label="published" if first else None,
        )
    _beside(
        ax,
        [
            f"{100 * row.published:.10g} / {percent(row.mean)}  n = {row.n}".replace("-", MINUS)
            for row in frame.itertuples()
        ],
        heading="published / our mean",
    )
    ax.set_xlabel("percent")
    _legend(fig, [ax])
    return _finish(fig)


def empty(words: str) -> Figure:
    """A figure that says what is missing."""
    fig, ax = plt.subplots(figsize=(WIDTH, 1.2))
    ax.set_axis_off()
    ax.text(0.5, 0.5, words, ha="center", va="center", color=FAINT, fontsize=12)
    return _finish(fig)


def _forest(names: Iterable[str]) -> tuple[Figure, Axes]:
    names = [textwrap.fill(name, 34) for name in names]
    lines = sum(1 + name.count("\n") for name in names)
    fig, ax = plt.subplots(figsize=(WIDTH, 1.1 + 0.16 * (len(names) + lines)))
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y", visible=False)
    return fig, ax


def _beside(ax: Axes, texts: Iterable[str], heading: str) -> None:
    """Write one text per row right of the axes, and a heading above them."""
    place = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 8}
    ax.text(1.02, -0.75, heading, fontstyle="italic", **place)
    for y, text in enumerate(texts):
        ax.text(1.02, y, text, **place)


def _legend(fig: Figure, axes: Iterable[Axes]) -> None:
    """One legend above all axes; what several of them show is named once."""
    entries = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    fig.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=len(entries))


def _need(frame: pd.DataFrame, *columns: str) -> None:
    if missing := [column for column in columns if column not in frame]:
        raise UserError(
            f"the frame lacks {', '.join(missing)}: it has {', '.join(map(str, frame.columns))}."
        )
    if frame.empty:
        raise UserError("the frame is empty: no run matches; check the parameters.")


def _fractions(frame: pd.DataFrame, *columns: str, low: int = 0) -> None:
    """Refuse numbers outside low..1: they are drawn in percent. What was not run may be nan."""
    for column in columns:
        ends = frame[column].min(), frame[column].max()
        if ends[0] < low or ends[1] > 1:
            raise UserError(
                f"{column} runs from {ends[0]:.4g} to {ends[1]:.4g}: pass fractions, {low} to 1."
            )


def _classes_of(labels: np.ndarray, rows: np.ndarray, classes: Sequence[str]) -> None:
    if labels.shape != rows.shape[:1] or labels.dtype.kind not in "iu":
        raise UserError(
            f"labels are {labels.dtype} {labels.shape} for {len(rows)} rows: pass integers, one "
            "for each."
        )
    if not 0 <= labels.min() <= labels.max() < len(classes):
        raise UserError(
            f"labels run from {labels.min()} to {labels.max()} for {len(classes)} classes."
        )


def log_counts(ax: Axes, counts: Iterable[int]) -> None:
    """Make the x axis logarithmic, with the counts themselves and nothing else as ticks.

    Raises UserError for a count of zero or less.
    """
    ticks = sorted(set(counts))
    if ticks and ticks[0] <= 0:
        raise UserError(f"counts begin at {ticks[0]}: a logarithmic axis has no zero.")
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())


def runs_and_mean(
    ax: Axes, x: Sequence[float], runs: np.ndarray, thin: Mapping[str, Any] = THIN, **mean: Any
) -> None:
    """Every run as a thin line and their mean as a thick one; nothing where there is no run.

    runs: [runs, len(x)]. thin, mean: as `Axes.plot` takes them; the thin lines have the mean's
    colour unless they say another. Raises UserError for runs of another length.
    """
    if len(runs):
        if np.shape(runs)[1:] != (len(x),):
            raise UserError(f"runs have shape {np.shape(runs)}: pass [runs, {len(x)}], as x.")
        ax.plot(x, np.transpose(runs), **{"color": mean.get("color")} | dict(thin))
        ax.plot(x, np.mean(runs, axis=0), **mean)


def shown(fig: Figure) -> Figure:
    """A figure that a notebook has drawn itself, as the last value of its cell."""
    return _finish(fig)


def _shown_in_notebooks() -> None:
    """A figure is shown as the last value of a cell, also where MPLBACKEND names another backend.

    Where it is shown already, the format that Quarto has chosen stays.
    """
    shell = get_ipython()
    if shell is not None:
        formatters = shell.display_formatter.formatters.values()
        if not any(Figure in formatter.type_printers for formatter in formatters):
            shell.run_line_magic("matplotlib", "inline")


def _finish(fig: Figure) -> Figure:
    # An open pyplot figure would be shown a second time at the end of the cell.
    plt.close(fig)
    return fig
