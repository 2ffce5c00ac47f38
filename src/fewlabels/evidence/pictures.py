"""Figures of what networks make of images: restored ones, a latent plane and what it decodes to.

As in `fewlabels.evidence.figures`, every function returns a closed figure. Images are uint8, 0 to
255.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fewlabels.errors import UserError
from fewlabels.evidence import figures

COLUMNS = 3
"""Latent planes beside each other."""


def columns(pictures: Mapping[str, np.ndarray]) -> Figure:
    """Titled columns of pictures, one row for each image.

    pictures: title -> uint8 [N, H, W]. Raises UserError where the columns differ in shape.
    """
    shapes = {title: np.shape(each) for title, each in pictures.items()}
    if len(set(shapes.values())) != 1:
        raise UserError(f"the columns have shapes {shapes}: pass one and the same [N, H, W].")
    stacked = np.stack([*pictures.values()], axis=1)
    flat = stacked.reshape(-1, *stacked.shape[2:])
    titles = [*pictures, *[""] * (len(flat) - len(pictures))]
    return figures.image_grid(flat, titles, len(pictures))


def lines(frame: pd.DataFrame, looks: Mapping[str, tuple[str, str, str]], xlabel: str) -> Figure:
    """Means with their intervals as bands: a panel for each measure, a line for each method.

    frame: columns panel (its axis label), name, x, mean, low and high. looks: name -> label, colour
    and marker; names without are left out.
    """
    panels = frame["panel"].unique()
    fig, axes = plt.subplots(1, len(panels), figsize=(figures.WIDTH, 3.3), squeeze=False)
    for ax, panel in zip(axes[0], panels, strict=True):
        for name, (label, colour, marker) in looks.items():
            rows = frame[(frame["panel"] == panel) & (frame["name"] == name)].sort_values("x")
            ax.fill_between(rows["x"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
            ax.plot(rows["x"], rows["mean"], color=colour, marker=marker, label=label)
        ax.set(xlabel=xlabel, ylabel=panel)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figures.shown(fig)


def by_weight(
    rows: pd.DataFrame, measures: Mapping[str, str], solid: float, dashed: float
) -> Figure:
    """Measures against a weight on a logarithmic axis: a point for each run, the means joined.

    rows: a column weight, and one for each of ``measures`` (column -> axis label). solid, dashed:
    weights that are marked by a line.
    """
    high = math.ceil(len(measures) / 2)
    fig, axes = plt.subplots(high, 2, figsize=(figures.WIDTH, 1.95 * high), sharex=True)
    for ax, (metric, label) in zip(axes.flat, measures.items(), strict=False):
        mean = rows.groupby("weight")[metric].mean()
        ax.plot(mean.index, mean, color=figures.BLUE)
        ax.plot(rows["weight"], rows[metric], "o", color=figures.BLUE, ms=3.5, alpha=0.7)
        ax.axvline(solid, color=figures.VERMILLION, lw=1)
        ax.axvline(dashed, color=figures.FAINT, lw=1, ls="--")
        ax.set(xscale="log", ylabel=label)
        ax.set_ylim(bottom=0)
        ax.xaxis.set_minor_locator(NullLocator())
    for ax in np.atleast_2d(axes)[-1]:
        ax.set_xlabel("weight of the KL term")
    for ax in axes.flat[len(measures) :]:
        ax.set_axis_off()
    return figures.shown(fig)


def rate_distortion(rows: pd.DataFrame, knee: float, blind: float) -> Figure:
    """Mean squared error against KL: a point for each run, the means joined and named by weight.

    rows: columns weight, kl (nats) and mse. knee: the weight that is circled. blind: the error of a
    decoder that knows nothing of its image. Weights whose rate is next to nothing share a name.
    """
    curve = rows.groupby("weight")[["kl", "mse"]].mean()
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
    ax.plot(curve["kl"], curve["mse"], color=figures.BLUE, marker="o")
    ax.plot(rows["kl"], rows["mse"], ".", color=figures.BLUE, alpha=0.5, ms=3)
    circle = {"ms": 11, "mfc": "none", "mec": figures.VERMILLION, "label": "knee"}
    ax.plot(*curve.loc[[knee]].to_numpy().T, "o", **circle)
    ax.axhline(blind, color=figures.FAINT, ls="--", lw=1, label="mean training image")
    flat = curve["kl"] < 0.005 * curve["kl"].max()
    for weight, point in curve[~flat].iterrows():
        ax.annotate(f"{weight:g}", point, (5, 5), textcoords="offset points")
    if flat.any():
        named = ", ".join(f"{weight:g}" for weight in curve.index[flat])
        ax.annotate(named, curve[flat].iloc[0], (8, -3), textcoords="offset points")
    ax.set(xlabel="rate: KL divergence, nats an image", ylabel="distortion: MSE")
    ax.legend()
    return figures.shown(fig)


def planes(
    points: Mapping[str, np.ndarray], labels: np.ndarray, classes: Sequence[str], called: str
) -> Figure:
    """Latent planes beside each other, points coloured by class, each plane on its own scale.

    points: title -> [N, 2]; labels: [M] integers into ``classes``, M >= N, of which the first N
    count; called: what a class is. One point in two hundred may lie outside its frame.
    """
    # The last place is left for the legend.
    fig, axes = _grid_of_axes(len(points) + 1, 2.1)
    for ax, (title, found) in zip(axes.flat, points.items(), strict=False):
        places = np.asarray(found, dtype=float)
        for k, name in enumerate(classes):
            here = places[labels[: len(places)] == k]
            look = {"s": 2, "color": figures.CLASSES[k], "alpha": 0.6, "lw": 0}
            ax.scatter(*here.T, **look, rasterized=True, label=name)
        reach = max(0.5, np.quantile(np.abs(places), 0.995))
        ax.set(title=title, xlim=(-reach, reach), ylim=(-reach, reach))
        ax.set_axis_on()
        ax.set_aspect("equal")
        ax.tick_params(labelsize=6)
        ax.grid(visible=False)
    handles, names = axes[0, 0].get_legend_handles_labels()
    place = {"loc": "center", "ncols": 2, "markerscale": 4}
    legend = axes.flat[-1].legend(handles, names, title=called, **place)
    for handle in legend.legend_handles:
        handle.set_alpha(1)
    return figures.shown(fig)


def decoded(grids: Mapping[str, np.ndarray], reach: float) -> Figure:
    """What latent planes decode to, beside each other.

    grids: title -> uint8 [n * n, H, W], rows from the top down; reach: the outer points of the grid
    along both axes.
    """
    fig, axes = _grid_of_axes(len(grids), 2.3)
    for ax, (title, cells) in zip(axes.flat, grids.items(), strict=False):
        _decoded(ax, cells, reach)
        ax.set_axis_on()
        ax.set_title(title)
    return figures.shown(fig)


def read(cells: np.ndarray, classes: np.ndarray, confidence: np.ndarray, reach: float) -> Figure:
    """A decoded plane beside what a classifier reads in each cell, darker where it is surer.

    cells, reach: as in `decoded`; classes: [n * n] integers; confidence: [n * n], 0..1. Raises
    UserError for other shapes and values.
    """
    sure = np.asarray(confidence, dtype=float)
    if sure.shape != (len(cells),) or np.shape(classes) != sure.shape:
        raise UserError(
            f"classes {np.shape(classes)} and confidence {sure.shape} for {len(cells)} cells: "
            "pass one each."
        )
    if not ((sure >= 0) & (sure <= 1)).all():
        raise UserError(f"confidence runs from {sure.min():.4g} to {sure.max():.4g}: pass 0 to 1.")
    side = math.isqrt(len(cells))
    fig, (left, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.2))
    _decoded(left, cells, reach)
    sure = sure.reshape(side, side)
    drawn = right.imshow(sure, cmap="Blues", vmin=0, vmax=1)
    for (row, column), digit in np.ndenumerate(np.reshape(classes, (side, side))):
        colour = "white" if sure[row, column] > 0.6 else figures.INK
        right.text(column, row, str(digit), ha="center", va="center", fontsize=8, color=colour)
    right.set(xticks=[], yticks=[])
    right.grid(visible=False)
    fig.colorbar(drawn, ax=right, shrink=0.8, label="confidence")
    return figures.shown(fig)


def _decoded(ax: Axes, cells: np.ndarray, reach: float) -> None:
    side = math.isqrt(len(cells))
    if side * side != len(cells) or side < 2:
        raise UserError(f"{len(cells)} cells make no square: pass [n * n, H, W], n at least 2.")
    height, width = cells.shape[1:]
    square = cells.reshape(side, side, height, width).transpose(0, 2, 1, 3)
    edge = reach * side / (side - 1)
    ax.imshow(
        square.reshape(side * height, side * width),
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="none",
        extent=(-edge, edge, -edge, edge),
    )
    ax.set(xticks=[-reach, 0, reach], yticks=[-reach, 0, reach])
    ax.grid(visible=False)


def _grid_of_axes(count: int, height: float) -> tuple[Figure, np.ndarray]:
    rows = math.ceil(count / COLUMNS)
    size = (figures.WIDTH, height * rows)
    fig, axes = plt.subplots(rows, COLUMNS, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    return fig, axes
