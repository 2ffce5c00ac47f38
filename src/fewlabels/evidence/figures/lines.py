"""Learning curves, and measures against the number of labels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from fewlabels.errors import UserError
from fewlabels.evidence.figures.looks import DASHES, THIN, WIDTH, look
from fewlabels.evidence.figures.parts import fractions, legend, need, shown
from fewlabels.evidence.statistics import mean_interval


def learning_curves(
    frame: pd.DataFrame, ylabel: str | None = None, xlabel: str = "epoch"
) -> Figure:
    """Every run as a thin line; per series the mean over runs and its 95% interval as a band.

    frame: one row per run and epoch, with columns epoch (1, 2, ...), value, run, series (such as
    training and validation: told apart by colour and dash), and optionally panel: one axes for
    each, side by side, and luck: what a run shares with others. With `ylabel`, all panels share
    that axis and are titled; without, each panel's name is its own axis label, for panels of
    different units. The mean covers the epochs that all runs of a series reached. The axes fit the
    runs; a band that goes far beyond them, as it does with three, is cut.
    """
    need(frame, "epoch", "value", "run", "series")
    panels = list(dict.fromkeys(frame["panel"])) if "panel" in frame else [None]
    shared = ylabel is not None
    fig, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 2.7), sharey=shared, squeeze=False)
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
        low, high = (frame if shared else part)["value"].agg(["min", "max"])
        spare = 0.15 * (high - low) or 0.1
        ax.set_ylim(low - spare, high + spare)
        ax.set_xlabel(xlabel)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if shared:
            ax.set_title(panel or "")
        else:
            ax.set_ylabel(panel or "")
    if shared:
        axes[0, 0].set_ylabel(ylabel)
    legend(fig, axes.flat)
    return shown(fig)


def accuracy_against_labels(frame: pd.DataFrame, ylabel: str = "test accuracy, %") -> Figure:
    """One line per method: mean and interval against the number of labels, on a log axis.

    frame: columns method (a key of `METHODS`), labels (number of labelled images), mean, low,
    high (fractions 0..1). The legend lists the methods in the order of their last means. Raises
    UserError for other columns and means.
    """
    need(frame, "method", "labels", "mean", "low", "high")
    fractions(frame, "mean")
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
    return shown(fig)


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
