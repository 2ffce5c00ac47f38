"""What figures share: their end, their legend, and what they refuse."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fewlabels.errors import UserError


def shown(fig: Figure) -> Figure:
    """A figure as the last value of a notebook's cell, which shows it once."""
    # An open pyplot figure would be shown a second time at the end of the cell.
    plt.close(fig)
    return fig


@dataclass(frozen=True)
class Absent:
    """A sentence in the place of a figure that cannot be drawn yet; it keeps number and caption."""

    words: str
    """Markdown that names what is missing."""

    def _repr_markdown_(self) -> str:
        return self.words


def empty(words: str) -> Absent:
    """What a cell shows for a figure without anything to draw."""
    return Absent(words[0].upper() + words[1:].rstrip(".") + ".")


def fitting(titles: Iterable[str], width: float, largest: float = 8) -> float:
    """The size in points at which the longest line of the titles fits a width in inches."""
    longest = max((len(line) for title in titles for line in title.split("\n")), default=1)
    # A bold letter of the figures' font is two thirds as wide as high.
    return min(largest, 72 * width / max(1, longest) / 0.67)


def legend(fig: Figure, axes: Iterable[Axes]) -> None:
    """One legend above all axes; what several of them show is named once."""
    entries = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    fig.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=len(entries))


def need(frame: pd.DataFrame, *columns: str) -> None:
    if missing := [column for column in columns if column not in frame]:
        raise UserError(
            f"the frame lacks {', '.join(missing)}: it has {', '.join(map(str, frame.columns))}."
        )
    if frame.empty:
        raise UserError("the frame is empty: no run matches; check the parameters.")


def fractions(frame: pd.DataFrame, *columns: str, low: int = 0) -> None:
    """Refuse numbers outside low..1: they are drawn in percent. What was not run may be nan."""
    for column in columns:
        ends = frame[column].min(), frame[column].max()
        if ends[0] < low or ends[1] > 1:
            raise UserError(
                f"{column} runs from {ends[0]:.4g} to {ends[1]:.4g}: pass fractions, {low} to 1."
            )


def classes_of(labels: np.ndarray, rows: np.ndarray, classes: Sequence[str]) -> None:
    if labels.shape != rows.shape[:1] or labels.dtype.kind not in "iu":
        raise UserError(
            f"labels are {labels.dtype} {labels.shape} for {len(rows)} rows: pass integers, one "
            "for each."
        )
    if not 0 <= labels.min() <= labels.max() < len(classes):
        raise UserError(
            f"labels run from {labels.min()} to {labels.max()} for {len(classes)} classes."
        )
