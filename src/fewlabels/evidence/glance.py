"""A chapter's claims at a glance: what was printed, what we measured, and the verdict, as a figure.

Rows are those of `fewlabels.evidence.claims`. Percentages and differences have an axis each; what
has no such number (an order of many cells, a count, a time) is told in words.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fewlabels.evidence import figures, verdicts
from fewlabels.evidence.figures import BLUE, FAINT, GREEN, INK, VERMILLION
from fewlabels.evidence.statistics import (
    Interval,
    PairedDifference,
)
from fewlabels.evidence.tables import NOT_RUN, in_percent
from fewlabels.evidence.verdicts import Printed, Verdict
from fewlabels.reference import published

SUPPORTED = {"marker": "o", "color": BLUE}
REFUTED = {"marker": "s", "color": VERMILLION}
NOTHING = {"marker": "D", "color": GREEN, "ms": 4.5}
OPEN = {"marker": "o", "color": FAINT, "fillstyle": "left"}
UNKNOWN = {"marker": "o", "color": FAINT, "fillstyle": "none"}
SIGNS = {
    **dict.fromkeys(("agrees", "holds", "yes"), SUPPORTED),
    **dict.fromkeys(("contradicted", "opposite", "no"), REFUTED),
    "no difference": NOTHING,
    **dict.fromkeys(("cannot tell", "undecided"), OPEN),
    **dict.fromkeys(verdicts.OPEN, UNKNOWN),
}
"""How the sign of a verdict is drawn, here as in styles/book.scss."""

LABEL = 46
"""Characters on a line of a claim's name."""
LINES = 4
"""Claims of which nothing was run share one line where there are more of them."""
PERCENTS, POINTS, WORDS = "%", "points", ""


class Line(NamedTuple):
    """One line of the figure; numbers in percent or points, nan where there is none."""

    panel: str
    name: str
    printed: float
    ours: Interval
    beyond: float
    verdict: Verdict
    told: str


def claims(rows: Iterable[Mapping[str, Any]]) -> Figure:
    """Every claim of a chapter: open diamond what is printed, dot and thick bar our mean with its
    95% interval, thin bar the values that, if printed, our runs would not contradict. Claims of
    which nothing was run share a line below where they are many."""
    lines = [line for row in rows for line in _lines(row)]
    waiting = [line.name.split()[0] for line in lines if line.told == NOT_RUN]
    if len(waiting) > LINES:
        lines = [line for line in lines if line.told != NOT_RUN]
    else:
        waiting = []
    panels = [p for p in (PERCENTS, POINTS, WORDS) if any(line.panel == p for line in lines)]
    heights = [sum(_height(line) for line in lines if line.panel == p) for p in panels]
    below = textwrap.fill(f"Not run: {', '.join(waiting)}", 120) if waiting else ""
    inches = 0.145 * (sum(heights) + below.count("\n")) + 0.5 * len(panels) + 0.2
    fig = plt.figure(figsize=(figures.WIDTH, inches), layout="none")
    top = 1.0
    for panel, height in zip(panels, heights, strict=True):
        tall = 0.145 * height / inches
        head = (0.12 if panel == WORDS else 0.16) / inches
        ax = fig.add_axes((0.46, top - head - tall, 0.25, tall))
        _panel(ax, [line for line in lines if line.panel == panel], panel, height)
        top -= tall + 0.5 / inches
    fig.text(0.005, top, below, va="top", fontsize=7.5, color=INK)
    return figures.shown(fig)


def _lines(row: Mapping[str, Any]) -> list[Line]:
    claim, verdict, ours = row["claim"], row["verdict"], row["ours"]
    parts: Sequence[Printed] = row.get("figures", ())
    judged = verdicts.printed_figures(claim, parts)
    drawn = [
        (part, word, _unit(part.key))
        for part, word in zip(parts, judged, strict=True)
        if len(part.values) and _unit(part.key) != WORDS
    ]
    # Several figures of a claim have a line each, under its name, and a verdict each.
    text = f"{claim.id}  {_short(claim.text)}"
    if len(drawn) == len(parts) > 1 and claim.kind == "figure":
        return [
            Line(
                unit,
                text if first else f"      {published.spelled(part.key)}",
                float(claim.published[part.key]),
                part.interval(),
                word.beyond,
                word,
                "",
            )
            for (part, word, unit), first in zip(
                drawn, [True] + [False] * (len(drawn) - 1), strict=True
            )
        ]
    if len(drawn) == len(parts) == 1 and not isinstance(ours, str):
        part, word, unit = drawn[0]
        value = float(claim.published[part.key])
        return [Line(unit, text, value, part.interval(), word.beyond, verdict, "")]
    if isinstance(ours, PairedDifference | Interval):
        unit = POINTS if isinstance(ours, PairedDifference) else PERCENTS
        return [Line(unit, text, math.nan, in_percent(ours), math.nan, verdict, "")]
    none = Interval(math.nan, math.nan, math.nan, row.get("n", 0), "")
    told = ours if isinstance(ours, str) else NOT_RUN
    return [Line(WORDS, text, math.nan, none, math.nan, verdict, told)]


def _unit(key: str) -> str:
    found = published.unit(key)
    return found if found in (PERCENTS, POINTS) else WORDS


def _short(text: str) -> str:
    """The first ten words or so."""
    return textwrap.shorten(
        text.rstrip("."), 2 * LABEL - 10, placeholder=" \N{HORIZONTAL ELLIPSIS}"
    )


def _name(line: Line) -> str:
    return textwrap.fill(line.name, LABEL, subsequent_indent="      ")


def _told(line: Line) -> str:
    return textwrap.fill(
        textwrap.shorten(line.told, 76, placeholder=" \N{HORIZONTAL ELLIPSIS}"), 27
    )


def _height(line: Line) -> float:
    """Lines of text that a row takes."""
    return 0.6 + max(2, _name(line).count("\n") + 1, _told(line).count("\n") + 1)


def _panel(ax: Axes, lines: Sequence[Line], panel: str, height: float) -> None:
    ax.set_ylim(height, 0)
    ax.grid(axis="y", visible=False)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    text = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 7.5}
    y = 0.0
    for line in lines:
        middle, y = y + _height(line) / 2, y + _height(line)
        ax.text(-1.82, middle, _name(line), **text)
        ours, word = line.ours, line.verdict
        if panel == WORDS:
            ax.text(0, middle, _told(line), **text)
        else:
            _drawn(ax, line, middle)
        sign = {"ms": 6, "mew": 1, "clip_on": False} | SIGNS[word.word]
        ax.plot(1.09, middle, transform=ax.get_yaxis_transform(), **sign)
        n = f"n = {ours.n}" if ours.n else ""
        ax.text(1.16, middle, f"{word.word}\n{n}".strip(), **text, color=INK)
        if y < height:
            rule = {"color": "#e6e6e6", "lw": 0.5, "clip_on": False, "zorder": 0}
            ax.plot([-1.82, 2.1], [y, y], transform=ax.get_yaxis_transform(), **rule)
    if panel == WORDS:
        ax.spines["bottom"].set_visible(False)
        ax.set_xticks([])
        return
    if panel == POINTS:
        ax.axvline(0, color=INK, lw=0.8, zorder=1)
    ax.set_xlabel(
        "percent" if panel == PERCENTS else "difference, points", fontsize=7.5, labelpad=1
    )
    ax.tick_params(axis="x", labelsize=7)
    _limits(ax, lines, panel)


def _drawn(ax: Axes, line: Line, y: float) -> None:
    ours = line.ours
    if not math.isnan(line.beyond):
        ends = [ours.mean - line.beyond, ours.mean + line.beyond]
        ax.plot(ends, [y, y], color=BLUE, lw=0.8)
    if not math.isnan(ours.low):
        ax.plot([ours.low, ours.high], [y, y], color=BLUE, lw=2.6, solid_capstyle="butt")
    if not math.isnan(ours.mean):
        ax.plot(ours.mean, y, "o", color=BLUE, ms=4.5)
    if not math.isnan(line.printed):
        ax.plot(line.printed, y, "D", color=VERMILLION, mfc="white", mew=1.3, ms=5)


def _limits(ax: Axes, lines: Sequence[Line], panel: str) -> None:
    """The axis fits means, intervals and printed figures; a longer thin bar runs out of it."""
    numbers = [(each.printed, each.ours.mean, each.ours.low, each.ours.high) for each in lines]
    seen = [x for each in numbers for x in each if not math.isnan(x)] or [0.0]
    low, high = min(seen), max(seen)
    pad = 0.06 * (high - low) or 1
    low, high = low - pad, high + pad
    if panel == PERCENTS:
        low, high = max(low, 0 if min(seen) >= 0 else low), min(high, 100)
    ax.set_xlim(low, high)
    ax.locator_params(axis="x", nbins=5)


def tiles(rows: Iterable[tuple[str, str, str]], ledger: str) -> str:
    """The claims as a strip of tiles, a line for each source, as Markdown.

    rows: source, claim, verdict. ledger: the page whose anchors the tiles lead to.
    """
    lines: dict[str, list[str]] = {}
    for source, claim, verdict in rows:
        word = verdict.replace(" ", "-")
        tile = f'[{claim}]{{.verdict .{word} title="{claim}: {verdict}"}}'
        lines.setdefault(source, []).append(f"[{tile}]({ledger}#{claim})")
    shown = [f"[{source}]{{.of}} {' '.join(found)}\n" for source, found in lines.items()]
    return "\n".join(["::: {#strip .tiles}", "", *shown, ":::"])


def against_labels(panels: Mapping[str, pd.DataFrame], printed: Mapping[str, Sequence]) -> Figure:
    """Accuracy against the number of labels: a panel for each data set, lines named at their ends.

    panels: title -> columns method (of `figures.METHODS`), labels, mean, low, high (fractions).
    printed: title -> pairs of labels and percent that a source prints, open diamonds.
    """
    fig, axes = plt.subplots(1, len(panels), figsize=(figures.WIDTH, 2.9), squeeze=False)
    for ax, (title, frame) in zip(axes[0], panels.items(), strict=True):
        ends = []
        for method, rows in frame.groupby("method", sort=False):
            label, colour, marker = figures.look(method)
            rows = rows.sort_values("labels")
            low, mean, high = (100 * rows[key] for key in ("low", "mean", "high"))
            ax.fill_between(rows["labels"], low, high, color=colour, alpha=0.15, lw=0)
            ax.plot(rows["labels"], mean, color=colour, marker=marker, ms=3.5, lw=1.3)
            ends.append((mean.iloc[-1], rows["labels"].iloc[-1], label, colour))
        for x, y in printed.get(title, ()):
            ax.plot(x, y, "D", color=VERMILLION, mfc="white", mew=1.3, ms=5)
        figures.log_counts(ax, frame["labels"])
        ax.tick_params(axis="x", labelrotation=60)
        ax.set(title=title, xlabel="labelled images")
        _names(ax, ends)
    axes[0, 0].set_ylabel("test accuracy, %")
    return figures.shown(fig)


def _names(ax: Axes, ends: Iterable[tuple[float, float, str, str]]) -> None:
    """Names of lines in a column below the axes' upper lines, in the order of their ends."""
    entries = sorted(ends, reverse=True)
    for k, (_, _, label, colour) in enumerate(entries):
        place = {"transform": ax.transAxes, "ha": "right", "va": "bottom", "fontsize": 6.5}
        height = 0.03 + 0.075 * (len(entries) - 1 - k)
        ax.text(0.99, height, label, color=colour, fontweight="bold", **place)


def strip(rows: Iterable[tuple[str, str, str]]) -> Figure:
    """The tiles as a picture: a line for each source. rows: as in `tiles`."""
    lines: dict[str, list[tuple[str, str]]] = {}
    for source, claim, verdict in rows:
        lines.setdefault(source, []).append((claim, verdict))
    wide = 13
    places, names, y = [], [], 0.0
    for source, found in lines.items():
        names.append((y, source))
        for k, each in enumerate(found):
            places.append((k % wide, y + k // wide, *each))
        y += math.ceil(len(found) / wide) + 0.3
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 0.3 * y + 0.2))
    for x, height, claim, verdict in places:
        ax.plot(x, height, **{"ms": 6, "mew": 1} | SIGNS[verdict])
        ax.text(x + 0.2, height, claim, va="center", fontsize=7)
    for height, source in names:
        ax.text(-0.5, height, source, ha="right", va="center", fontsize=7.5, fontweight="bold")
    ax.set(xlim=(-3.6, wide), ylim=(y - 0.4, -0.6))
    ax.set_axis_off()
    return figures.shown(fig)
