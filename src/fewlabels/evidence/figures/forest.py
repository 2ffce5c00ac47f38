"""Rows of means with their intervals, and the figures beside them."""

import textwrap
from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fewlabels.errors import UserError
from fewlabels.evidence.figures.looks import BLUE, INK, VERMILLION, WIDTH
from fewlabels.evidence.figures.parts import fractions, legend, need, shown
from fewlabels.evidence.tables import MINUS, percent


def paired_differences(frame: pd.DataFrame) -> Figure:
    """Forest plot: the mean paired difference of each comparison with its interval, and zero.

    frame: columns comparison (text), mean, low, high (fractions; drawn in percentage points), n.
    The figures stand at the right edge. Filled marks have an interval that excludes zero. Raises
    UserError for other columns and means.
    """
    need(frame, "comparison", "mean", "low", "high", "n")
    fractions(frame, "mean", low=-1)
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
    return shown(fig)


def differences_by_panel(frame: pd.DataFrame) -> Figure:
    """Forest plots side by side, with two marks to a row: mean paired differences.

    frame: columns panel, row and series (texts; at most two series), mean, low, high (fractions;
    drawn in percentage points), n, whose range stands in the legend. Filled marks have an interval
    that excludes zero. Raises UserError for other columns and means, and for more series.
    """
    need(frame, "panel", "row", "series", "mean", "low", "high", "n")
    fractions(frame, "mean", low=-1)
    panels, rows, series = (list(dict.fromkeys(frame[key])) for key in ("panel", "row", "series"))
    if len(series) > 2:
        raise UserError(f"{len(series)} series ({', '.join(series)}): pass one or two.")
    size = WIDTH, 1.1 + 0.19 * len(rows) * len(series)
    fig, axes = plt.subplots(1, len(panels), figsize=size, sharex=True, sharey=True, squeeze=False)
    looks = dict(zip(series, ((BLUE, "o"), (VERMILLION, "s")), strict=False))
    said = {
        name: f"{name} (n = {' to '.join(str(n) for n in sorted({n.min(), n.max()}))})"
        for name, n in frame.groupby("series")["n"]
    }
    for ax, panel in zip(axes.flat, panels, strict=True):
        ax.axvline(0, color=INK, lw=1)
        for each in frame[frame["panel"] == panel].itertuples():
            (colour, marker), k = looks[each.series], series.index(each.series)
            y = rows.index(each.row) + 0.6 * ((k + 0.5) / len(series) - 0.5)
            clear = each.low > 0 or each.high < 0
            ax.plot([100 * each.low, 100 * each.high], [y, y], color=colour, lw=1.8)
            face = colour if clear else "white"
            ax.plot(100 * each.mean, y, marker, color=colour, mfc=face, ls="")
        ax.set(title=panel, xlabel="difference, percentage points")
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="y", visible=False)
    for name, (colour, marker) in looks.items():
        axes[0, 0].plot([], [], marker, color=colour, ls="", label=said[name])
    legend(fig, axes.flat)
    return shown(fig)


def published_against_ours(frame: pd.DataFrame, bar: str = "95% of further runs") -> Figure:
    """Forest plot: our mean, the printed figure, and a range for it that `bar` names.

    frame: columns quantity (text), published, mean, low, high (fractions, differences of them
    too; the range's ends), n. Raises UserError for other columns, means and printed figures.
    """
    need(frame, "quantity", "published", "mean", "low", "high", "n")
    fractions(frame, "published", "mean", low=-1)
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
    legend(fig, [ax])
    return shown(fig)


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
