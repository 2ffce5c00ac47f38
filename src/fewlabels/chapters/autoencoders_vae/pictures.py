"""Chapter 7's figures, as the notebook calls them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fewlabels import figures
from fewlabels.chapters.autoencoders_vae import results
from fewlabels.chapters.autoencoders_vae.planning import SHEET_WEIGHT, Settings
from fewlabels.chapters.autoencoders_vae.show import mean_image_error
from fewlabels.chapters.rotnet_mnist.results import learning_curves
from fewlabels.data import ImageData
from fewlabels.experiments.denoising import (
    PICTURES,
    REPORT_NOISE,
    TEST_NOISE,
    as_pictures,
    paired_noise,
    spread_out,
)
from fewlabels.experiments.vae import CONFIDENT, GRID, REACH
from fewlabels.runs import Record

LOOKS = {
    results.NOISY: figures.Look("noisy image", figures.FAINT, "x"),
    "median filter": figures.Look("median filter", figures.SKY, "P"),
    "bilateral filter": figures.Look("bilateral filter", figures.GREEN, "^"),
    "non-local means filter": figures.Look("non-local means", figures.PURPLE, "v"),
    results.SHEET: figures.Look("sheet, fixed noise 0.2", figures.BLUE, "o"),
    results.FRESH: figures.Look("sheet, fresh noise 0.4", figures.ORANGE, "D"),
    results.MIXED: figures.Look("sheet, mixed noise", figures.VERMILLION, "s"),
    results.UNET: figures.Look("U-Net, mixed noise", figures.BLACK, "*"),
}
"""How the methods of the noise figure are drawn."""


def noise(images: ImageData) -> Figure:
    """Ten test images, clean and at three levels of noise."""
    clean = images.test.images[:10].float() / 255
    noisy = [paired_noise(clean, level, seed=0) for level in (REPORT_NOISE, TEST_NOISE, 0.8)]
    return figures.image_grid(as_pictures(torch.cat([clean, *noisy])))


def denoising_curves(runs: pd.DataFrame) -> Figure:
    """Training loss, and PSNR of held-out images, of the sheet's network under its settings."""
    rows = results.denoisers(runs).query("name == @results.SHEET").assign(id=lambda x: x["seed"])
    steps = rows["steps"].iloc[0]
    loss = learning_curves(rows, {"train_loss": "training"}, 100 / steps)
    valid = {
        f"valid_psnr_{level:g}": f"held out, noise {level:g}"
        for level in (REPORT_NOISE, TEST_NOISE)
    }
    psnr = learning_curves(rows, valid, 100 / steps)
    panels = [loss.assign(panel="training loss (MSE)"), psnr.assign(panel="PSNR, dB")]
    return figures.learning_curves(pd.concat(panels), xlabel="% of the training steps")


def levels(runs: pd.DataFrame, settings: Settings) -> Figure:
    """PSNR and SSIM against the level of noise."""
    fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.3))
    for ax, (metric, label) in zip(axes, {"psnr": "PSNR, dB", "ssim": "SSIM"}.items(), strict=True):
        frame = results.over_levels(runs, metric, settings.levels)
        for name, (text, colour, marker) in LOOKS.items():
            rows = frame[frame["name"] == name].sort_values("level")
            ax.fill_between(
                rows["level"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0
            )
            ax.plot(rows["level"], rows["mean"], color=colour, marker=marker, label=text)
        ax.set(xlabel="standard deviation of the noise", ylabel=label)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    plt.close(fig)
    return fig


def restored(runs: pd.DataFrame, images: ImageData, settings: Settings, level: float) -> Figure:
    """Five test images, noisy and as methods restore them, one row an image."""
    clean = spread_out(images.test.images, settings.test_images)
    noisy = paired_noise(clean, level, seed=0)[:PICTURES]
    columns = {"clean": as_pictures(clean[:PICTURES]), "noisy": as_pictures(noisy)}
    names = {
        results.best_filter(runs, level): "best filter",
        results.SHEET: "sheet",
        results.FRESH: "sheet, 0.4",
        results.MIXED: "sheet, mixed",
        results.UNET: "U-Net",
    }
    first = results.denoisers(runs).query("seed == 0").set_index("name")["record"]
    for name, heading in names.items():
        columns[heading] = first[name].predictions[f"restored_{level:g}"]
    return _columns(columns)


def five(runs: pd.DataFrame, images: ImageData) -> Figure:
    """The sheet's five test images and their reconstructions under every weight, first seed."""
    columns = {"original": as_pictures(images.test.images[:5].float() / 255)}
    for weight in sorted(set(results.planes(runs)["weight"])):
        columns[f"{weight:g}"] = results.pictured(runs, weight).predictions["five"]
    return _columns(columns)


def _columns(columns: dict[str, np.ndarray]) -> Figure:
    """Pictures uint8 [rows, H, W] as titled columns."""
    stacked = np.stack([*columns.values()], axis=1)
    count = stacked.shape[0] * stacked.shape[1]
    titles = [*columns, *[""] * (count - len(columns))]
    return figures.image_grid(stacked.reshape(count, *stacked.shape[2:]), titles, len(columns))


def rate_distortion(runs: pd.DataFrame, images: ImageData) -> Figure:
    """Mean squared error against KL, one point a seed, means joined, the knee marked."""
    curve = results.rate_distortion(runs)
    knee = results.knee_weight(runs)
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
    every = results.planes(runs)
    ax.plot(curve["kl"], curve["mse"], color=figures.BLUE, marker="o")
    ax.plot(every["kl"], every["mse"], ".", color=figures.BLUE, alpha=0.5, ms=3)
    marked = curve[curve["weight"] == knee]
    ax.plot(
        marked["kl"], marked["mse"], "o", ms=11, mfc="none", mec=figures.VERMILLION, label="knee"
    )
    blind = mean_image_error(images)
    ax.axhline(blind, color=figures.FAINT, ls="--", lw=1, label="mean training image")
    flat = curve[curve["kl"] < 0.02 * curve["kl"].max()]
    for row in curve[~curve["weight"].isin(flat["weight"])].itertuples():
        ax.annotate(f"{row.weight:g}", (row.kl, row.mse), (5, 5), textcoords="offset points")
    if len(flat):
        named = ", ".join(f"{weight:g}" for weight in flat["weight"])
        place = (flat["kl"].iloc[0], flat["mse"].iloc[0])
        ax.annotate(named, place, (8, -10), textcoords="offset points")
    ax.set(xlabel="rate: KL divergence, nats an image", ylabel="distortion: MSE")
    ax.legend()
    plt.close(fig)
    return fig


def by_weight(runs: pd.DataFrame) -> Figure:
    """Four measures against the weight, one point a seed and the means joined."""
    measures = {
        "mse": "MSE",
        "kl": "KL, nats",
        "knn_accuracy": "kNN accuracy",
        "confident": f"cells read at {CONFIDENT:g}",
    }
    every = results.planes(runs)
    knee = results.knee_weight(runs)
    fig, axes = plt.subplots(2, 2, figsize=(figures.WIDTH, 3.9), sharex=True)
    for ax, (metric, label) in zip(axes.flat, measures.items(), strict=True):
        mean = every.groupby("weight")[metric].mean()
        ax.plot(mean.index, mean, color=figures.BLUE)
        ax.plot(every["weight"], every[metric], "o", color=figures.BLUE, ms=3.5, alpha=0.7)
        ax.axvline(knee, color=figures.VERMILLION, lw=1)
        ax.axvline(SHEET_WEIGHT, color=figures.FAINT, lw=1, ls="--")
        ax.set(xscale="log", ylabel=label)
        ax.set_ylim(bottom=0)
        ax.xaxis.set_minor_locator(NullLocator())
    for ax in axes[1]:
        ax.set_xlabel("weight of the KL term")
    plt.close(fig)
    return fig


def planes(runs: pd.DataFrame, images: ImageData) -> Figure:
    """Posterior means of test images under every weight, first seed, by digit."""
    weights = sorted(set(results.planes(runs)["weight"]))
    columns = 4
    rows = -(-(len(weights) + 1) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(figures.WIDTH, 1.75 * rows), squeeze=False)
    for ax in axes.flat[len(weights) :]:
        ax.set_axis_off()
    for ax, weight in zip(axes.flat, weights, strict=False):
        points = results.pictured(runs, weight).predictions["plane"].astype(float)
        labels = images.test.labels[: len(points)].numpy()
        for k, name in enumerate(images.classes):
            here = points[labels == k]
            ax.scatter(
                *here.T, s=2, color=figures.CLASSES[k], alpha=0.6, lw=0, rasterized=True, label=name
            )
        reach = max(0.5, np.quantile(np.abs(points), 0.995))
        ax.set(title=f"{weight:g}", xlim=(-reach, reach), ylim=(-reach, reach))
        ax.set_aspect("equal")
        ax.tick_params(labelsize=6)
        ax.grid(visible=False)
    handles, names = axes[0, 0].get_legend_handles_labels()
    last = axes.flat[-1]
    legend = last.legend(handles, names, loc="center", ncols=2, markerscale=4, title="digit")
    for handle in legend.legend_handles:
        handle.set_alpha(1)
    plt.close(fig)
    return fig


def grids(runs: pd.DataFrame) -> Figure:
    """The decoded grid under every weight, first seed."""
    weights = sorted(set(results.planes(runs)["weight"]))
    knee = results.knee_weight(runs)
    rows = -(-len(weights) // 3)
    fig, axes = plt.subplots(rows, 3, figsize=(figures.WIDTH, 2.3 * rows), squeeze=False)
    for ax in axes.flat[len(weights) :]:
        ax.set_axis_off()
    for ax, weight in zip(axes.flat, weights, strict=False):
        _grid(ax, results.pictured(runs, weight))
        note = {knee: " (knee)", SHEET_WEIGHT: " (printed)"}.get(weight, "")
        ax.set_title(f"weight {weight:g}{note}")
    plt.close(fig)
    return fig


def _grid(ax: Axes, record: Record) -> None:
    cells = record.predictions["grid"].reshape(GRID, GRID, 28, 28)
    picture = cells.transpose(0, 2, 1, 3).reshape(GRID * 28, GRID * 28)
    edge = REACH * GRID / (GRID - 1)
    ax.imshow(
        picture,
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="none",
        extent=(-edge, edge, -edge, edge),
    )
    ax.set(xticks=[-3, 0, 3], yticks=[-3, 0, 3])
    ax.grid(visible=False)


def grid_read(runs: pd.DataFrame, weight: float) -> Figure:
    """The decoded grid at a weight beside what the classifier reads in it, and how surely."""
    record = results.pictured(runs, weight)
    fig, (left, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.2))
    _grid(left, record)
    sure = record.predictions["grid_confidence"].astype(float).reshape(GRID, GRID)
    read = record.predictions["grid_classes"].reshape(GRID, GRID)
    shown = right.imshow(sure, cmap="Blues", vmin=0, vmax=1)
    for (row, column), digit in np.ndenumerate(read):
        colour = "white" if sure[row, column] > 0.6 else figures.INK
        right.text(column, row, str(digit), ha="center", va="center", fontsize=8, color=colour)
    right.set(xticks=[], yticks=[])
    right.grid(visible=False)
    fig.colorbar(shown, ax=right, shrink=0.8, label="confidence")
    plt.close(fig)
    return fig
