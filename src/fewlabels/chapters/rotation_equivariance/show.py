"""Chapter 2's tables and figures, as the notebook calls them."""

import math
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from torch import nn

from fewlabels import comparisons, data, figures, tables
from fewlabels import equivariance as eq
from fewlabels.chapters.rotation_equivariance import claims, planning, results
from fewlabels.chapters.rotation_equivariance.claims import NETWORKS
from fewlabels.chapters.rotation_equivariance.planning import (
    CIRCLE,
    NAME,
    SLOWEST_SHOWN,
    Settings,
)
from fewlabels.data import ImageData
from fewlabels.data.rotated import generate
from fewlabels.experiments.angles import BINS
from fewlabels.models.stack import DOWNS
from fewlabels.tables import Table, number

SPAN = "\N{PLUS-MINUS SIGN}{}°"


def summary(runs: pd.DataFrame, settings: Settings, images: ImageData) -> str:
    """The chapter in one paragraph, every figure from the runs."""
    verdicts = {row["claim"].id: row for row in claims.rows(runs, settings)}
    lines = []
    for network, id in (("mlp", "E1"), ("cnn", "E2")):
        middle = results.at_rate(runs, network, 1e-4)
        high = results.at_rate(runs, network, 1e-2)
        if len(middle) and len(high):
            lines.append(
                f"The {NETWORKS[network]} reads the angle off to "
                f"**{_mae(middle)}°** at rate 1e-4 and {_mae(high)}° at 1e-2 (n = {len(middle)} "
                f"seeds, mean absolute error on the test images): {id} "
                f"{verdicts[id]['verdict'].predicate}."
            )
    luck = results.splits(runs)
    if len(luck):
        lines.append(
            "That the test loss lies below the training loss at 1e-8 (E3) "
            f"{verdicts['E3']['verdict'].predicate}: with the images split at random it does so "
            f"in {100 * luck['loss_lower'].mean():.0f}% of the splits, and the networks share the "
            f"luck (correlation {number(_shared_luck(runs), 2)})."
        )
    shift, turn = verdicts["E4"], verdicts["E5"]
    lines.append(
        f"Convolutions move with a shift except at the border (E4 {_word(shift)}), and do not turn "
        f"with a rotation (E5 {_word(turn)})."
    )
    for span in dict.fromkeys((settings.span, CIRCLE)):
        rows = results.best(runs, settings)
        rows = rows[rows["span"] == span]
        where = "over the full circle" if span == CIRCLE else f"at {SPAN.format(span)}"
        lines.append(
            f"A network of ours, chosen on validation images and trained for only "
            f"{settings.best_steps:,} steps, is off by **{_mae(rows)}°** {where} (n = {len(rows)})."
        )
    return (
        "::: {.callout-important}\n## In short\n\n"
        + " ".join(lines)
        + f" Data: {images.title}, turned by us.\n:::"
    )


def _word(row: dict) -> str:
    return f"{row['verdict'].predicate}: {row['ours'] or tables.NOT_RUN}"


def _mae(rows: pd.DataFrame, column: str = "mae", decimals: int = 1) -> str:
    return number(comparisons.mean(rows, column), decimals)


# Data


def examples(images: ImageData, settings: Settings) -> Figure:
    """The first training image of every class upright, and turned by its angle."""
    count = len(images.classes)
    first = torch.stack([(images.train.labels == k).nonzero()[0, 0] for k in range(count)])
    upright = images.train.images[first]
    turned, degrees = generate(upright, settings.span, seed=0)
    titles = [""] * count + [f"{angle:+z.0f}°".replace("-", tables.MINUS) for angle in degrees]
    return figures.image_grid(torch.cat([upright, turned]).squeeze(1).numpy(), titles, count)


# Learning rates


def rates_table(runs: pd.DataFrame, settings: Settings, network: str, source: str) -> Table:
    """The report's network at its rates."""
    rows = []
    for rate, group in results.report(runs, network).groupby("rate", sort=False):
        rows.append(
            {
                "Rate": f"{rate:g}",
                "n": str(len(group)),
                "Test MAE, °": _mae(group),
                "Training MAE, °": _mae(group, "shown_mae"),
                "Test loss": _mae(group, "test_loss", 3),
                "Training loss": _mae(group, "shown_loss", 3),
                "Constant": f"{results.constant(group)} of {len(group)}",
            }
        )
    group = results.report(runs, network)
    images = group["labels"].iloc[0]
    guess = number(group["mae_of_the_mean"].mean())
    return tables.show(
        pd.DataFrame(rows),
        f"tbl-angle-rates-{network}",
        f"The report's {NETWORKS[network]} after {settings.epochs} epochs on {images:,} training "
        f"images of {source}, turned by {SPAN.format(settings.span)}: mean absolute error (MAE) in "
        "degrees and mean squared error of standardised angles, on the test images and on the "
        "first 2,000 training images; mean over n seeds with 95% interval. Constant counts the "
        f"runs that are not 1% better than the mean training angle, which is {guess}° off.",
    )


def best_rates(runs: pd.DataFrame) -> str:
    """Which rate has the lowest mean error, in a sentence."""
    found = []
    for network, name in NETWORKS.items():
        rows = results.report(runs, network)
        rate = rows.groupby("rate")["mae"].mean().idxmin()
        best = rows[rows["rate"] == rate]
        found.append(f"{rate:g} for the {name} ({_mae(best)}°, n = {len(best)})")
    return (
        f"The rate with the lowest mean test error is {' and '.join(found)}. The source compares "
        "1e-2, 1e-4 and 1e-8; the default of 1e-3 it tries with the CNN alone."
    )


RATE_COLOURS = (figures.BLUE, figures.GREEN, figures.VERMILLION, figures.PURPLE, figures.BLACK)


def curves(runs: pd.DataFrame, settings: Settings, network: str) -> Figure:
    """Loss and error over the epochs as the source draws them: a colour per rate, test dashed."""
    fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.0))
    by_rate = results.report(runs, network).groupby("rate", sort=False)
    for (rate, rows), colour in zip(by_rate, cycle(RATE_COLOURS), strict=False):
        for ax, metric in zip(axes, ("loss", "mae"), strict=True):
            for part, dash in (("shown", "-"), ("test", "--")):
                epochs, each = results.curves(rows, settings, f"{part}_{metric}")
                ax.plot(epochs, each.T, color=colour, ls=dash, lw=0.5, alpha=0.35)
                label = f"{rate:g}" if part == "shown" else None
                ax.plot(epochs, each.mean(axis=0), color=colour, ls=dash, lw=1.4, label=label)
    axes[0].set(ylabel="squared error of standardised angles", yscale="log")
    axes[1].set(ylabel="mean absolute error, degrees", ylim=(0, None))
    for ax in axes:
        ax.set_xlabel("epoch")
    handles, labels = axes[0].get_legend_handles_labels()
    for name, dash in (("training", "-"), ("test", "--")):
        handles.append(Line2D([], [], color=figures.FAINT, ls=dash))
        labels.append(name)
    fig.legend(handles, labels, loc="outside upper center", ncols=len(labels), columnspacing=1)
    plt.close(fig)
    return fig


# The luck of the split


def splits_figure(runs: pd.DataFrame) -> Figure:
    """Test minus training loss over random splits, the MLP's across and the CNN's upwards."""
    across, up = (results.split_differences(runs, network) for network in NETWORKS)
    count = min(len(across), len(up))
    fig, ax = plt.subplots(figsize=(0.75 * figures.WIDTH, 0.6 * figures.WIDTH))
    ax.axhline(0, color=figures.INK, lw=0.8)
    ax.axvline(0, color=figures.INK, lw=0.8)
    ax.scatter(
        across[:count],
        up[:count],
        s=5,
        color=figures.SKY,
        alpha=0.5,
        lw=0,
        rasterized=True,
        label="a random split",
    )
    own = [
        results.gaps(results.at_rate(runs, network, SLOWEST_SHOWN), "loss") for network in NETWORKS
    ]
    seeds = sorted(own[0].keys() & own[1].keys())
    ax.plot(
        [own[0][seed] for seed in seeds],
        [own[1][seed] for seed in seeds],
        "D",
        color=figures.VERMILLION,
        label="our runs, their own split",
    )
    ax.set(xlabel="MLP: test minus training loss", ylabel="CNN: test minus training loss")
    fig.legend(loc="outside upper center", ncols=2)
    plt.close(fig)
    return fig


def splits_table(runs: pd.DataFrame, source: str) -> Table:
    """How often the test side is the lower one."""
    rows = []
    for network, name in NETWORKS.items():
        luck = results.splits(runs)
        luck = luck[luck["network"] == network]
        own = results.at_rate(runs, network, SLOWEST_SHOWN)
        gap = comparisons.of_gaps(results.gaps(own, "loss")) if len(own) else None
        rows.append(
            {
                "Network": name,
                "n": str(len(luck)),
                "Loss lower, %": _share(luck, "loss_lower"),
                "MAE lower, %": _share(luck, "mae_lower"),
                "Both, %": _share(luck, "both_lower"),
                "Deviation": number(luck["loss_difference_sd"].mean(), 3),
                "Our runs": number(gap, 3, sign=True),
            }
        )
    splits = results.splits(runs)["record"].iloc[0].config["splits"]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-angle-splits",
        f"Rate 1e-8: how often test lies below training when the images of {source} are split at "
        f"random ({splits:,} splits per seed, n seeds, mean with 95% interval), the standard "
        "deviation of test minus training loss over the splits, and that difference in our runs. "
        f"Over the same splits the differences of the two networks have correlation "
        f"{number(_shared_luck(runs), 2)}.",
    )


def _shared_luck(runs: pd.DataFrame) -> float:
    """Correlation of the two networks' loss differences over the same random splits."""
    across, up = (results.split_differences(runs, network) for network in NETWORKS)
    count = min(len(across), len(up))
    return float(np.corrcoef(across[:count], up[:count])[0, 1])


def _share(rows: pd.DataFrame, column: str) -> str:
    return tables.percent(comparisons.fraction(rows, column))


# Number or circle


def outputs_table(runs: pd.DataFrame, settings: Settings, source: str) -> Table:
    """The angle as a number and on the circle."""
    rows = []
    found = results.outputs(runs, settings)
    for (span, output), group in found.groupby(["span", "output"], sort=False):
        rows.append(
            {
                "Angles": SPAN.format(span),
                "Output": output,
                "n": str(len(group)),
                "MAE, °": _mae(group),
                "Median, °": _mae(group, "median_error"),
                "Beyond 90°, %": _share(group, "beyond_90"),
            }
        )
    lines = [_versus(found, span) for span in dict.fromkeys(found["span"])]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-angle-outputs",
        f"One network (CNN with batch norm, {settings.curve_steps:,} steps, one angle per image), "
        f"the angle as a number or on the circle, {source}, test images; mean over n seeds with "
        f"95% interval. Number minus circle, paired: {'; '.join(lines)}.",
    )


def _versus(found: pd.DataFrame, span: int) -> str:
    own = found[found["span"] == span]
    parts = (own[own["output"] == output] for output in ("number", "circle"))
    return f"{number(results.difference(*parts, 'mae'), sign=True)}° at {SPAN.format(span)}"


def wrap_figure(runs: pd.DataFrame, settings: Settings) -> Figure:
    """Error by the true angle at the full circle, for both outputs."""
    found = results.outputs(runs, settings)
    found = found[found["span"] == CIRCLE]
    middle = (np.arange(BINS) + 0.5) / BINS * 2 * CIRCLE - CIRCLE
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.8))
    for (output, rows), colour, mark in zip(
        found.groupby("output", sort=False),
        (figures.VERMILLION, figures.BLUE),
        "so",
        strict=False,
    ):
        each = np.array([record.curves["mae_by_angle"] for record in rows["record"]])
        ax.plot(middle, each.T, color=colour, lw=0.6, alpha=0.45)
        ax.plot(middle, each.mean(axis=0), color=colour, marker=mark, ms=4, label=output)
    ax.set(xlabel="true angle, degrees", ylabel="mean absolute error, degrees", ylim=(0, None))
    ax.set_xticks(range(-CIRCLE, CIRCLE + 1, 60))
    fig.legend(loc="outside upper center", ncols=2)
    plt.close(fig)
    return fig


# Few images, and the best


LINES = {
    ("cnn", False): ("CNN, one angle per image", figures.BLUE, "o", "--"),
    ("cnn", True): ("CNN, fresh angles", figures.BLUE, "o", "-"),
    ("c4", False): ("C4, one angle per image", figures.VERMILLION, "s", "--"),
    ("c4", True): ("C4, fresh angles", figures.VERMILLION, "s", "-"),
}


def images_curve(runs: pd.DataFrame, settings: Settings) -> Figure:
    """Test error against the number of training images at the full circle."""
    frame = results.curve(runs, settings)
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.2))
    for key, (label, colour, marker, dash) in LINES.items():
        rows = frame[(frame["network"] == key[0]) & (frame["fresh"] == key[1])]
        rows = rows.sort_values("images")
        ax.fill_between(rows["images"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
        ax.plot(rows["images"], rows["mean"], color=colour, marker=marker, ls=dash, label=label)
    ax.set_xscale("log")
    ticks = sorted(set(frame["images"]))
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(
        xlabel="training images (log scale)", ylabel="mean absolute error, degrees", ylim=(0, None)
    )
    fig.legend(loc="outside right center")
    plt.close(fig)
    return fig


def images_table(runs: pd.DataFrame, settings: Settings, source: str) -> Table:
    """The same as a table, with C4 against the CNN in pairs."""
    found = results.tuned(runs)
    rows, tested = [], []
    for images in settings.image_numbers:
        row = {"Images": images}
        at = found[
            (found["span"] == CIRCLE)
            & (found["images"] == images)
            & (found["steps"] == settings.curve_steps)
            & (found["output"] == "circle")
        ]
        for (network, fresh), (label, *_) in LINES.items():
            own = at[(at["network"] == network) & (at["fresh"] == fresh)]
            row[label] = _mae(own)
        cnn, c4 = (at[(at["network"] == name) & at["fresh"].astype(bool)] for name in ("cnn", "c4"))
        paired = results.difference(c4, cnn, "mae")
        tested += [paired] if paired else []
        row["C4 minus CNN, fresh"] = number(paired, sign=True)
        rows.append(row)
    smallest = min(tables.corrected(tested), default=math.nan)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-angle-images",
        f"Mean absolute error in degrees on the test images of {source} over the full circle, "
        f"{settings.curve_steps:,} steps whatever the number of images; mean over n = "
        f"{settings.seeds} seeds with 95% interval, and the paired difference of the two networks "
        f"(smallest of {len(tested)} p values of t tests after Holm: {tables.p_value(smallest)}).",
    )


def choices_table(runs: pd.DataFrame, settings: Settings, source: str) -> Table:
    """What was compared on held-out training images."""
    found = results.tuned(runs, "validation")
    rows = [
        {
            "Angles": SPAN.format(span),
            "Network": network,
            "Steps": int(group["steps"].iloc[0]),
            "n": str(len(group)),
            "Held-out MAE, °": _mae(group),
        }
        for (span, network), group in sorted(
            found.groupby(["span", "network"]),
            key=lambda item: (item[0][0], item[1]["mae"].mean()),
        )
    ]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-angle-choices",
        "Candidates for our best network, with fresh angles, on the circle, scored "
        f"on training images of {source} that were held out; n seeds that no test "
        "run uses.",
    )


def best_table(runs: pd.DataFrame, settings: Settings, source: str) -> Table:
    """The chosen networks, trained longer and scored once on the test images."""
    rows = []
    for span, group in results.best(runs, settings).groupby("span", sort=False):
        rows.append(
            {
                "Angles": SPAN.format(span),
                "Network": group["network"].iloc[0],
                "n": str(len(group)),
                "MAE, °": _mae(group),
                "Median, °": _mae(group, "median_error"),
                "Beyond 90°, %": _share(group, "beyond_90"),
                "Parameters": group["record"].iloc[0].parameters["total"],
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-angle-best",
        f"Our networks, chosen on validation images and trained for {settings.best_steps:,} steps "
        f"on {settings.tuned_images:,} training images of {source} with fresh angles in every "
        "step, on the test images; mean over n seeds with 95% interval.",
    )


def best_beside_report(runs: pd.DataFrame, settings: Settings) -> str:
    """Our best network beside the report's networks at their best rates, at the same span."""
    ours = results.best(runs, settings)
    ours = ours[ours["span"] == settings.span]
    lines = []
    for network, name in NETWORKS.items():
        rows = results.report(runs, network)
        rows = rows[rows["rate"] == rows.groupby("rate")["mae"].mean().idxmin()]
        lines.append(
            f"the report's {name} after {rows['steps'].iloc[0]:,} steps at its best rate, "
            f"{rows['rate'].iloc[0]:g}, on {rows['labels'].iloc[0]:,} images: {_mae(rows)}°"
        )
    return (
        f"At {SPAN.format(settings.span)} our network is off by {_mae(ours)}° after "
        f"{ours['steps'].iloc[0]:,} steps (n = {len(ours)}). Beside it stand "
        + "; ".join(lines)
        + ". Those rates have the lowest test error, which favours the report; and a step of the "
        "MLP takes a small fraction of the time of one of a convolutional network."
    )


def classes_figure(runs: pd.DataFrame, settings: Settings, images: ImageData) -> Figure:
    """Error of the best network by what the image shows, at both spans."""
    found = results.best(runs, settings)
    spans = list(dict.fromkeys(found["span"]))
    fig, axes = plt.subplots(1, len(spans), figsize=(figures.WIDTH, 3.0), squeeze=False)
    places = np.arange(len(images.classes))
    for i, (ax, span) in enumerate(zip(axes[0], spans, strict=True)):
        rows = found[found["span"] == span]
        each = np.array([record.curves["mae_by_class"] for record in rows["record"]])
        ax.barh(places, each.mean(axis=0), color=figures.SKY)
        ax.plot(each.T, places, "o", color=figures.BLUE, ms=2.5)
        ax.set_yticks(places, images.classes if i == 0 else [])
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        ax.set(title=f"angles {SPAN.format(span)}", xlabel="mean absolute error, degrees")
    plt.close(fig)
    return fig


# Equivariance


def panels(images: ImageData, settings: Settings, pixels: int = 5, seed: int = 4) -> Figure:
    """The source's four panels: an image, its features, and two errors, pixel by pixel.

    The features are those of the source's function, one untrained 3 x 3 convolution applied twice
    with a ReLU after each, on the first training image. Under many seeds the ReLUs leave nothing to
    look at.
    """
    torch.manual_seed(seed)
    conv = nn.Conv2d(1, 1, 3)
    turned, _ = generate(images.train.images[:1], settings.span, seed=0)
    image = turned.float() / 255

    def features(x):
        return torch.relu(conv(torch.relu(conv(x))))

    with torch.no_grad():
        shown = [
            ("(1) the image", image[0, 0]),
            ("(2) its features", features(image)[0, 0]),
            (
                f"(3) error of a shift by {pixels} px",
                eq.error_map(features, image, eq.shift(pixels, pixels)).relative[0],
            ),
            (
                "(4) error of a turn by 90°",
                eq.error_map(features, image, eq.rotation(90)).relative[0],
            ),
        ]
    fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 1.9))
    for ax, (title, maps) in zip(axes, shown, strict=True):
        if "error" in title:
            title += f"\n(black: {100 * maps.max():.0f}%)"
        ax.imshow(maps, cmap="gray_r", interpolation="none", vmin=0)
        ax.set_title(title, fontweight="normal", fontsize=8)
        ax.set_axis_off()
    plt.close(fig)
    return fig


def _lines(ax, rows: pd.DataFrame, axis: str, name: str, colour, marker: str, dash: str, label):
    """Mean over runs of one curve of the records, and every run as a thin line."""
    if not len(rows):
        return
    x = rows["record"].iloc[0].curves[axis]
    each = 100 * np.array([record.curves[name] for record in rows["record"]])
    ax.plot(x, each.T, color=colour, lw=0.5, alpha=0.4)
    face = colour if dash == "-" else "white"
    mean = each.mean(axis=0)
    ax.plot(x, mean, color=colour, marker=marker, mfc=face, ls=dash, ms=4, label=label)


def shift_figure(runs: pd.DataFrame) -> Figure:
    """Error against the shift, inside the border and at it."""
    fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 2.9))
    for padding, colour, marker in (
        ("none", figures.BLUE, "o"),
        ("zeros", figures.VERMILLION, "s"),
    ):
        for trained, dash in ((False, "--"), (True, "-")):
            rows = results.equivariance(runs, padding=padding, trained=trained)
            name = f"padding {padding}, {'trained' if trained else 'untrained'}"
            for ax, part in zip(axes, ("inside", "outside"), strict=True):
                _lines(ax, rows, "shift", f"shift_{part}", colour, marker, dash, name)
    for ax, title in zip(axes, ("inside the border", "at the border"), strict=True):
        ax.set(title=title, xlabel="shift down and right, pixels")
        ax.set_xticks(range(1, 9))
    axes[0].set(ylabel="relative error, %", ylim=(-0.05, 1))
    axes[1].set_ylim(0, None)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    plt.close(fig)
    return fig


DOWN_LOOKS = {
    "none": ("stride 1", figures.BLACK, "*"),
    "stride": ("stride 2", figures.VERMILLION, "s"),
    "stride, blurred": ("stride 2, blurred", figures.ORANGE, "v"),
    "max": ("max pooling", figures.BLUE, "o"),
    "max, blurred": ("max pooling, blurred", figures.SKY, "^"),
}


def aliasing_figure(runs: pd.DataFrame) -> Figure:
    """Error against the shift on a torus, for every way of going down in resolution."""
    fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.0), sharey=True)
    for ax, trained in zip(axes, (False, True), strict=True):
        for down in DOWNS:
            rows = results.equivariance(runs, padding="circular", down=down, trained=trained)
            label, colour, marker = DOWN_LOOKS[down]
            _lines(ax, rows, "shift", "shift_all", colour, marker, "-", label)
        ax.set(title="trained" if trained else "untrained", xlabel="shift, pixels")
        ax.set_xticks(range(1, 9))
    axes[0].set_ylabel("relative error, %")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    plt.close(fig)
    return fig


def turn_figure(runs: pd.DataFrame) -> Figure:
    """Error against the angle over the circle, inside the inscribed disc."""
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.2))
    for group, name, colour, marker in (
        ("plain", "plain", figures.BLUE, "o"),
        ("c4", "C4", figures.VERMILLION, "s"),
    ):
        for trained, dash in ((False, "--"), (True, "-")):
            rows = results.equivariance(runs, group=group, trained=trained)
            label = f"{name}, {'trained' if trained else 'untrained'}"
            _lines(ax, rows, "degrees", "degrees_disc", colour, marker, dash, label)
    floor = results.equivariance(runs, group="pointwise", trained=False)
    _lines(ax, floor, "degrees", "degrees_disc", figures.FAINT, "", ":", "pixel by pixel (floor)")
    ax.set(xlabel="rotation, degrees", ylabel="relative error, %", ylim=(0, None))
    ax.set_xticks(range(0, 361, 45))
    fig.legend(loc="outside right center")
    plt.close(fig)
    return fig


def equivariance_table(runs: pd.DataFrame, settings: Settings, source: str) -> Table:
    """Every stack: the error of a shift by five pixels and of a quarter turn."""
    rows = []
    named = {
        "stack, plain, padding none, down none": "no padding",
        "stack, plain, padding zeros, down none": "zero padding",
        "stack, c4, padding zeros, down none": "C4, zero padding",
        "stack, pointwise, padding zeros, down none": "1 x 1 (floor)",
    } | {
        f"stack, plain, padding circular, down {down}": f"torus, {DOWN_LOOKS[down][0]}"
        for down in DOWNS
    }
    own = runs[runs["kind"] == "equivariance"]
    for name, label in named.items():
        for trained in (False, True):
            group = own[(own["network"] == name) & ((own["steps"] > 0) == trained)]
            if not len(group):
                continue
            torus = "torus" in label
            rows.append(
                {
                    "Convolutions": label,
                    "Trained": trained,
                    "n": str(len(group)),
                    "5 px, inside, %": _error(group, "shift_all_5" if torus else "shift_inside_5"),
                    "5 px, border, %": tables.NO_FIGURE
                    if torus
                    else _error(group, "shift_outside_5"),
                    "90°, disc, %": _error(group, "degrees_disc_90"),
                }
            )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-angle-equivariance",
        f"Relative error |f(gx) - g f(x)| / |g f(x)| of three convolutions, less what they make of "
        f"an empty image, for a shift by five pixels and a quarter turn, on "
        f"{settings.equivariance_images} test images of {source}; "
        "mean over n seeds with 95% interval. On a torus there is no border. Training is "
        f"{settings.stack_steps} steps of regression on the angle.",
    )


def _error(rows: pd.DataFrame, column: str) -> str:
    """A relative error in percent, or that it is no more than rounding."""
    worst = rows[column].max()
    if worst < claims.ROUND_OFF:
        return "0" if worst == 0 else f"at most {claims.tiny(100 * worst)}"
    return tables.percent(comparisons.mean(rows, column))


# Reruns


def beside_the_book(runs: pd.DataFrame, settings: Settings):
    """In a rerun: the reader's means beside the book's. In the book itself nothing."""
    if settings.store == "results":
        return None
    book = Settings()
    planned = planning.plan(book)
    stored = planning.store(book)
    ours = results.frame(planned, [stored.get(run) for run in planned])
    rows = []
    for network, name in NETWORKS.items():
        yours = results.report(runs, network)
        theirs = results.report(ours, network) if len(ours) else ours
        for rate, group in yours.groupby("rate", sort=False):
            same = results.at_rate(ours, network, rate) if len(theirs) else theirs
            rows.append(
                {
                    "Network": name,
                    "Rate": f"{rate:g}",
                    "n": str(len(group)),
                    "Your run": _mae(group),
                    "Book's n": str(len(same)),
                    "The book": _mae(same) if len(same) else tables.NOT_RUN,
                }
            )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-angle-yours",
        "Your run beside the book: mean absolute error in degrees on the test images, protocol "
        f"report, mean with 95% interval. Yours is measured on "
        f"{data.load(settings.dataset).title}, the book's on Fashion-MNIST; settings differ as the "
        "profiles do.",
    )


def commands() -> dict[str, str]:
    """What a reader can type, by what it does."""
    return {
        "A few minutes, your numbers beside ours": f"make rerun CHAPTER={NAME}",
        "Everything, as printed here": f"fewlabels run {NAME} --profile full -p store cache",
        "One parameter changed": f"fewlabels run {NAME} -p span 180",
    }
