"""Chapter 1's tables and figures, as the notebook calls them."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fewlabels import comparisons as compare
from fewlabels import data, figures, published, tables
from fewlabels.chapters.rotnet_mnist import planning, results
from fewlabels.chapters.rotnet_mnist.claims import (
    CNN,
    REGULARISED,
    ROTNET,
    SOURCE_EPOCHS,
    pretraining_is_worse,
)
from fewlabels.chapters.rotnet_mnist.planning import LABELS, NAME, Settings
from fewlabels.data import ImageData
from fewlabels.experiments.rotnet import PRETEXT_PROTOCOLS, binarised
from fewlabels.pretext.rotation import TURNS, all_turns
from fewlabels.statistics import fraction_interval, share_interval, variance_components
from fewlabels.tables import Table, percent

TUNED = ("cnn", "scratch")
FINE_TUNED = ("rotnet", "fine-tuned")
PROBE = ("rotnet, linear probe", "frozen")
PROBE_CENTRED = ("rotnet, centred, linear probe", "frozen")
FINE_TUNED_CENTRED = ("rotnet, centred", "fine-tuned")
PROBED_FLOOR = ("random, linear probe", "frozen")
FLOOR = ("random", "frozen")
S4L = ("s4l", "scratch")
FIXMATCH = ("fixmatch", "scratch")
METRICS = {
    "accuracy": "Accuracy, %",
    "mean_class_accuracy": "Mean class accuracy, %",
    "calibration_error": "Calibration error, %",
}
COMPARED = (
    ("report", ROTNET, CNN),
    ("report", ROTNET, FLOOR),
    ("report", REGULARISED, ROTNET),
    ("report", ("cnn, regularised", "scratch"), CNN),
    ("tuned", FINE_TUNED, TUNED),
    ("tuned", PROBE, PROBED_FLOOR),
    ("tuned", PROBE, FINE_TUNED),
    ("tuned", PROBE, PROBE_CENTRED),
    ("tuned", FINE_TUNED, FINE_TUNED_CENTRED),
    ("tuned", S4L, TUNED),
    ("tuned", FIXMATCH, TUNED),
)
"""Comparisons at 100 labels: protocol, method, and what it is compared with."""

COUNTS = "n: label draws, or pretrained networks, each the mean of its draws."
COLLAPSED = 0.2
"""Accuracy below which a network of ten classes answers with one of them."""


def summary(runs: pd.DataFrame, images: ImageData) -> str:
    """The chapter in one paragraph, every figure from the runs."""
    lines = []
    for protocol, method in (("report", ROTNET), ("tuned", FINE_TUNED)):
        hundred = results.digits(runs, protocol)
        difference = results.paired(hundred, method, CNN)
        verdict = pretraining_is_worse(difference)
        lines.append(
            f"Under protocol `{protocol}` the rotation-pretrained network ({method[1]}) differs "
            f"from the plain one by **{percent(difference, sign=True)}** points of test accuracy "
            f"at {LABELS} labels (n = {difference.n} pretrained networks): {_WORDS[verdict.word]}."
        )
    rule = results.centre_rule(images, Tensor.float)
    shortcut = (
        "The pretext task has a shortcut: without any network, the centre of mass of the pixels "
        f"names the turn of {percent(rule, 2)}% of the test images"
    )
    still, moved = results.rotations(runs, "report"), results.moved(runs, "report")
    if len(still) and len(moved):
        shortcut += (
            f", and the report's network falls from {_accuracy(still)} to "
            f"{_accuracy(moved)}% (n = {len(still)} seeds that learned) "
            "when images are moved by up to two pixels"
        )
    lines.append(f"{shortcut}.")
    tuned = results.digits(runs, "tuned")
    groups = tuned.groupby(["method", "backbone"])
    (method, _), best = max(groups, key=lambda item: item[1]["accuracy"].mean())
    own = compare.fraction(best, "accuracy")
    lines.append(
        f"The highest mean at {LABELS} labels is that of `{method}`: {percent(own)}% (n = {own.n})."
    )
    return (
        "::: {.callout-important}\n## In short\n\n"
        + " ".join(lines)
        + f" Data: {images.title}.\n:::"
    )


_WORDS = {
    "holds": "pretraining is worse",
    "opposite": "pretraining helps",
    "no difference": "pretraining makes no difference that counts",
    "undecided": "whether pretraining hurts, these runs cannot tell",
    "not tested": "too few for a verdict",
}


def cleaning(images: ImageData) -> Figure:
    """The first training image of every digit, as it comes and binarised."""
    first = torch.stack([(images.train.labels == k).nonzero()[0, 0] for k in range(10)])
    grey = images.train.images[first]
    mean = images.train.images.float().mean().item()
    clean = binarised(grey, mean).mul(255).to(torch.uint8)
    return figures.image_grid(torch.cat([grey, clean]).squeeze(1).numpy())


def label_draw(images: ImageData, draw: int) -> Figure:
    """The hundred labelled images of one draw, binarised, a row per digit."""
    drawn = data.draw_labels(images.train.labels, LABELS // 10, draw)
    mean = images.train.images.float().mean().item()
    clean = binarised(images.train.images[drawn], mean).mul(255).to(torch.uint8)
    return figures.image_grid(clean.squeeze(1).numpy())


def turns(images: ImageData, digits: tuple[int, ...]) -> Figure:
    """The first training image of each digit under the four turns."""
    first = torch.stack([(images.train.labels == k).nonzero()[0, 0] for k in digits])
    views, _ = all_turns(images.train.images[first])
    titles = [f"{turn}°" for turn in TURNS] * len(digits)
    return figures.image_grid(views.squeeze(1).numpy(), titles, columns=8)


def rotation_table(runs: pd.DataFrame, images: ImageData, source: str) -> Table:
    """Naming the turn: the source's figure, two numbers without a network, and our networks."""
    printed = published.claim("R1").published["rotation_accuracy"]
    rows = [_turn_row("the source's network", "1", str(printed), tables.NO_FIGURE)]
    mean = images.train.images.float().mean().item()
    for name, clean in (("grey", Tensor.float), ("binarised", lambda x: binarised(x, mean))):
        rule = results.centre_rule(images, clean)
        rows.append(_turn_row(f"centre of mass, {name}", "1", percent(rule), tables.NO_FIGURE))
    for protocol in PRETEXT_PROTOCOLS:
        still, moved = results.rotations(runs, protocol), results.moved(runs, protocol)
        accuracies = [_accuracy(each) for each in (still, moved)]
        rows.append(_turn_row(f"network, protocol {protocol}", str(len(still)), *accuracies))
    steps = results.every_rotation(runs, "report")["record"].iloc[0].config["training"]["steps"]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-rotnet-rotations",
        f"Naming the turn of all test images of {source} in four turns: accuracy, %, mean over "
        "the n seeds that learned with 95% interval, on the images as they come and moved by up "
        f"to two pixels. Protocol report was trained for {steps} steps of 256 turned images (the "
        f"source: {SOURCE_EPOCHS} epochs of them all).",
    )


def _accuracy(rows: pd.DataFrame) -> str:
    return percent(compare.fraction(rows, "accuracy"))


def starts_table(runs: pd.DataFrame, source: str) -> Table:
    """How often protocol report learns at all, and what became of the full pretrainings."""
    first = results.starts(runs)
    steps = f"{first['record'].iloc[0].curves['step'][-1]:.0f} steps"
    rows = []
    for run in first.itertuples():
        full = results.every_rotation(runs, "report").query("draw == @run.draw")
        rows.append(
            {
                "Seed": str(run.draw),
                f"After {steps}": percent(run.valid_accuracy),
                "After the pretraining": percent(
                    full["record"].iloc[0].curves["valid_accuracy"][-1] if len(full) else None
                ),
            }
        )
    learned = [results.learned(record) for record in first["record"]]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-rotnet-starts",
        f"Protocol report, validation accuracy of the rotation task by seed, %, {source}. "
        f"{tables.share(learned, 'seeds')} leave chance (25%) within {steps}. Only some seeds were "
        "trained on.",
    )


def _turn_row(name: str, n: str, still: str, moved: str) -> dict[str, str]:
    return {"Who names the turn": name, "n": n, "As they come": still, "Moved": moved}


def recall_table(runs: pd.DataFrame, source: str) -> Table:
    """Recall of each turn; the source prints one of them."""
    printed = published.claim("R2").published["recall_180"]
    rows = [{"Protocol": "the source", "n": "1"} | dict.fromkeys(_DEGREES, tables.NO_FIGURE)]
    rows[0]["180°"] = str(printed)
    for protocol in PRETEXT_PROTOCOLS:
        group = results.rotations(runs, protocol)
        row = {"Protocol": protocol, "n": str(len(group))}
        for turn, heading in zip(TURNS, _DEGREES, strict=True):
            row[heading] = percent(compare.fraction(group, f"recall_{turn}"))
        rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-rotnet-recalls",
        f"Recall of each turn, %, on all test images of {source} as they come; mean over the n "
        "seeds that learned, with 95% interval.",
    )


_DEGREES = tuple(f"{turn}°" for turn in TURNS)


def centres(images: ImageData) -> Figure:
    """Centres of mass of the first 500 test images in their four turns."""
    fig, ax = plt.subplots(figsize=(0.6 * figures.WIDTH, 0.55 * figures.WIDTH))
    marks = zip(
        TURNS, (figures.BLUE, figures.VERMILLION, figures.GREEN, figures.PURPLE), strict=True
    )
    for k, (turn, colour) in enumerate(marks):
        views = torch.rot90(images.test.images[:500], k, dims=(2, 3))
        points = results.centres(views)
        ax.scatter(
            *points.T, s=6, marker="osD^"[k], color=colour, alpha=0.5, lw=0, label=f"{turn}°"
        )
    ax.set(xlabel="pixels right of the middle", ylabel="pixels below the middle")
    ax.invert_yaxis()
    ax.set_aspect("equal")
    ax.legend(title="turn", loc="center left", bbox_to_anchor=(1, 0.5))
    plt.close(fig)
    return fig


def rotation_curves(runs: pd.DataFrame) -> Figure:
    """Validation accuracy of the rotation task in both protocols, every seed."""
    panels = []
    for protocol in ("report", "tuned"):
        rows = results.every_rotation(runs, protocol)
        steps = rows["record"].iloc[0].config["training"]["steps"]
        curves = results.learning_curves(rows, {"valid_accuracy": "validation"}, 100 / steps)
        panels.append(curves.assign(panel=f"protocol {protocol}"))
    return figures.learning_curves(
        pd.concat(panels), ylabel="validation accuracy", xlabel="% of the training steps"
    )


def turns_by_digit(runs: pd.DataFrame, settings: Settings) -> Figure:
    """Dots: accuracy of naming the turn by digit. Bars: taken for the half-turned image."""
    panels = {
        "report, images as they come": results.rotations(runs, "report"),
        "tuned, images moved": results.moved(runs, "tuned"),
    }
    fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 2.8), sharey=True)
    for ax, (title, rows) in zip(axes, panels.items(), strict=True):
        accuracy = 100 * results.turns_by_digit(rows, settings)
        flipped = 100 * results.turns_by_digit(rows, settings, off=2).mean()
        ax.bar(flipped.index, flipped, color=figures.ORANGE, label="taken for upside down")
        middle = accuracy.mean()
        spread = [middle - accuracy.min(), accuracy.max() - middle]
        ax.errorbar(
            middle.index, middle, yerr=spread, fmt="o", color=figures.BLUE, label="accuracy"
        )
        ax.set(title=f"{title} (n = {len(rows)})", xlabel="digit", ylim=(0, 104))
    axes[0].set_ylabel("% of turned test images")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    plt.close(fig)
    return fig


def mixed_up_table(runs: pd.DataFrame, settings: Settings, source: str) -> Table:
    """Pairs of digits that classifiers on each kind of features confuse, protocol tuned."""
    pairs = ((6, 9), (4, 9), (3, 5))
    tuned = results.digits(runs, "tuned")
    rows = []
    for method, backbone in (PROBE, PROBED_FLOOR, FINE_TUNED, TUNED):
        group = results.cell(tuned, (method, backbone))
        row = {"Method": results.named(method, backbone), "n": ""}
        for pair in pairs:
            shares = [*results.mixed_up(group, settings, pair).values()]
            found = fraction_interval(shares, compare.luck(group))
            row |= {"n": str(found.n), f"{pair[0]} and {pair[1]}": percent(found, 2)}
        rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-rotnet-mixed-up",
        f"Test images of two digits that are taken for the other one, in % of both digits' images, "
        f"at {LABELS} labels of {source}, protocol tuned; mean with 95% interval. {COUNTS}",
    )


def feature_map(runs: pd.DataFrame, images: ImageData, trained: bool) -> Figure:
    """t-SNE of the features of test images, after rotation pretraining or before any training."""
    record = runs[runs["kind"] == "map"]["record"].iloc[0 if trained else 1]
    points = record.predictions["points"].astype(float)
    return figures.embedding(points, images.test.labels[: len(points)].numpy(), images.classes)


def report_table(report: pd.DataFrame, source: str) -> Table:
    """Protocol report at 100 labels, with the source's two figures."""
    frame = results.by_method(report, METRICS)
    printed = {
        results.named(*ROTNET): str(published.claim("R3").published["accuracy"]),
        results.named(*CNN): str(published.claim("R4").published["accuracy"]),
    }
    source_column = [printed.get(name, tables.NO_FIGURE) for name in frame["Method"]]
    frame.insert(2, "Source", source_column)
    return tables.show(
        frame,
        "tbl-rotnet-report",
        f"Protocol report at {LABELS} labels ({LABELS * 4 // 5} train, {LABELS // 5} validate) of "
        f"{source}; test set, mean with 95% interval. {COUNTS} A random backbone is "
        "the untrained network.",
    )


def spread(report: pd.DataFrame, images: ImageData) -> str:
    """How far single runs lie apart, and how much of that the test images alone explain."""
    plain = report[(report["method"] == CNN[0]) & (report["backbone"] == CNN[1])]
    right = plain["record"].iloc[0].predictions["classes"] == images.test.labels.numpy()
    within = share_interval(right)
    return (
        f"One run of the plain network says little. Over {len(plain)} label draws its accuracy "
        f"runs from {percent(plain['accuracy'].min())} to {percent(plain['accuracy'].max())}% "
        f"(standard deviation {100 * plain['accuracy'].std():.1f} points), while the test images "
        f"leave the accuracy of a single run, {percent(within)}%, far less uncertain (95% interval "
        "over images)."
    )


def crossed_table(runs: pd.DataFrame, source: str) -> Table:
    """Label draw, seed and the rest, as standard deviations of a single run."""
    table = results.crossed(runs)
    draws, seeds = table.shape
    collapsed = table < COLLAPSED
    columns = {
        "All runs, points": _components(table),
        "Seeds without a collapse, points": _components(table.loc[:, ~collapsed.any()]),
    }
    return tables.show(
        pd.DataFrame(columns).rename_axis("Source of the spread"),
        "tbl-rotnet-crossed",
        f"Where the spread of the plain network's test accuracy comes from, {LABELS} labels, "
        f"protocol report, {source}: standard deviations from a two-way analysis of variance of "
        f"{draws} label draws, each with the same {seeds} seeds; the squares add up to that of one "
        f"run. Mean {percent(table.to_numpy().mean())}%, median "
        f"{percent(table.stack().median())}%. {int(collapsed.to_numpy().sum())} of {table.size} "
        "runs collapse: they answer every image with one class.",
        decimals=2,
    )


def _components(table: pd.DataFrame) -> pd.Series:
    """Standard deviations in points, by source; not run where there is one draw or one seed."""
    parts = dict.fromkeys(("draw", "seed", "residual"), math.nan)
    if min(table.shape) > 1:
        parts = variance_components(table.to_numpy())
    variances = {
        "label draw": parts["draw"],
        "seed": parts["seed"],
        "interaction and rest": parts["residual"],
        "one run": sum(parts.values()),
    }
    return 100 * pd.Series(variances) ** 0.5


def digit_curves(report: pd.DataFrame) -> Figure:
    """Accuracy in training and validation, and validation loss, of both of the source's models."""
    panels = []
    for (method, backbone), name in ((ROTNET, "RotNet, frozen"), (CNN, "plain CNN")):
        rows = report[(report["method"] == method) & (report["backbone"] == backbone)]
        accuracy = {"train_accuracy": "training", "valid_accuracy": "validation"}
        panels.append(results.learning_curves(rows, accuracy).assign(panel=f"{name}: accuracy"))
        losses = results.learning_curves(rows, {"valid_loss": "validation"})
        panels.append(losses.assign(panel=f"{name}: loss"))
    return figures.learning_curves(pd.concat(panels))


def per_class_table(report: pd.DataFrame, settings: Settings, source: str, model: str) -> Table:
    """One model's precision, recall and F1 per digit beside the source's."""
    method, backbone = {"rotnet": ROTNET, "cnn": CNN}[model]
    rows = report[(report["method"] == method) & (report["backbone"] == backbone)]
    name = {"rotnet": "Frozen RotNet", "cnn": "Plain CNN"}[model]
    return tables.show(
        results.per_class(rows, settings, model),
        f"tbl-rotnet-per-class-{model}",
        f"{name} at {LABELS} labels of {source}, protocol report: per digit, %, the source's one "
        f"run beside our mean with 95% interval (n = {compare.fraction(rows, 'accuracy').n}). "
        f"{COUNTS}",
    )


def confusion(report: pd.DataFrame, settings: Settings, cell: tuple[str, str]) -> Figure:
    """Mean confusion matrix over the label draws of one method and backbone."""
    rows = report[(report["method"] == cell[0]) & (report["backbone"] == cell[1])]
    return figures.confusion(results.confusion(rows, settings), data.load(settings.dataset).classes)


def choices_table(runs: pd.DataFrame, source: str) -> Table:
    """What was compared on held-out training images."""
    chosen = runs[(runs["kind"] == "digits") & (runs["scored_on"] == "validation")]
    return tables.show(
        results.by_method(chosen, {"accuracy": "Held-out accuracy, %"}),
        "tbl-rotnet-choices",
        f"Candidates for protocol tuned at {LABELS} labels, scored on training images of {source} "
        f"that were held out; mean with 95% interval. {COUNTS} Augmented means deformed freshly in "
        "every step.",
    )


def tuned_table(tuned: pd.DataFrame, source: str) -> Table:
    """Protocol tuned at 100 labels."""
    return tables.show(
        results.by_method(tuned, METRICS),
        "tbl-rotnet-tuned",
        f"Protocol tuned at {LABELS} labels of {source}, all for training; test set, mean with 95% "
        f"interval. {COUNTS}",
    )


def comparisons(runs: pd.DataFrame) -> pd.DataFrame:
    """Paired differences in accuracy at 100 labels, see `fewlabels.tables.compared`."""
    found = {}
    for protocol, method, other in COMPARED:
        name = f"{protocol}: {results.named(*method)} against {results.named(*other)}"
        found[name] = results.paired(results.digits(runs, protocol), method, other)
    return tables.compared(found)


def comparisons_table(runs: pd.DataFrame, source: str) -> Table:
    """The same as a table."""
    frame = comparisons(runs)
    return tables.comparisons(
        frame,
        "tbl-rotnet-comparisons",
        f"Paired differences in test accuracy at {LABELS} labels of {source}: mean with 95% "
        f"interval. {COUNTS} Two-sided t test with Holm's correction over the {len(frame)} "
        "comparisons.",
    )


def size_table(runs: pd.DataFrame) -> Table:
    """Parameters and memory of the networks behind the main methods."""
    rows = []
    for protocol, methods in (("report", (ROTNET, CNN)), ("tuned", (FINE_TUNED, FIXMATCH))):
        hundred = results.digits(runs, protocol)
        for method, backbone in methods:
            group = hundred[(hundred["method"] == method) & (hundred["backbone"] == backbone)]
            counts = group["record"].iloc[0].parameters
            rows.append(
                {
                    "Protocol": protocol,
                    "Method": results.named(method, backbone),
                    "Parameters": counts["total"],
                    "Trained": counts["trained"],
                    "Weights, MB": 4 * counts["total"] / 1e6,
                    "Seconds a run": group["seconds"].median(),
                }
            )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-rotnet-size",
        "Parameters, memory of the weights in 32 bits, and median time of a run with its test "
        "(without its pretraining), one thread each.",
    )


def beside_the_book(runs: pd.DataFrame, settings: Settings):
    """In a rerun: the reader's means beside the book's. In the book itself nothing."""
    if settings.store == "results":
        return None
    book = Settings()
    planned = planning.plan(book)
    stored = planning.store(book)
    ours = results.frame(planned, [stored.get(run) for run in planned])
    rows = []
    for protocol in ("report", "tuned"):
        yours = results.digits(runs, protocol)
        theirs = results.digits(ours, protocol) if len(ours) else ours
        for (method, backbone), group in yours.groupby(["method", "backbone"], sort=False):
            row = {"Protocol": protocol, "Method": results.named(method, backbone)}
            own = compare.fraction(group, "accuracy")
            row |= {"n": str(own.n), "Your run": percent(own)}
            if len(theirs):
                measured = compare.fraction(results.cell(theirs, (method, backbone)), "accuracy")
                row["Book's n"] = str(measured.n if measured else 0)
                row["The book"] = percent(measured)
            rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-rotnet-yours",
        f"Your run beside the book: test accuracy at {LABELS} labels, %, mean with 95% interval. "
        f"Yours is measured on {data.load(settings.dataset).title}, the book's on "
        f"{book.dataset.upper()}; settings differ as the profiles do.",
    )


def commands() -> dict[str, str]:
    """What a reader can type, by what it does."""
    return {
        "A few minutes, your numbers beside ours": f"make rerun CHAPTER={NAME}",
        "Everything, as printed here": f"fewlabels run {NAME} --profile full -p store cache",
        "One parameter changed": f"fewlabels run {NAME} -p epochs 40",
    }
