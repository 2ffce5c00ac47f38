"""Chapter 4's tables and figures, as the notebook calls them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torchvision
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from fewlabels import figures, tables
from fewlabels.chapters.few_data_caltech import claims, planning, results
from fewlabels.chapters.few_data_caltech.planning import (
    CARELESS_RATE,
    FEW,
    NAME,
    TUNING_RATE,
    Settings,
)
from fewlabels.data import photographs
from fewlabels.data.photographs import Photographs
from fewlabels.experiments.few_photographs import (
    AUGMENTATIONS,
    BATCH,
    FILES,
    STRANGERS,
    corner_colours,
    covered,
)
from fewlabels.models.sheet_cnn import SheetCNN
from fewlabels.tables import Table, number, percent

SHOWN = 8
OVERLAP = (
    "Mean over the n splits with 95% interval by the corrected resampled t, which allows for "
    "splits that overlap."
)
"""Sentence of a caption: what the intervals are."""
METRICS = {"accuracy": "Accuracy, %", "mean_class_accuracy": "Mean class accuracy, %"}


def source(photos: Photographs) -> str:
    """The data set as a caption names it, with its checksum."""
    return f"{photos.title} (md5 `{photos.md5[:8]}`)"


def origin(settings: Settings, every: bool = False) -> str:
    """Sentence of a caption: the pretrained networks and where their weights come from."""
    used = planning.networks(settings)
    return "Network: " + "; ".join(each.title for each in (used if every else used[:1])) + "."


def summary(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Markdown:
    """The chapter in one paragraph, every figure from the runs."""
    scratch, ours = results.small(runs, settings), results.on_features(runs, settings)
    corner = results.chosen(runs, kind="corners")
    first = planning.networks(settings)[0]
    lines = [
        f"With {len(results.tested(settings, 0)[0])} training photographs the sheet's small "
        f"network, trained from scratch, names {_mean(scratch)}% of the test photographs (and "
        f"{percent(scratch['train_accuracy'].mean())}% of its own); an MLP on frozen features of a "
        f"pretrained {first.architecture} names {_mean(ours)}%.",
        f"The colours of the four corners alone, without any network, give {_mean(corner)}%: how "
        "the photographs were prepared tells the classes apart as well.",
    ]
    flip = claims.augmentations(runs, settings)["vertical flip"]
    lines.append(
        f"The sheet's vertical flip changes the small network's accuracy by "
        f"{percent(flip, sign=True)} points; does it help? Answer: {claims.answered('D2', flip)}."
    )
    fixed = results.on_features(runs, settings, size=settings.tuning_size)
    tuned = results.paired(results.fine_tuned(runs, settings, 1), fixed)
    lines.append(
        f"Training the last block on, with a rate chosen on validation images, changes the fixed "
        f"features' accuracy by {percent(tuned, sign=True)} points; does it help? Answer: "
        f"{claims.answered('D4', tuned)}."
    )
    return Markdown(
        "::: {.callout-important}\n## In short\n\n"
        + " ".join(lines)
        + f" Intervals are over {settings.splits} random splits, which overlap, and allow for that."
        f" Data: {photos.title}. {origin(settings)}\n:::"
    )


def _mean(rows: pd.DataFrame, metric: str = "accuracy") -> str:
    return percent(planning.share(rows[metric]) if len(rows) else None)


# The data


def data_table(photos: Photographs) -> Table:
    """Images, sizes, colour and corners of every class."""
    border = results.border(photos).set_index("class")
    rows = []
    for k, name in enumerate(photos.classes):
        own = photos.labels == k
        width, height = photos.shapes[own].T
        rows.append(
            {
                "Class": name,
                "Images": int(own.sum()),
                "Grey": int(photos.grey[own].sum()),
                "Width, pixels": f"{width.min()} to {width.max()}",
                "Height, pixels": f"{height.min()} to {height.max()}",
                "Wider than high": int((width > height).sum()),
                "Black outside, %": float(100 * border.loc[name, "black"]),
                "White outside, %": float(100 * border.loc[name, "white"]),
            }
        )
    turned = int(photos.turned.sum())
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-data",
        f"{source(photos)}: {len(photos.labels)} images. Outside: share of the pixels outside the "
        "ellipse that touches the image's four sides which are black (every channel at most 10 of "
        f"255) or white (at least 245). Files with an orientation entry to follow: {turned}.",
    )


def shapes(photos: Photographs) -> Figure:
    """Width over height of every file, a row of points per class."""
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 0.7 + 0.4 * len(photos.classes)))
    scatter = np.random.default_rng(0).uniform(-0.25, 0.25, len(photos.labels))
    ratio = (photos.shapes[:, 0] / photos.shapes[:, 1]).numpy()
    for k in range(len(photos.classes)):
        own = (photos.labels == k).numpy()
        ax.scatter(ratio[own], k + scatter[own], s=12, color=figures.BLUE, alpha=0.5, lw=0)
    ax.axvline(1, color=figures.INK, lw=1)
    ax.set_xscale("log")
    ticks = [0.5, 0.6, 0.8, 1, 1.25, 1.5, 2]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yticks(range(len(photos.classes)), photos.classes)
    ax.invert_yaxis()
    ax.set_xlabel("width over height (log scale)")
    plt.close(fig)
    return fig


def examples(photos: Photographs) -> Figure:
    """The first photographs of every class, squeezed to squares."""
    first = torch.cat(
        [(photos.labels == k).nonzero()[:SHOWN, 0] for k in range(len(photos.classes))]
    )
    return figures.image_grid(_small(photos.images[first]), columns=SHOWN)


def _small(images: torch.Tensor, size: int = 96) -> np.ndarray:
    """Reduced for a page: uint8 [N, 3, size, size]."""
    reduced = torch.nn.functional.interpolate(
        images.float(), size, mode="bilinear", antialias=True, align_corners=False
    )
    return reduced.round().clamp(0, 255).to(torch.uint8).numpy()


def means(photos: Photographs) -> Figure:
    """The mean image of every class, and how much each place varies."""
    rows = [[], []]
    for k in range(len(photos.classes)):
        own = photos.images[photos.labels == k].float()
        rows[0].append(own.mean(dim=0))
        rows[1].append(own.std(dim=0).mean(dim=0, keepdim=True).expand(3, -1, -1) * 2)
    images = torch.stack(rows[0] + rows[1]).clamp(0, 255).to(torch.uint8)
    titles = [f"{name}: {what}" for what in ("mean", "spread") for name in photos.classes]
    return figures.image_grid(_small(images, 128), titles, columns=len(photos.classes))


def twins_table(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """Pairs of photographs that are one, and what they do to the accuracy."""
    pairs = results.twins(photos)
    rows = [
        {
            "Pair": f"{photos.files[pair.first]} and {photos.files[pair.second]}"
            + (" mirrored" if pair.mirrored else ""),
            "Correlation": f"{pair.correlation:.3f}",
        }
        for pair in pairs.itertuples()
    ] or [{"Pair": "none", "Correlation": tables.NO_FIGURE}]
    equal = len(photos.images) - len(torch.unique(photos.images.flatten(1), dim=0))
    effects = []
    for name, group in (
        ("small network", results.small(runs, settings)),
        ("features with MLP", results.on_features(runs, settings)),
    ):
        if len(group):
            free = results.without_twins(group, photos, settings)
            effects.append(
                f"{name} {percent(planning.share(group['accuracy']))}% on all test photographs and "
                f"{percent(planning.share([*free.values()]))}% on those without a twin in training "
                f"(n = {len(free)})"
            )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-twins",
        f"Pairs of images of {source(photos)} whose grey thumbnails of {results.THUMBNAIL} pixels "
        f"correlate at {results.TWINS} or more. Equal in every pixel: {equal} pairs. A split puts "
        f"{results.split_twins(photos, settings):.1f} of the pairs on both sides on average. "
        f"Accuracy: {'; '.join(effects)} (means over the splits).",
    )


def twins(photos: Photographs) -> Figure:
    """The pairs side by side."""
    pairs = results.twins(photos)
    order = [p for pair in pairs.itertuples() for p in (pair.first, pair.second)] or [0]
    titles = [photos.files[p].replace("image_", "").rsplit(".", 1)[0] for p in order]
    return figures.image_grid(_small(photos.images[order]), titles, columns=4)


def sheet_answers(photos: Photographs, settings: Settings) -> Markdown:
    """The sheet's questions about the arrays, answered by counting."""
    train, test = results.tested(settings, 0)
    n, size, classes = len(train), settings.size, len(photos.classes)
    return Markdown(
        f"`X_train` has the shape {n} x {size} x {size} x 3: seventy percent of "
        f"{len(photos.labels)} images, each squeezed to {size} x {size} pixels without keeping its "
        f"proportions, three colours each (grey files repeat theirs), values divided by 255; "
        f"{len(test)} images are left to test. `y_train` is a list of {n} class numbers and "
        f"`Y_train` an array of {n} x {classes}, a 1 in the column of the class and 0 elsewhere, "
        f"because the softmax gives {classes} numbers to compare it with."
    )


# The small network


def parameters_table(settings: Settings, photos: Photographs) -> Table:
    """The sheet's network, layer by layer, counted by hand and by the computer."""
    size, outputs = settings.size, len(photos.classes)
    with torch.device("meta"):
        counted = sum(p.numel() for p in SheetCNN(size, outputs).parameters())
    side = size // 4
    rows = [
        ("convolution, 32 filters", f"{size} x {size} x 32", "3·3·3·32 + 32", 896),
        ("pooling, stride 2", f"{size // 2} x {size // 2} x 32", tables.NO_FIGURE, 0),
        ("convolution, 64 filters", f"{size // 2} x {size // 2} x 64", "3·3·32·64 + 64", 18_496),
        ("pooling, stride 2", f"{side} x {side} x 64", tables.NO_FIGURE, 0),
        ("hidden layer", "100", f"{side}·{side}·64·100 + 100", side * side * 6400 + 100),
        ("softmax", str(outputs), f"100·{outputs} + {outputs}", 101 * outputs),
    ]
    total = sum(row[-1] for row in rows)
    rows.append(("all", "", "sum", total))
    frame = pd.DataFrame(rows, columns=["Layer", "Output", "By hand", "Parameters"])
    return tables.show(
        frame,
        "tbl-caltech-parameters",
        f"Parameters of the sheet's network for {size} pixels and {outputs} classes. The computer "
        f"counts {number(counted, 0)}. The hidden layer holds "
        f"{percent((side * side * 6400 + 100) / total, 2)}% of them.",
    )


def scratch_table(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """The sheet's network: its own images against others, and its time."""
    rows = []
    for size, group in (
        (settings.size, results.native(runs, settings)),
        (settings.scratch_size, results.small(runs, settings)),
    ):
        if group.empty:
            continue
        record = group["record"].iloc[0]
        rows.append(
            {
                "Pixels": size,
                "n": str(len(group)),
                "Parameters": record.parameters["total"],
                "Passes": f"{claims.passes(group['steps'].iloc[0], settings):.0f}",
                "Seconds a pass": f"{claims.seconds_per_pass(group, settings):.1f}",
                "Training, %": _mean(group, "train_accuracy"),
                "Test, %": _mean(group),
                "Gap, points": percent(results.gap(group), sign=True),
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-scratch",
        f"The sheet's network trained from scratch, Adam at 0.001 in batches of {BATCH}: accuracy "
        f"on {source(photos)}, {len(results.tested(settings, 0)[0])} images for training and "
        f"{len(results.tested(settings, 0)[1])} for testing. {OVERLAP} Seconds on one "
        "thread, scoring included.",
    )


def long_curves(runs: pd.DataFrame, settings: Settings) -> Figure:
    """Loss and accuracy of the small network where it is trained on and on."""
    rows = results.small(
        runs, settings, scored_on="validation", steps=settings.long_steps, rate=0.001
    )
    per_step = 1 / (len(results.tested(settings, 0)[0]) * 0.8 // BATCH + 1)
    panels = []
    for title, names in (
        ("accuracy", {"train_accuracy": "training", "valid_accuracy": "validation"}),
        ("loss", {"train_loss": "training", "valid_loss": "validation"}),
    ):
        panels.append(results.learning_curves(rows, names, per_step).assign(panel=title))
    return figures.learning_curves(pd.concat(panels), xlabel="passes over the training images")


def candidates_table(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """The settings that the sheet suggests to vary, on validation images."""
    tried = runs[(runs["kind"] == "scratch") & (runs["scored_on"] == "validation")]
    rows = []
    for method, group in tried.groupby("method", sort=False):
        counted = group["record"].iloc[0].parameters["total"]
        changed = method.removeprefix(f"small CNN, {settings.scratch_size} px, ")
        lowest = [min(record.curves["valid_loss"]) for record in group["record"]]
        last = [record.curves["valid_loss"][-1] for record in group["record"]]
        rows.append(
            {
                "Setting": changed,
                "Parameters": counted,
                "n": str(len(group)),
                "Training, %": percent(group["train_accuracy"].mean()),
                "Validation, %": _mean(group),
                "Lowest loss": f"{np.mean(lowest):.2f}",
                "Last loss": f"{np.mean(last):.2f}",
            }
        )
    rows.sort(key=lambda row: -float(row["Validation, %"].split(" ")[0]))
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-choices",
        f"The small network at {settings.scratch_size} pixels with one thing changed at a time, "
        f"scored on validation images held out of the training part of {source(photos)}; rate "
        f"0.001 and filters 32 and 64 unless said. {OVERLAP} Losses are the lowest and "
        "the last of the validation curve.",
    )


# Augmentation


def augmented(photos: Photographs) -> Figure:
    """One photograph under every augmentation, four times each."""
    upright = (photos.labels == min(2, len(photos.classes) - 1)).nonzero()[1]
    image = photos.images[upright].expand(4, -1, -1, -1).float()
    shown, titles = [], []
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name, change in AUGMENTATIONS.items():
            shown.append(change(image).round().clamp(0, 255).to(torch.uint8))
            titles += [name, "", "", ""]
    return figures.image_grid(_small(torch.cat(shown)), titles, columns=8)


def augmentation_table(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """What every augmentation does to the small network and to frozen features."""
    selections = {
        f"Small network, {settings.scratch_size} px": lambda name: results.small(
            runs, settings, augmentation=name
        ),
        f"Features, {FEW} a class": lambda name: results.on_features(
            runs, settings, per_class=FEW, augmentation=name
        ),
        "Features, all": lambda name: results.on_features(runs, settings, augmentation=name),
    }
    rows = [{"Augmentation": name} for name in AUGMENTATIONS]
    counts = []
    for heading, select in selections.items():
        plain = select("none")
        counts.append(f"{heading}: none {_mean(plain)}% (n = {len(plain)})")
        found = {
            name: results.paired(select(name), plain) for name in AUGMENTATIONS if name != "none"
        }
        known = {name: each for name, each in found.items() if each is not None}
        corrected = dict(zip(known, tables.corrected(known.values()), strict=True))
        for row in rows:
            name = row["Augmentation"]
            if name in known:
                mark = "*" if corrected[name] <= 0.05 else ""
                row[heading] = percent(known[name], sign=True) + mark
            else:
                row[heading] = "0" if name == "none" else tables.NOT_RUN
        if known:
            counts[-1] += f", compared on n = {next(iter(known.values())).n}"
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-augmentation",
        f"Test accuracy with each augmentation minus that without, points, paired over splits of "
        f"{source(photos)}; a star marks p ≤ 0.05 after Holm's correction within the column. "
        f"{'; '.join(counts)}. Intervals: corrected resampled t. {origin(settings)}",
    )


def flips_table(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """The sheet's layer goes on flipping when it is asked for an answer."""
    rows = []
    for name in ("none", "vertical flip"):
        group = results.small(runs, settings, augmentation=name)
        if group.empty:
            continue
        asked = (group["accuracy"] + group["accuracy_upside_down"]) / 2
        rows.append(
            {
                "Trained with": name,
                "n": str(len(group)),
                "Upright, %": _mean(group),
                "Upside down, %": _mean(group, "accuracy_upside_down"),
                "Flipped at random, %": percent(planning.share(asked)),
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-flips",
        f"The small network at {settings.scratch_size} pixels on test photographs of "
        f"{source(photos)} as they are, all upside down, and as the sheet's model sees them, whose "
        "augmentation layer is called with `training=True` and so flips half of them when it is "
        f"tested as well (the mean of the other two). {OVERLAP}",
    )


# Backgrounds


def covers(photos: Photographs) -> Figure:
    """One photograph of every class whole, with the outside and with the inside covered."""
    first = [int((photos.labels == k).nonzero()[1]) for k in range(len(photos.classes))]
    images = photos.images[first]
    shown = torch.cat([covered(images, each) for each in ("nothing", "outside", "inside")])
    return figures.image_grid(_small(shown), columns=len(first))


def covers_table(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """What is known from the middle, from the corners, and from the corners' colours alone."""
    selections = {
        "small network": lambda cover: results.small(runs, settings, cover=cover),
        "features with MLP": lambda cover: results.on_features(runs, settings, cover=cover),
    }
    rows = []
    for method, select in selections.items():
        row = {"Method": method}
        for cover, heading in (
            ("nothing", "Whole image, %"),
            ("outside", "Inside the ellipse, %"),
            ("inside", "Outside the ellipse, %"),
        ):
            group = select(cover)
            row[heading] = f"{_mean(group)} (n = {len(group)})"
        rows.append(row)
    corner = results.chosen(runs, kind="corners")
    rows.append(
        {
            "Method": "mean and deviation of the corners' colours, linear probe",
            "Whole image, %": tables.NO_FIGURE,
            "Inside the ellipse, %": tables.NO_FIGURE,
            "Outside the ellipse, %": f"{_mean(corner)} (n = {len(corner)})",
        }
    )
    dimensions = corner_colours(photos.images[:1]).shape[1]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-covers",
        f"Test accuracy on {source(photos)} where training and test images show only what is "
        "inside the ellipse that touches their sides, or only what is outside it, the rest grey. "
        f"The last row has {dimensions} numbers per image. Always naming the largest class is "
        f"right for {percent(claims.largest_class(settings))}%. {OVERLAP} "
        f"{origin(settings)}",
    )


# Pretrained networks


def vgg_answers(photos: Photographs) -> Markdown:
    """The sheet's questions about VGG-16, counted on the architecture (no weights needed)."""
    with torch.device("meta"):
        vgg = torchvision.models.vgg16()
    layers = [m for m in vgg.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    convolutions = [m for m in layers if isinstance(m, torch.nn.Conv2d)]
    total = sum(p.numel() for p in vgg.parameters())
    fixed = sum(p.numel() for p in vgg.features.parameters())
    outputs = len(photos.classes)
    head = 25_088 * 100 + 100 + 101 * outputs
    return Markdown(
        f"VGG-16 has {len(layers)} layers with weights, {len(convolutions)} convolutions and "
        f"{len(layers) - len(convolutions)} dense layers, with {number(total, 0)} parameters; it "
        f"names one of 1,000 classes. Extracting features ends after the fifth pooling "
        f"({number(fixed, 0)} parameters), with a map of 7 x 7 x 512 = 25,088 numbers per image; "
        f"an MLP of 100 hidden units on it has {number(head, 0)} parameters to learn for "
        f"{outputs} classes."
    )


def features_table(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """Classifiers on frozen features, and the network from scratch beside them."""
    selections = []
    for k, network in enumerate(planning.networks(settings)):
        for readout in ("mlp", "linear probe", "kNN"):
            selections.append(
                (network.architecture, readout, "own", "pooled", {"network": k, "readout": readout})
            )
        selections.append(
            (network.architecture, "mlp", "/ 255", "pooled", {"network": k, "pixels": "unit"})
        )
    first = planning.networks(settings)[0].architecture
    selections += [
        (first, "mlp", "own", "map", {"feature": "map"}),
        (first, "mlp", "/ 255", "map", {"feature": "map", "pixels": "unit"}),
        (f"{first}, random weights", "mlp", "own", "pooled", {"network": -1}),
        (
            f"{first}, random weights",
            "linear probe",
            "own",
            "pooled",
            {"network": -1, "readout": "linear probe"},
        ),
    ]
    rows = []
    for network, readout, pixels, feature, change in selections:
        group = results.on_features(runs, settings, **change)
        if group.empty:
            continue
        trained = group["record"].iloc[0].parameters.get("trained")
        row = {"Features": f"{network}, {feature}", "Readout": readout, "Pixels": pixels}
        row |= {"Trained": number(trained, 0) if trained else tables.NO_FIGURE}
        row |= {"n": str(len(group))}
        rows.append(row | {heading: _mean(group, metric) for metric, heading in METRICS.items()})
    rows.sort(key=lambda row: -float(row["Accuracy, %"].split(" ")[0]))
    scratch = results.small(runs, settings)
    rows.append(
        {
            "Features": "small network from scratch",
            "Readout": tables.NO_FIGURE,
            "Pixels": "/ 255",
            "Trained": number(scratch["record"].iloc[0].parameters["trained"], 0),
            "n": str(len(scratch)),
        }
        | {heading: _mean(scratch, metric) for metric, heading in METRICS.items()}
    )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-features",
        f"Classifiers on frozen features at {settings.size} pixels, test part of {source(photos)}. "
        "Pooled: the mean of the last feature map; map: all of it. Pixels: normalised as the "
        "weights want them (own), or divided by 255 only, as the sheet feeds its VGG-16. Trained: "
        f"parameters. {OVERLAP} {origin(settings, every=True)}",
    )


def agreement(runs: pd.DataFrame, settings: Settings) -> Markdown:
    """The sheet's test "without training again"."""
    same = results.agreement(runs, settings)
    new = results.chosen(runs, kind="finetuning", steps=0, head_steps=0)
    own = results.chosen(runs, kind="finetuning", steps=0, head_steps=settings.head_steps)
    return Markdown(
        f"The network and the trained MLP joined into one name {percent(float(np.mean(same)))}% of "
        f"the test photographs as the MLP on stored features did (n = {len(same)} splits), with an "
        f"accuracy of {_mean(own)}%: it is the same function. With a new, untrained MLP in its "
        f"place the accuracy is {_mean(new)}% (n = {len(new)}), where guessing gives "
        f"{percent(1 / len(settings.classes))}%: which of the two one gets depends on whether the "
        "MLP that is concatenated has been trained."
    )


def tuning_rows(runs: pd.DataFrame, settings: Settings) -> dict[str, pd.DataFrame]:
    """Fixed features and every way of training on, by its name."""
    found = {"fixed features": results.on_features(runs, settings, size=settings.tuning_size)}
    for blocks in sorted(settings.blocks):
        name = "head only" if not blocks else f"head and {blocks} block{'s' * (blocks > 1)}"
        found[name] = results.fine_tuned(runs, settings, blocks)
    found[f"head and 1 block, rate {CARELESS_RATE:g}"] = results.fine_tuned(
        runs, settings, 1, rate=CARELESS_RATE
    )
    found[f"new head and 1 block, rate {CARELESS_RATE:g}"] = results.fine_tuned(
        runs, settings, 1, rate=CARELESS_RATE, head_steps=0
    )
    return {name: rows for name, rows in found.items() if len(rows)}


def tuning_table(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """Fine-tuning by number of unfrozen blocks."""
    rows = []
    found = tuning_rows(runs, settings)
    differences = tuning_differences(runs, settings).set_index("comparison")
    for name, group in found.items():
        row = {
            "Trained": name,
            "n": str(len(group)),
            "Parameters": group["record"].iloc[0].parameters["trained"],
            "Accuracy, %": _mean(group),
        }
        if name in differences.index:
            own = differences.loc[name]
            row["Minus fixed, points"] = percent(own["difference"], sign=True)
            row["p (Holm)"] = tables.p_value(own["p"])
        else:
            row |= {"Minus fixed, points": tables.NO_FIGURE, "p (Holm)": tables.NO_FIGURE}
        rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-tuning",
        f"Fine-tuning at {settings.tuning_size} pixels, {settings.tuning_steps} steps of Adam at "
        f"{TUNING_RATE:g} unless said, from the MLP trained on fixed features unless it is new; "
        f"test part of {source(photos)}. Parameters are those trained. {OVERLAP} "
        f"Differences are paired; p by the corrected resampled t test with Holm's correction over "
        f"the rows. {origin(settings)}",
    )


def tuning_differences(runs: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Every way of training on minus fixed features, paired."""
    found = tuning_rows(runs, settings)
    fixed = found.pop("fixed features")
    return _compared({name: (rows, fixed) for name, rows in found.items()})


def tuning_choices(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """Rates of the MLP and of fine-tuning on validation images."""
    rows = []
    held = runs[(runs["scored_on"] == "validation") & (runs["kind"] != "scratch")]
    for method, group in held.groupby("method", sort=False):
        if group["steps"].iloc[0]:
            rows.append(
                {
                    "Candidate": method,
                    "n": str(len(group)),
                    "Validation accuracy, %": _mean(group),
                    "Loss": f"{group['nll'].mean():.3f}",
                }
            )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-rates",
        f"Rates compared on validation images held out of the training part of {source(photos)}. "
        f"{OVERLAP} {origin(settings)}",
    )


def comparisons(runs: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The chapter's main comparisons, paired over splits."""
    ours, scratch = results.on_features(runs, settings), results.small(runs, settings)
    first = planning.networks(settings)[0].architecture
    pairs = {
        f"{first} features, MLP against small network": (ours, scratch),
        "random features, linear probe against small network": (
            results.on_features(runs, settings, network=-1, readout="linear probe"),
            scratch,
        ),
        "corners' colours against small network": (
            results.chosen(runs, kind="corners"),
            scratch,
        ),
        "MLP against kNN": (ours, results.on_features(runs, settings, readout="kNN")),
        "pooled features against the whole map": (
            ours,
            results.on_features(runs, settings, feature="map"),
        ),
        "own normalisation against pixels / 255": (
            ours,
            results.on_features(runs, settings, pixels="unit"),
        ),
        f"{settings.size} against {settings.tuning_size} pixels": (
            ours,
            results.on_features(runs, settings, size=settings.tuning_size),
        ),
    }
    if len(settings.networks) > 1:
        second = planning.networks(settings)[1].architecture
        pairs[f"{second} against {first}"] = (results.on_features(runs, settings, network=1), ours)
    return _compared(pairs)


def _compared(pairs: dict[str, tuple[pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    return tables.compared({name: results.paired(*pair) for name, pair in pairs.items()})


def comparisons_table(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """The same as a table."""
    frame = comparisons(runs, settings)
    return tables.comparisons(
        frame,
        "tbl-caltech-comparisons",
        f"Paired differences in test accuracy on {source(photos)}: mean over the n splits, 95% "
        "interval and two-sided test by the corrected resampled t, Holm's correction over the "
        f"{len(frame)} comparisons. {origin(settings, every=True)}",
    )


def confusion(rows: pd.DataFrame, photos: Photographs, settings: Settings) -> Figure:
    """Mean confusion matrix over the splits."""
    return figures.confusion(results.confusion(rows, photos, settings), photos.classes)


def mistaken(rows: pd.DataFrame, photos: Photographs, settings: Settings) -> Figure:
    """The photographs most often named wrongly, with the class they are mostly taken for."""
    worst = results.errors(rows, photos, settings).head(SHOWN)
    titles = [
        f"{photos.classes[each.label]}\nas {photos.classes[each.taken_for]}\n"
        f"{each.wrong} of {each.tested}"
        for each in worst.itertuples()
    ]
    return figures.image_grid(_small(photos.images[worst["position"].tolist()]), titles, columns=8)


# New photographs


def files_table(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """Test photographs as files of every kind."""
    group = results.chosen(runs, kind="recognition")
    rows = [
        {
            "File": kind,
            "n": str(len(group)),
            "Accuracy, %": _mean(group, f"accuracy, {kind}"),
            "Mean confidence, %": _mean(group, f"confidence, {kind}"),
        }
        for kind in FILES
    ]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-files",
        f"Test photographs of {source(photos)} written to image files and read back as "
        f"`fewlabels classify` reads them. {OVERLAP} {origin(settings)}",
    )


def strangers_table(runs: pd.DataFrame, settings: Settings, photos: Photographs) -> Table:
    """Photographs that show none of the classes get one of them all the same."""
    group = results.chosen(runs, kind="recognition")
    rows = []
    for name in STRANGERS:
        found = np.stack([r.predictions[f"probabilities, {name}"] for r in group["record"]])
        row = {"Photograph": name.split(".")[0], "n": str(len(group))}
        shares = [percent(planning.share(column)) for column in found.astype(float).T]
        rows.append(row | dict(zip(photos.classes, shares, strict=True)))
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-strangers",
        "Mean probability, %, of each class for two photographs that come with scikit-learn, a "
        f"temple in China and a flower, by the networks of n splits. {OVERLAP} {origin(settings)}",
    )


def beside_the_book(runs: pd.DataFrame, settings: Settings):
    """In a rerun: the reader's means beside the book's. In the book itself nothing."""
    if settings.store == "results":
        return None
    book = Settings()
    planned = planning.plan(book)
    stored = planning.store(book)
    theirs = results.frame(planned, [stored.get(run) for run in planned], book)
    rows = []
    for name, select in {
        "small network": results.small,
        "features, MLP": results.on_features,
        "fine-tuned, one block": lambda frame, own: results.fine_tuned(frame, own, 1),
    }.items():
        yours = select(runs, settings)
        row = {"Method": name, "n": str(len(yours)), "Your run": _mean(yours)}
        if len(theirs):
            measured = select(theirs, book)
            row |= {"Book's n": str(len(measured)), "The book": _mean(measured)}
        rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-caltech-yours",
        f"Your run beside the book: test accuracy, %, mean with 95% interval. Yours is on "
        f"{photographs.load(settings.dataset, tuple(settings.classes), settings.size).title}; "
        f"settings differ as the profiles do. Yours: {origin(settings)} The book's: {origin(book)}",
    )


def commands() -> dict[str, str]:
    """What a reader can type, by what it does."""
    return {
        "A few minutes, your numbers beside ours": f"make rerun CHAPTER={NAME}",
        "Everything, as printed here": f"fewlabels run {NAME} --profile full -p store cache",
        "With the sheet's VGG-16, torchvision's weights": (
            f"fewlabels run {NAME} -p networks '[vgg16]'"
        ),
        "Other classes of Caltech-101": (
            f"fewlabels run {NAME} -p classes '[lotus, panda, pyramid]'"
        ),
        "Your own photograph": "fewlabels classify photo.jpg",
    }
