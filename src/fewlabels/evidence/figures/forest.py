"""Rows of means with their intervals, and the figures beside them."""

import textwrap
from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
