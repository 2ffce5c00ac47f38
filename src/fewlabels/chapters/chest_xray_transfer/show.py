"""Chapter 3's tables and figures, as the notebook calls them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve
from torch.nn import functional as F

from fewlabels import data, figures, published, tables
from fewlabels.chapters.chest_xray_transfer import planning, results
from fewlabels.chapters.chest_xray_transfer.claims import (
    SOURCE_EPOCHS,
    SOURCE_SIZE,
    causes,
    constant,
    first_tensors,
    where_the_source,
)
from fewlabels.chapters.chest_xray_transfer.planning import NAME, Settings
from fewlabels.chapters.chest_xray_transfer.results import (
    ALL_LAYERS,
    CNN,
    HEAD,
    NAMES,
    SMALL,
    TRANSFER,
    WEIGHTED,
)
from fewlabels.data.xrays import KINDS, XrayData, duplicates, kind
from fewlabels.experiments.chest_xray import HELD_OUT, crop
from fewlabels.statistics import ALPHA, fraction_interval
from fewlabels.tables import NOT_RUN, Table, percent

REPORT_ROLES = (
    TRANSFER,
    f"{TRANSFER}{WEIGHTED}",
    f"{TRANSFER}, class sampling",
    "transfer, whole test",
    "transfer, whole",
    ALL_LAYERS,
    CNN,
    f"{CNN}{WEIGHTED}",
)
TUNED_ROLES = (
    HEAD,
    f"{HEAD}{WEIGHTED}",
    f"{HEAD}, class sampling",
    "head, split by image",
    "small head",
    "last block",
    "all layers",
    SMALL,
    f"{SMALL}{WEIGHTED}",
)
TO_BEAT = "Published elsewhere: balanced accuracy 87 at 28 pixels, 91 at 224, AUC 98."
COMPARED = (
    ("report", TRANSFER, CNN),
    ("report", ALL_LAYERS, CNN),
    ("report", "transfer, whole test", TRANSFER),
    ("report", "transfer, whole", TRANSFER),
    ("report", f"{TRANSFER}{WEIGHTED}", TRANSFER),
    ("report", f"{CNN}{WEIGHTED}", CNN),
    ("tuned", HEAD, SMALL),
    ("tuned", f"{HEAD}{WEIGHTED}", HEAD),
    ("tuned", f"{HEAD}, class sampling", HEAD),
    ("tuned", "last block", "small head"),
    ("tuned", "all layers", "small head"),
)
"""Comparisons with all labels: protocol, role, and what it is compared with."""


def setting(settings: Settings) -> str:
    """What every caption has to say: the data, the backbone and its weights."""
    return (
        f"{data.load(settings.dataset).title}; frozen backbone {_frozen(settings)}; fine-tuned "
        f"network {_fine_tuned(settings)}"
    )


def _frozen(settings: Settings) -> str:
    return f"{planning.frozen_source(settings).title}, at {settings.size} pixels"


def _fine_tuned(settings: Settings) -> str:
    return f"{planning.fine_tuned_source(settings).title}, at {settings.fine_tuned_size} pixels"


def _about(settings: Settings) -> str:
    """Data and frozen weights, for the captions of results of the frozen backbone."""
    return f"{data.load(settings.dataset).title}; {_frozen(settings)}"


def summary(runs: pd.DataFrame, settings: Settings) -> str:
    """The chapter in a few lines, every figure from the runs."""
    transfer, head = results.select(runs, TRANSFER), results.select(runs, HEAD)
    images = len(results.truth(settings))
    lines = [
        f"With the report's settings, read as training the head alone, the pretrained network "
        f"reaches **{_percent(transfer, 'mean_class_accuracy')}%** balanced accuracy on the "
        f"{images:,} test images (n = {len(transfer)} seeds, of which {_learning(transfer)} learn)."
    ]
    whole = results.difference(runs, "transfer, whole test", TRANSFER, "mean_class_accuracy")
    lines.append(
        "Testing the same heads on whole images instead of random crops changes that by "
        f"{percent(whole, sign=True)} points."
    )
    every = results.select(runs, ALL_LAYERS)
    if len(every):
        printed = published.claim("C1").published["balanced_accuracy"]
        lines.append(
            "If all layers were trained, a smaller ResNet reaches "
            f"{_percent(every, 'mean_class_accuracy')}% (n = {len(every)}). The report prints "
            f"{printed:g}% and not which layers it trained: its figures, and that transfer beats "
            "the convolutions, are *not identifiable*."
        )
    if failures := results.failures(results.select(runs, CNN)):
        lines.append(f"Of the network of ten convolutions, {failures}.")
    lines.append(
        f"Our head on the same frozen features has {_percent(head, 'mean_class_accuracy')}% and an "
        f"AUC of {_percent(head, 'auc')}%, a small network of ours from scratch "
        f"{_percent(results.select(runs, SMALL), 'mean_class_accuracy')}% "
        f"(n = {len(results.select(runs, SMALL))})."
    )
    lines += [_cause(runs, role) for role in (TRANSFER, CNN, HEAD)]
    if len(runs[runs["kind"] == "xray-unmatched"]):
        left, others, _ = _left_over(runs, settings)
        lines.append(
            f"Of the normal test files that have no counterpart in PneumoniaMNIST the "
            f"tuned head calls {percent(left)}% normal, of the others {percent(others)}%."
        )
    return (
        "::: {.callout-important}\n## In short\n\n"
        + "\n".join(f"- {line}" for line in lines)
        + f"\n\nData and weights: {setting(settings)}.\n:::"
    )


def _cause(runs: pd.DataFrame, role: str) -> str:
    """Imbalance or another population: the sentence on one model."""
    found, group = causes(runs, role), results.select(runs, role)
    name = NAMES[role].capitalize()
    if found["surplus"] is None:
        return f"{name}: {constant(runs, role) or NOT_RUN}."
    why = {
        True: "class weights recover more recall than the population shift costs",
        None: "imbalance and the change of population cannot be told apart",
        False: "the test images are unlike the training images, and imbalance explains little",
    }
    surplus = found["surplus"]
    told = surplus.mean > 0 if surplus.p <= ALPHA else None
    return (
        f"{name}: of the normal images it calls {_percent(group, 'valid_recall_normal')}% normal "
        f"in validation and {_percent(group, 'recall_normal')}% in test. Class weights give "
        f"{percent(found['weights'], sign=True)} points in test, and with them validation images "
        f"still fare {percent(found['shift'])} points better than test images; "
        f"{why[told]}."
    )


def _learning(group: pd.DataFrame) -> str:
    """How many runs learn, of how many where some do not."""
    count = len(results.learned(group))
    return str(count) if count == len(group) else f"{count} of {len(group)}"


def _percent(group: pd.DataFrame, metric: str, decimals: int = 1) -> str:
    return percent(results.interval(group, metric), decimals)


def data_table(images: XrayData) -> Table:
    """Images and patients of both parts."""
    shared, loose = results.shared_patients(images)
    same = duplicates(images)
    names = (
        f"Names of patients in both parts: {shared} where the kind of image counts, "
        f"{loose} by the bare number, which may be given anew to another kind. "
        if images.train_files
        else "The file names that would tell patients are not in this data set. "
    )
    return tables.show(
        results.overview(images),
        "tbl-xray-data",
        f"{images.title}, {_pixels(images)} pixels as used here. {names}"
        f"Groups of pixel-identical images: {same['train']} within training, {same['test']} within "
        f"test, {same['across']} across, {same['mixed']} of them with different labels "
        f"({same['images']} images).",
    )


def _pixels(images: XrayData) -> str:
    return " x ".join(str(side) for side in images.train.images.shape[2:])


def examples(images: XrayData, each: int = 5) -> Figure:
    """The first test images of each kind."""
    kinds = torch.tensor([kind(file) for file in images.test_files] or images.test.labels.tolist())
    names = KINDS if images.test_files else tuple(name.lower() for name in images.classes)
    pictures, titles = [], []
    for k, name in enumerate(names):
        here = (kinds == k).nonzero().squeeze(1)[:each]
        pictures.append(images.test.images[here])
        titles += [name] * len(here)
    return figures.image_grid(torch.cat(pictures).squeeze(1).numpy(), titles, columns=each)


def crops(images: XrayData, settings: Settings, each: int = 5) -> Figure:
    """Test images as they are, and one random crop of each."""
    first = images.test.images[:: max(1, len(images.test.images) // each)][:each]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cut = crop(first.shape[-1], 0).transform(first)
    return figures.image_grid(torch.cat([first, cut]).squeeze(1).numpy(), columns=each)


def report_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """Protocol report beside the source's figures."""
    printed = published.chest_xray().pivot(index="model", columns="metric", values="value")
    rows = []
    for name, key in (("resnet50_transfer", TRANSFER), ("cnn_scratch", CNN)):
        source = printed.loc[name]
        rows.append(
            {"Model": f"the source's {key}", "n": "1"}
            | {
                heading: f"{100 * source[metric]:.1f}"
                for heading, metric in (
                    ("Accuracy", "accuracy"),
                    ("Balanced", "balanced_accuracy"),
                    ("Kappa", "cohen_kappa"),
                )
            }
            | {"AUC": tables.NO_FIGURE}
        )
    for key in REPORT_ROLES:
        every = results.select(runs, key)
        group = results.learned(every)
        rows.append(
            {"Model": NAMES[key].replace(", report", ""), "n": _learning(every)}
            | {
                heading: _percent(group, metric)
                for heading, metric in (
                    ("Accuracy", "accuracy"),
                    ("Balanced", "mean_class_accuracy"),
                    ("Kappa", "cohen_kappa"),
                    ("AUC", "auc"),
                )
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-xray-report",
        "Protocol report, % on the test images, mean with 95% interval over the n seeds that "
        "learn: the others give every test image one answer. "
        f"{setting(settings)}, here at {settings.report_all_size}; ten convolutions from random "
        f"weights at {settings.cnn_size} pixels for {settings.cnn_epochs} epochs"
        f"{where_the_source(settings)}.",
    )


def trained_layers() -> str:
    """What the printed number of trained parameters says about the layers that were trained."""
    printed = published.claim("C5").published["trainable_transfer"]
    first, body = first_tensors(printed)
    # 2,048 features, two outputs.
    head = 2 * 2048 + 2
    text = (
        f"Which layers were trained? The report says that layers *can* be frozen and prints "
        f"{printed:,} trained parameters. A head with two outputs has {head:,}."
    )
    if first:
        text += (
            f" But {printed:,} is exactly the size of the first {first} tensors of a ResNet-50, "
            "from its first convolution on, which is what adding up the first rows of a table of "
            "trainable layers would give. It would mean that nothing was frozen, and that the "
            f"number trained was {body + head:,}. "
            "We take the head alone for protocol `report`, as the report suggests; the other "
            "reading is a run of its own, on a smaller ResNet (@tbl-xray-report)."
        )
    return text


def class_table(runs: pd.DataFrame, settings: Settings, role: str, label: str) -> Table:
    """Precision, recall and F1 of both classes beside the source's."""
    model = {TRANSFER: "resnet50_transfer", CNN: "cnn_scratch"}[role]
    printed = published.chest_xray()
    printed = printed[printed["model"] == model].set_index("metric")["value"]
    group = results.select(runs, role)
    ours = results.per_class(group, results.truth(settings), data.load(settings.dataset).classes)
    rows = []
    for row in ours.itertuples():
        cells = {"Class": row[1]}
        for metric, heading in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1")):
            cells[heading] = f"{100 * printed[f'{metric}_{row[1].lower()}']:.0f}"
            cells[f"{heading}, ours"] = percent(getattr(row, metric))
        rows.append(cells)
    return tables.show(
        pd.DataFrame(rows),
        label,
        f"{NAMES[role]}: precision, recall and F1, %, the source's and ours (mean over "
        f"{len(group)} seeds with 95% interval). {_made_with(settings, role)}.",
    )


def _made_with(settings: Settings, role: str) -> str:
    if role.startswith((CNN, SMALL)):
        size = settings.cnn_size if role.startswith(CNN) else settings.small_size
        return f"{data.load(settings.dataset).title}; random initial weights, {size} pixels"
    return _about(settings)


def confusions(runs: pd.DataFrame, settings: Settings) -> Figure:
    """Mean confusion matrices of three models, in percent of the true class."""
    classes = data.load(settings.dataset).classes
    shown = [role for role in (TRANSFER, CNN, HEAD) if len(results.select(runs, role))]
    fig, axes = plt.subplots(1, len(shown), figsize=(figures.WIDTH, 2.6), squeeze=False)
    axes = axes[0]
    for ax, role in zip(axes, shown, strict=True):
        group = results.select(runs, role)
        matrix = results.confusion(group, results.truth(settings), 2)
        share = 100 * matrix / matrix.sum(axis=1, keepdims=True)
        ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(share):
            ax.text(
                column,
                row,
                f"{value:.0f}%\n{matrix[row, column]:.0f}",
                ha="center",
                va="center",
                color="white" if value > 60 else figures.INK,
            )
        names = [name.lower() for name in classes]
        ax.set_xticks(range(2), names)
        ax.set_yticks(range(2), names if ax is axes[0] else ["", ""])
        ax.set_title(f"{NAMES[role]}\n(n = {len(group)})", fontsize=8)
        ax.set_xlabel("predicted")
        ax.grid(False)
    axes[0].set_ylabel("true")
    plt.close(fig)
    return fig


def curves(runs: pd.DataFrame, settings: Settings, what: str) -> Figure:
    """Accuracy or loss of both models over the epochs, in training and validation."""
    names = {
        "accuracy": {"train_accuracy": "training", "valid_accuracy": "validation"},
        "loss": {"fitted_loss": "training", "valid_loss": "validation"},
    }[what]
    panels = []
    for role, epochs in ((TRANSFER, settings.epochs), (CNN, settings.cnn_epochs)):
        own = results.learning_curves(results.select(runs, role), names, epochs)
        if len(own):
            panels.append(own.assign(panel=NAMES[role]))
    return figures.learning_curves(pd.concat(panels), ylabel=what)


def gap_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """Training, validation and test accuracy of the models at their last epoch."""
    rows = []
    for role in (TRANSFER, CNN, HEAD, "head, split by image", SMALL):
        every = results.select(runs, role)
        group = results.learned(every)
        rows.append(
            {
                "Model": NAMES[role],
                "n": _learning(every),
                "Training": _percent(group, "train_accuracy"),
                "Validation": _percent(group, "valid_accuracy"),
                "Test": _percent(group, "accuracy"),
                "Test AUC": _percent(group, "auc"),
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-xray-gaps",
        "Accuracy and AUC, %, in evaluation mode after the last epoch, mean with 95% interval over "
        "the n seeds that learn. Over-fitting counts as visible where training exceeds validation "
        f"accuracy by more than {published.claim('C6').margin_of('difference'):g} points. "
        f"{_about(settings)}.",
    )


def recall_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """Recall of both classes on validation and test images, by remedy."""
    rows = []
    for role in (
        TRANSFER,
        f"{TRANSFER}{WEIGHTED}",
        f"{TRANSFER}, class sampling",
        CNN,
        f"{CNN}{WEIGHTED}",
        HEAD,
        f"{HEAD}{WEIGHTED}",
        f"{HEAD}, class sampling",
        "all layers",
        SMALL,
        f"{SMALL}{WEIGHTED}",
    ):
        every = results.select(runs, role)
        group = results.learned(every)
        rows.append(
            {
                "Model": NAMES[role],
                "n": _learning(every),
                "Normal, validation": _percent(group, "valid_recall_normal"),
                "Normal, test": _percent(group, "recall_normal"),
                "Normal, test, moved": _percent(group, "moved_recall_normal"),
                "Pneumonia, test": _percent(group, "recall_pneumonia"),
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-xray-recall",
        "Recall of the classes, %, mean with 95% interval over the n seeds that learn. Validation "
        "images are "
        f"{100 * HELD_OUT:g}% of the training images, as imbalanced as the rest; moved means "
        "with the threshold that has the highest balanced accuracy on them. "
        f"{setting(settings)}.",
    )


def recall_figure(runs: pd.DataFrame, settings: Settings) -> Figure:
    """Recall of NORMAL: validation against test, by model and remedy."""
    shown = [
        (TRANSFER, "recall_normal", NAMES[TRANSFER]),
        (f"{TRANSFER}{WEIGHTED}", "recall_normal", "  with class weights"),
        (TRANSFER, "moved_recall_normal", "  threshold moved"),
        (CNN, "recall_normal", NAMES[CNN]),
        (f"{CNN}{WEIGHTED}", "recall_normal", "  with class weights"),
        (CNN, "moved_recall_normal", "  threshold moved"),
        (HEAD, "recall_normal", NAMES[HEAD]),
        (f"{HEAD}{WEIGHTED}", "recall_normal", "  with class weights"),
        (f"{HEAD}, class sampling", "recall_normal", "  with balanced sampling"),
        (HEAD, "moved_recall_normal", "  threshold moved"),
    ]
    shown = [each for each in shown if len(results.select(runs, each[0]))]
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 0.6 + 0.27 * len(shown)))
    for y, (role, metric, _) in enumerate(shown):
        group = results.select(runs, role)
        marks = [(metric, figures.VERMILLION, "o", "test")]
        if metric == "recall_normal":
            marks.append(("valid_recall_normal", figures.BLUE, "s", "validation"))
        for column, colour, marker, name in marks:
            own = results.interval(group, column)
            ax.plot([100 * own.low, 100 * own.high], [y, y], color=colour, lw=1.5)
            ax.plot(100 * own.mean, y, marker, color=colour, label=name if y == 0 else None)
    ax.set_yticks(range(len(shown)), [name for _, _, name in shown])
    ax.invert_yaxis()
    ax.set(xlim=(0, 101), xlabel="recall of NORMAL, %")
    fig.legend(loc="outside upper center", ncols=2)
    plt.close(fig)
    return fig


def causes_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """What class weights give back and what is lost from validation to test."""
    rows = []
    for role in (TRANSFER, CNN, HEAD, SMALL):
        found = causes(runs, role)
        rows.append(
            {
                "Model": NAMES[role],
                "n": str(found["shift"].n if found["shift"] is not None else 0),
                "Moved threshold gives": percent(found["threshold"], sign=True),
                "Class weights give": percent(found["weights"], sign=True),
                "Then lost from validation to test": percent(found["shift"], sign=True),
                "Weights minus loss": percent(found["surplus"], sign=True),
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-xray-causes",
        "Recall of NORMAL on test images, percentage points, paired by seed, mean with 95% "
        "interval over n seeds. Were imbalance the cause, class weights would give back what is "
        "missing, and with them validation images would be no better recognised than test images. "
        f"{_constants(runs)}{_about(settings)}.",
    )


def _constants(runs: pd.DataFrame) -> str:
    found = {NAMES[role]: constant(runs, role) for role in (TRANSFER, CNN, HEAD, SMALL)}
    words = "; ".join(f"{name}: {count}" for name, count in found.items() if count)
    return f"{words}. " if words else ""


def shift_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """How well training and test images of one class can be told apart."""
    group = runs[runs["kind"] == "xray-shift"]
    rows = [
        {"Within a class": name, "n": str(len(own)), "AUC, %": _percent(own, "auc")}
        for name, own in group.groupby("method", sort=False)
    ]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-xray-shift",
        "A linear classifier that is asked which part an image of one class comes from, five folds "
        "by patient; 50% is chance. The control asks it of training patients at random. Mean over "
        f"n seeds of the folds with 95% interval. {_about(settings)}.",
    )


def heatmap_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """Share of the attribution outside the middle of the image, by outcome."""
    record = runs[runs["kind"] == "xray-heatmaps"]["record"].iloc[0]
    classes = [name.lower() for name in data.load(settings.dataset).classes]
    rows = []
    for true, name in enumerate(classes):
        for guess, called in enumerate(classes):
            share = record.metrics.get(f"outside_{true}_{guess}")
            rows.append(
                {
                    "True": name,
                    "Called": called,
                    "Images": str(int(record.metrics.get(f"images_{true}_{guess}", 0))),
                    "In the outer ring, %": percent(share),
                }
            )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-xray-heatmaps",
        "Grad-CAM of the called class at the last stage: share in the outer ring of the map, a "
        "seventh of the image on each side (of a map of 7 by 7 positions 24, or 49%); mean over "
        f"the images of each group, one head. {_about(settings)}.",
    )


def heatmaps(runs: pd.DataFrame, settings: Settings) -> Figure:
    """Test images with their Grad-CAM, right and wrong ones."""
    record = runs[runs["kind"] == "xray-heatmaps"]["record"].iloc[0]
    images = data.load(settings.dataset)
    kept = record.predictions
    columns = 6
    rows = -(-len(kept["position"]) // columns)
    side = figures.WIDTH / columns
    fig, axes = plt.subplots(
        rows, columns, figsize=(figures.WIDTH, rows * (side + 0.3)), squeeze=False
    )
    for ax in axes.flat:
        ax.set_axis_off()
    names = [name.lower() for name in images.classes]
    for ax, position, guess, cam in zip(
        axes.flat, kept["position"], kept["predicted"], kept["map"], strict=False
    ):
        picture = images.test.images[int(position), 0].numpy()
        heat = F.interpolate(
            torch.tensor(cam[None, None].astype(np.float32)),
            size=picture.shape,
            mode="bilinear",
            align_corners=False,
        )[0, 0].numpy()
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
        ax.imshow(heat, cmap="inferno", alpha=0.45)
        true = int(images.test.labels[int(position)])
        right = true == guess
        ax.set_title(
            f"{names[true]}\ncalled {names[guess]}",
            fontsize=7,
            fontweight="normal" if right else "bold",
            color=figures.INK if right else figures.VERMILLION,
            pad=2,
        )
    plt.close(fig)
    return fig


def unmatched_table(runs: pd.DataFrame, settings: Settings) -> Table | None:
    """The PneumoniaMNIST test images without a file, and how the head reads the files left over."""
    group = runs[runs["kind"] == "xray-unmatched"]
    if group.empty:
        return None
    record = group["record"].iloc[0]
    metrics = record.metrics
    left, others, without = _left_over(runs, settings)
    head = results.select(runs, HEAD)
    rows = [
        ("test images of PneumoniaMNIST without a file", f"{metrics['unmatched_images']:.0f}"),
        ("of these labelled normal", f"{metrics['unmatched_normal']:.0f}"),
        ("test files without such an image", f"{metrics['unmatched_files']:.0f}"),
        (
            "their best correlation, median / highest",
            f"{metrics['unmatched_median']:.3f} / {metrics['unmatched_highest']:.3f}",
        ),
        (
            "matched images with their own file, lowest / median",
            f"{metrics['control_lowest']:.3f} / {metrics['control_median']:.3f}",
        ),
        ("recall of the files left over, %", percent(left)),
        ("recall of the other normal test files, %", percent(others)),
        ("balanced accuracy without the files left over, %", percent(without)),
    ]
    return tables.show(
        pd.DataFrame(rows, columns=["What", "Found"]),
        "tbl-xray-unmatched",
        "PneumoniaMNIST's test images (28 pixels, a merged copy) against the test files they "
        "should have been made from, compared under centred cuts, mirrored, turned and inverted. "
        f"Recalls: head, tuned, n = {len(head)} seeds with 95% interval; {_about(settings)}.",
    )


def unmatched_figure(runs: pd.DataFrame, settings: Settings, each: int = 6) -> Figure | None:
    """Unmatched PneumoniaMNIST images above the likest test files."""
    group = runs[runs["kind"] == "xray-unmatched"]
    if group.empty:
        return None
    kept = group["record"].iloc[0].predictions
    order = np.argsort(-kept["correlation"])[:each]
    small = data.load("pneumonia").test.images[torch.tensor(kept["image"][order].astype(int))]
    full = data.load(settings.dataset).test.images[torch.tensor(kept["file"][order].astype(int))]
    side = full.shape[-1]
    enlarged = F.interpolate(small.float(), size=(side, side), mode="nearest").to(torch.uint8)
    titles = ["PneumoniaMNIST"] * each + [f"r = {kept['correlation'][i]:.2f}" for i in order]
    both = torch.cat([enlarged, full]).squeeze(1).numpy()
    return figures.image_grid(both, titles, columns=each)


def unmatched_words(runs: pd.DataFrame, settings: Settings) -> str:
    """What the comparison says."""
    group = runs[runs["kind"] == "xray-unmatched"]
    if group.empty:
        return "This comparison was not run."
    found = group["record"].iloc[0].metrics
    left, others, without = _left_over(runs, settings)
    if found["unmatched_highest"] >= found["control_lowest"]:
        words = (
            "The best of them come as close to a file as matched images do to theirs, so that some "
            "may show it after all."
        )
    else:
        words = (
            "Even the best of them stays below the worst matched image: no crop, mirroring, turn "
            "or inversion makes it one of the files left over. As many images of the one set as of "
            "the other have no counterpart, all of them normal: the two collections hold partly "
            "different normal test images. Which of them is closer to the first release cannot be "
            "told from here."
        )
    return (
        f"{words}\n\nThe files left over are not like the rest. Our head calls {percent(left)}% of "
        f"them normal, and {percent(others)}% of the other normal test files. Without them its "
        f"balanced accuracy would be {percent(without)}% instead of "
        f"{_percent(results.select(runs, HEAD), 'mean_class_accuracy')}%, so a good part of what "
        "the test set costs sits in a few images whose origin is not known; the rest of the gap to "
        "the validation images remains without them."
    )


def _left_over(runs: pd.DataFrame, settings: Settings):
    """Our head's recall of the normal files left over, and of the others, and its balanced accuracy
    without the former: three intervals."""
    left = runs[runs["kind"] == "xray-unmatched"]["record"].iloc[0].predictions["files"]
    labels = results.truth(settings)
    normal, ill = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    others = np.setdiff1d(normal, left)
    head = results.select(runs, HEAD)
    hits = [results.hits(head, each, settings) for each in (left, others, ill)]
    parts = (hits[0], hits[1], (hits[1] + hits[2]) / 2)
    return tuple(fraction_interval(each) for each in parts)


def deviations(settings: Settings) -> str:
    """Where the chapter departs from the report, from the parameters."""
    points = [
        f"Data and weights are not the report's: {setting(settings)}.",
        "A frozen backbone's features are computed once per image and view, so the "
        f"{settings.epochs} epochs of protocol `report` share random crops of every "
        f"training image ({settings.crops} of each) instead of drawing fresh ones, and seeds take "
        f"turns over random crops of every test image ({settings.test_crops} of each).",
        "The network of ten convolutions was left out: `cnn_seeds` is 0."
        if not settings.cnn_seeds
        else _convolutions(settings),
        "Its `forward` is not printed. The report says that its output layer has a softmax and "
        "trains it with cross-entropy; we give cross-entropy the logits, as the printed test loss "
        "does not fit a second softmax.",
        f"The share of validation images is not printed; ours is {100 * HELD_OUT:g}%, at random by "
        "image in protocol `report`, by patient in `tuned`.",
        (
            "All layers in protocol `report` are those of a smaller ResNet at "
            f"{settings.report_all_size} pixels, with batch norm in evaluation mode."
            if settings.report_all_seeds
            else "Protocol `report` with all layers trained, the other reading of the report, was "
            "left out: `report_all_seeds` is 0."
        ),
        f"Few seeds stand behind fine-tuning ({settings.fine_tuned_seeds}; of all "
        f"layers {settings.all_layers_seeds}), the ten convolutions "
        f"({settings.cnn_seeds}) and our network from scratch ({settings.small_seeds}): their "
        "intervals are wide. Fine-tuning "
        f"uses a smaller ResNet at {settings.fine_tuned_size} pixels for "
        f"{settings.fine_tuned_epochs} epochs.",
        "Seeds differ in split, initial weights and order; the test images are always the same, "
        "and intervals over seeds do not say how other test images would fare.",
        "Patients are known by file names only, which may number anew in each part.",
        "The rule of C4, and that a run with one answer for every test image has failed to learn, "
        "were settled after the figures of this chapter were known.",
    ]
    return "\n".join(f"- {point}" for point in points if point)


def _convolutions(settings: Settings) -> str:
    """What differs from the report in training its ten convolutions; nothing where nothing does."""
    differs = []
    if settings.cnn_epochs != SOURCE_EPOCHS:
        differs.append(f"for {settings.cnn_epochs} epochs (the report: {SOURCE_EPOCHS})")
    if settings.cnn_size != SOURCE_SIZE:
        differs.append(
            f"at {settings.cnn_size} pixels (the report: {SOURCE_SIZE}); the five poolings then "
            "leave fewer positions than its linear layer expects, and an adaptive pooling, which "
            "has no parameters, repeats them"
        )
    return f"The network of ten convolutions is trained {' '.join(differs)}." if differs else ""


def tuned_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """Protocol tuned with all labels."""
    rows = []
    for key in TUNED_ROLES:
        group = results.select(runs, key)
        rows.append(
            {"Model": NAMES[key].replace(", tuned", ""), "n": str(len(group))}
            | {
                heading: _percent(group, metric)
                for heading, metric in (
                    ("Accuracy", "accuracy"),
                    ("Balanced", "mean_class_accuracy"),
                    ("Balanced, moved", "moved_mean_class_accuracy"),
                    ("AUC", "auc"),
                )
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-xray-tuned",
        "Protocol tuned with all labels, % on the test images, mean over n seeds with 95% "
        f"interval; moved: with a threshold from validation images. {TO_BEAT} {setting(settings)}; "
        f"small network from random weights at {settings.small_size} pixels.",
    )


def choices_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """What was compared on held-out training images."""
    chosen = runs[runs["role"] == "candidate"]
    rows = []
    for name, group in chosen.groupby("method", sort=False):
        row = {"Candidate": name, "n": str(len(group))}
        row["Balanced accuracy, %"] = _percent(group, "mean_class_accuracy")
        rows.append(row | {"AUC, %": _percent(group, "auc", 2)})
    return tables.show(
        pd.DataFrame(rows),
        "tbl-xray-choices",
        "Candidates for the head of protocol tuned, scored on training images that were held out "
        f"by patient; mean over n splits with 95% interval. {_about(settings)}.",
    )


def rates(runs: pd.DataFrame, settings: Settings) -> Figure:
    """ROC and precision-recall curves of the first seed of each model, with the usual threshold."""
    labels = results.truth(settings)
    fig, (left, right) = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.1))
    shown = (
        (TRANSFER, figures.VERMILLION),
        (CNN, figures.BLUE),
        (HEAD, figures.GREEN),
        ("all layers", figures.PURPLE),
    )
    for k, (role, colour) in enumerate(shown):
        group = results.select(runs, role)
        if group.empty:
            continue
        look = {"color": colour, "ls": figures.DASHES[k % 4]}
        for n, record in enumerate(group["record"][:3]):
            p = results.probabilities(record)
            name = NAMES[role] if n == 0 else None
            false, true, cuts = roc_curve(labels, p, drop_intermediate=False)
            left.plot(100 * false, 100 * true, label=name, lw=1.2, alpha=0.9, **look)
            at = int(np.searchsorted(-cuts, -0.5, side="right")) - 1
            left.plot(100 * false[at], 100 * true[at], "o", color=colour, ms=4)
            precision, recall, _ = precision_recall_curve(labels, p)
            right.plot(100 * recall, 100 * precision, lw=1.2, alpha=0.9, **look)
    left.set(xlabel="normal called pneumonia, %", ylabel="pneumonia found, %", title="ROC")
    right.set(xlabel="recall of pneumonia, %", ylabel="precision, %", title="precision and recall")
    right.set_ylim(100 * labels.mean() - 5, 101)
    fig.legend(loc="outside upper center", ncols=2)
    plt.close(fig)
    return fig


def calibration(runs: pd.DataFrame, settings: Settings, bins: int = 10) -> Figure:
    """How often an image is a pneumonia, against the probability that it was given."""
    labels = results.truth(settings)
    fig, ax = plt.subplots(figsize=(0.62 * figures.WIDTH, 0.55 * figures.WIDTH))
    ax.plot([0, 100], [0, 100], color=figures.FAINT, lw=1, ls=":")
    shown = (
        (TRANSFER, figures.VERMILLION, "o"),
        (CNN, figures.BLUE, "s"),
        (HEAD, figures.GREEN, "^"),
    )
    for role, colour, marker in shown:
        group = results.select(runs, role)
        if group.empty:
            continue
        p = np.concatenate([results.probabilities(record) for record in group["record"]])
        truth = np.tile(labels, len(group))
        at = np.minimum((p * bins).astype(int), bins - 1)
        count = np.bincount(at, minlength=bins)
        full = count >= max(5, 0.005 * len(p))
        given, true = (
            100 * np.bincount(at, weights=each, minlength=bins)[full] / count[full]
            for each in (p, truth)
        )
        ax.plot(given, true, color=colour, marker=marker, label=_calibrated(role, group))
    ax.set(xlabel="probability given to pneumonia, %", ylabel="share that is pneumonia, %")
    fig.legend(loc="outside upper center", ncols=1)
    plt.close(fig)
    return fig


def _calibrated(role: str, group: pd.DataFrame) -> str:
    error = _percent(group, "calibration_error")
    return f"{NAMES[role]}: calibration error {error}% (n = {len(group)})"


def three_class_table(runs: pd.DataFrame, settings: Settings) -> Table | None:
    """Normal, bacterial, viral."""
    group = results.select(runs, "three classes")
    if group.empty:
        return None
    images = data.load(settings.dataset)
    labels = np.array([kind(file) for file in images.test_files])
    ours = results.per_class(group, labels, KINDS)
    rows = [
        {
            "Class": row[1],
            "Test images": int((labels == k).sum()),
            "Precision, %": percent(row.precision),
            "Recall, %": percent(row.recall),
            "F1, %": percent(row.f1),
        }
        for k, row in enumerate(ours.itertuples())
    ]
    return tables.show(
        pd.DataFrame(rows),
        "tbl-xray-three",
        f"Head, tuned, on three classes: mean over {len(group)} seeds with 95% interval; accuracy "
        f"{_percent(group, 'accuracy')}%, balanced {_percent(group, 'mean_class_accuracy')}%. "
        f"{_about(settings)}.",
    )


def comparisons(runs: pd.DataFrame) -> pd.DataFrame:
    """Paired differences in balanced accuracy with all labels, see `fewlabels.tables.compared`."""
    found = {}
    for protocol, role, other in COMPARED:
        names = [NAMES[each].replace(f", {protocol}", "") for each in (role, other)]
        difference = results.difference(runs, role, other, "mean_class_accuracy")
        found[f"{protocol}: {names[0]} against {names[1]}"] = difference
    return tables.compared(found)


def comparisons_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """The same as a table."""
    frame = comparisons(runs)
    return tables.comparisons(
        frame,
        "tbl-xray-comparisons",
        "Paired differences in balanced accuracy on the test images: mean with 95% interval over "
        "the n seeds that learn on both sides, and two-sided t test with Holm's correction over "
        f"the comparisons of three seeds or more. {setting(settings)}.",
    )


def cost_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """Parameters trained, and time."""
    rows = []
    epochs = {
        TRANSFER: settings.epochs,
        CNN: settings.cnn_epochs,
        HEAD: settings.tuned_epochs,
        "last block": settings.fine_tuned_epochs,
        "all layers": settings.fine_tuned_epochs,
    }
    for role, count in epochs.items():
        group = results.select(runs, role)
        if len(group):
            seconds = group["seconds"].median()
            rows.append(
                {
                    "Model": NAMES[role],
                    "Trained parameters": int(group["record"].iloc[0].parameters["trained"]),
                    "Epochs": count,
                    "Seconds a run": seconds,
                    "Seconds an epoch": seconds / count,
                }
            )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-xray-cost",
        "Trained parameters and median time of a run with its scores, one thread. Frozen features "
        "are computed once and not counted, except in the run that needed them first. "
        f"{setting(settings)}.",
    )


def beside_the_book(runs: pd.DataFrame, settings: Settings):
    """In a rerun: the reader's means beside the book's. In the book itself nothing."""
    if settings.store == "results":
        return None
    book = Settings()
    planned = planning.plan(book)
    stored = planning.store(book)
    with data.as_in_the_book():
        ours = results.frame(book, planned, [stored.get(run) for run in planned])
    rows = []
    for role in (*REPORT_ROLES, *TUNED_ROLES):
        yours = results.select(runs, role)
        if yours.empty:
            continue
        row = {"Model": NAMES[role], "n": str(len(yours))}
        row["Your run"] = _percent(yours, "mean_class_accuracy")
        if len(ours):
            theirs = results.select(ours, role)
            row |= {
                "Book's n": str(len(theirs)),
                "The book": _percent(theirs, "mean_class_accuracy"),
            }
        rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-xray-yours",
        "Your run beside the book: balanced accuracy on the test images, %, mean with 95% "
        f"interval. Yours: {setting(settings)}. The book's is measured on "
        f"{book.dataset} with {planning.frozen_source(book).title}; settings differ as the "
        "profiles do.",
    )


def commands() -> dict[str, str]:
    """What a reader can type, by what it does."""
    return {
        "A few minutes, your numbers beside ours": f"make rerun CHAPTER={NAME}",
        "Everything, as printed here": f"fewlabels run {NAME} --profile full -p store cache",
        "The same with torchvision's own weights": (
            f"fewlabels run {NAME} --profile full -p store cache -p weights torchvision "
            "-p fine_tuned_weights torchvision"
        ),
        "One parameter changed": f"fewlabels run {NAME} -p epochs 10",
    }
