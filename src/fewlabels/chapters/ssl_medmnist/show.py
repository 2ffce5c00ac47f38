"""Chapter 5's tables and figures, as the notebook calls them. Cells without runs say so."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from fewlabels import data, figures, provenance, tables
from fewlabels.chapters.ssl_medmnist import planning, results
from fewlabels.chapters.ssl_medmnist.claims import SUPERVISED, TRIO, split_variance
from fewlabels.chapters.ssl_medmnist.planning import (
    NAME,
    SOURCE_EPOCHS,
    SOURCE_METHODS,
    Settings,
)
from fewlabels.chapters.ssl_medmnist.results import ALL, MEAN, QUARTER
from fewlabels.data import ImageData
from fewlabels.pretext import moco, simclr
from fewlabels.pretext.methods import METHODS as PRETEXT
from fewlabels.pretext.rotation import TURNS, all_turns
from fewlabels.statistics import ALPHA
from fewlabels.tables import NO_FIGURE, NOT_RUN, Table, percent
from fewlabels.verdicts import Printed

LABELS = {ALL: "all labels", QUARTER: "a quarter of the labels"}
EXAMPLES = 8
SEED = 3


def summary(runs: pd.DataFrame, rows: list[dict], settings: Settings) -> str:
    """The chapter in one paragraph, every figure from the runs."""
    lines = []
    for dataset in settings.datasets:
        for labels, words in LABELS.items():
            here = results.classes(runs, dataset, labels)
            best = _best(here, settings)
            if best is None:
                continue
            method, difference = best
            lines.append(
                f"On {dataset} with {words} the fine-tuned method with the highest validation "
                f"accuracy, {results.named(method, 'scratch')}, differs from the supervised "
                f"ResNet-18 by **{percent(difference, sign=True)}** points of mean class accuracy "
                f"(n = {difference.n} paired draws)."
            )
    if not lines:
        lines.append(
            "The runs behind this chapter's comparisons have not been made yet: its tables say "
            f"`{NOT_RUN}` and its verdicts `not tested` where that is so."
        )
    words = [row["verdict"].word for row in rows]
    counted = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(sorted(words)))
    lines.append(f"Of the source's {len(words)} claims: {counted}.")
    if (floors(runs, settings)["side"] != NOT_RUN).any():
        lines.append(f"{floors_in_words(runs, settings)} @tbl-ssl-floors has them all.")
    record = results.search(runs, settings.blood)
    if record is not None:
        count = record.metrics
        lines.append(
            f"{data.load(settings.blood).title} holds {count['exact']:.0f} pairs of equal images, "
            f"{count['exact_train_test']:.0f} of them between training and test."
        )
    return "::: {.callout-important}\n## In short\n\n" + " ".join(lines) + "\n:::"


def _best(here: pd.DataFrame, settings: Settings):
    """The fine-tuned method that validates best, and its difference from supervised."""
    means = {}
    for method in settings.methods:
        records = results.cell(here, method, "fine-tuned")["record"]
        if len(records):
            means[method] = np.mean([each.curves["valid_accuracy"][-1] for each in records])
    if not means or not len(results.cell(here, *SUPERVISED)):
        return None
    method = max(means, key=means.get)
    return method, results.paired(here, (method, "fine-tuned"), SUPERVISED)


# The data


def sources(settings: Settings) -> str:
    """Both data sets as captions name them."""
    return "; ".join(provenance.data_line(dataset) for dataset in settings.datasets)


def examples(images: ImageData) -> Figure:
    """Eight training images of every class, a row per class."""
    rows, titles = [], []
    for k in range(len(images.classes)):
        chosen = (images.train.labels == k).nonzero().squeeze(1)[:EXAMPLES]
        rows.append(_padded(images.train.images[chosen], EXAMPLES))
        titles += [f"class {k}"] + [""] * (EXAMPLES - 1)
    return figures.image_grid(torch.cat(rows).numpy(), titles, columns=EXAMPLES)


def _padded(images: torch.Tensor, count: int) -> torch.Tensor:
    white = torch.full_like(images[:1], 255).repeat(count - len(images), 1, 1, 1)
    return torch.cat([images, white])


def class_table(settings: Settings) -> Table:
    """Images of every class in the three splits."""
    rows = []
    for dataset in settings.datasets:
        whole = data.load(dataset)
        counts = [
            part.labels.bincount(minlength=len(whole.classes)).tolist()
            for part in (whole.train, whole.valid, whole.test)
        ]
        for k, name in enumerate(whole.classes):
            row = {"Data set": dataset, "Class": f"{k}: {name}"}
            rows.append(
                row | dict(zip(("Train", "Validation", "Test"), _at(counts, k), strict=True))
            )
    return tables.show(
        pd.DataFrame(rows), "tbl-ssl-classes", f"Images per class and split. {sources(settings)}."
    )


def _at(counts: list[list[int]], k: int) -> list[int]:
    return [int(each[k]) for each in counts]


def duplicates_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """Equal and nearly equal pairs by the splits they lie in."""
    rows, limits = [], []
    for dataset in settings.datasets:
        record = results.search(runs, dataset)
        for key, words in PLACES.items():
            row = {"Data set": dataset, "Between": words, "Equal": NOT_RUN, "Nearly equal": NOT_RUN}
            if record is not None:
                row["Equal"] = str(int(record.metrics[f"exact_{key}"]))
                near = record.metrics[f"near_{key}"] - record.metrics[f"exact_{key}"]
                row["Nearly equal"] = str(int(near))
            rows.append(row)
        if record is not None:
            limits.append(record.config["limit"])
    limit = f" (root mean square difference of at most {limits[0]:g} grey levels)" if limits else ""
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ssl-duplicates",
        f"Pairs of images that are equal in every pixel, and further pairs that are nearly equal"
        f"{limit}, compared in place and orientation. {sources(settings)}.",
    )


PLACES = {
    "train_train": "within training",
    "train_valid": "training and validation",
    "train_test": "training and test",
    "valid_valid": "within validation",
    "valid_test": "validation and test",
    "test_test": "within test",
}


def twins(runs: pd.DataFrame, dataset: str, count: int = 6) -> Figure:
    """Pairs of equal images between training and test, first ones, one above the other."""
    record = results.search(runs, dataset)
    found = results.pairs(record) if record is not None else pd.DataFrame(columns=["split"])
    if len(found):
        found = found.sort_values("distance")
        across = found[found["split"] != found["other_split"]]
        found = (across if len(across) else found).head(count)
    if not len(found):
        return figures.empty("no pair found" if record is not None else NOT_RUN)
    whole = data.load(dataset)
    parts = {"train": whole.train, "valid": whole.valid, "test": whole.test}
    above = [parts[row.split].images[row.index] for row in _named(found)]
    below = [parts[row.other_split].images[row.other_index] for row in _named(found)]
    titles = [
        f"{row.split}, class {int(parts[row.split].labels[row.index])}" for row in _named(found)
    ]
    titles += [
        f"{row.other_split}, class {int(parts[row.other_split].labels[row.other_index])}"
        for row in _named(found)
    ]
    return figures.image_grid(torch.stack(above + below).numpy(), titles, columns=len(found))


def _named(found: pd.DataFrame) -> list:
    # A column called index would hide behind the index of the frame.
    return list(found.itertuples(index=False))


def lesions(settings: Settings) -> str:
    """How many test images show a lesion of the training split, or why that is not known."""
    known = data.lesions(settings.derma)
    title = data.load(settings.derma).title
    if known is None:
        return (
            f"For {title} it is not known which images show one lesion: the official file does not "
            "name its originals."
        )
    shared = set(known["train"]) & set(known["test"])
    images = int(np.isin(known["test"], known["train"]).sum())
    return (
        f"In {title} **{len(shared)}** lesions are shown both in training and in test images; "
        f"{images:,} of the {len(known['test']):,} test images show one of them. Figures on new "
        "images below leave these out."
    )


# The pretext tasks


def views(images: ImageData, method: str) -> Figure:
    """Five training images, each with four views as SimCLR's or MoCo's network meets them."""
    torch.manual_seed(SEED)
    size = images.train.images.shape[-1]
    view = {"simclr": simclr, "moco": moco}[method].view("report", size, blur=False)
    originals = images.train.images[:5]
    shown = [originals, *(_colours(view(originals), view) for _ in range(4))]
    return figures.image_grid(torch.cat(shown).numpy(), columns=5)


def _colours(views: torch.Tensor, view) -> torch.Tensor:
    """Normalised floats back to uint8."""
    mean, deviation = (
        torch.tensor(values).view(1, -1, 1, 1) for values in (view.mean, view.deviation)
    )
    return (views * deviation + mean).clamp(0, 1).mul(255).round().to(torch.uint8)


def paintings(runs: pd.DataFrame, settings: Settings) -> Figure:
    """Validation images, what MAE sees of them, and how the trained network paints the rest."""
    found = runs[(runs["kind"] == "pretraining") & (runs["method"] == "pretraining of mae")]
    found = found[(found["dataset"] == settings.blood) & (found["protocol"] == "report")]
    images = data.load(settings.blood).valid.images
    if not len(found):
        return _masked(images[:5])
    arrays = found["record"].iloc[0].predictions
    count = len(arrays["seen"])
    shown = np.concatenate([images[:count].numpy(), arrays["seen"], arrays["painted"]])
    return figures.image_grid(shown, columns=count)


def _masked(images: torch.Tensor) -> Figure:
    """Images, and the same with three quarters of their 49 patches hidden."""
    generator = torch.Generator().manual_seed(SEED)
    size = images.shape[-1]
    kept = torch.rand(len(images), 49, generator=generator).argsort(dim=1) < 12
    mask = kept.view(-1, 1, 7, 7).repeat_interleave(size // 7, 2).repeat_interleave(size // 7, 3)
    hidden = torch.where(mask, images, torch.full_like(images, 128))
    return figures.image_grid(torch.cat([images, hidden]).numpy(), columns=len(images))


def order(images: ImageData) -> Figure:
    """One image with the order of its patches, and what AIM may see at three places of it."""
    image = images.train.images[0]
    size = image.shape[-1]
    picture = image.permute(1, 2, 0).numpy() if len(image) == 3 else image[0].numpy()
    places = (10, 24, 40)
    fig, axes = plt.subplots(1, 1 + len(places), figsize=(figures.WIDTH, 1.8))
    patch = size // 7
    for ax, place in zip(axes, (None, *places), strict=True):
        ax.set_axis_off()
        shown = picture.copy()
        if place is None:
            ax.set_title("order", fontweight="normal")
            for k in range(49):
                middle = ((k % 7 + 0.5) * patch - 0.5, (k // 7 + 0.5) * patch - 0.5)
                halo = [withStroke(linewidth=1.2, foreground=figures.INK)]
                style = {"fontsize": 5, "color": "white", "path_effects": halo}
                ax.text(*middle, str(k + 1), ha="center", va="center", **style)
        else:
            for k in range(place, 49):
                row, column = k // 7 * patch, k % 7 * patch
                shown[row : row + patch, column : column + patch] = 128
            ax.set_title(f"seen before patch {place + 1}", fontweight="normal")
        ax.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="none")
    plt.close(fig)
    return fig


def turned(images: ImageData) -> Figure:
    """Two training images in the four turns."""
    shown, _ = all_turns(images.train.images[:2])
    return figures.image_grid(shown.numpy(), [f"{turn}°" for turn in TURNS] * 2, columns=8)


# Results


def report_table(runs: pd.DataFrame, settings: Settings, role: str, labels: str) -> Table:
    """Protocol report on one data set and share of the labels, as the source tabulates it."""
    dataset = {"bloodmnist": settings.blood, "dermamnist": settings.derma}[role]
    here = results.classes(runs, dataset, labels)
    rows = [_report_row(here, role, labels, *SUPERVISED)]
    for backbone in ("frozen", "fine-tuned"):
        for method in settings.methods:
            rows.append(_report_row(here, role, labels, method, backbone))
            if method == "aim":
                rows.append(_report_row(here, role, labels, "aim, mean of positions", backbone))
            if backbone == "frozen" and method in ("simclr", "moco"):
                name = f"{method}, moving statistics"
                rows.append(_report_row(here, role, labels, name, backbone))
        if backbone == "frozen":
            rows += [
                _report_row(here, role, labels, f"random {network}", backbone)
                for network in planning.floored(settings)
            ]
    share = "all" if labels == ALL else "quarter"
    return tables.show(
        pd.DataFrame(rows),
        f"tbl-ssl-{'blood' if role == 'bloodmnist' else 'derma'}-{share}",
        f"Protocol report with {LABELS[labels]} of {provenance.data_line(dataset)}: test accuracy "
        "and mean class accuracy, %, the source's one run beside our mean over n draws with its "
        f"95% interval. {_epochs(settings)} Random is the frozen backbone before any training.",
    )


def _epochs(settings: Settings) -> str:
    if settings.epochs == SOURCE_EPOCHS:
        return f"{SOURCE_EPOCHS} epochs as in the source, {SOURCE_EPOCHS // 2} for MAE."
    return f"{settings.epochs} epochs, where the source has {SOURCE_EPOCHS}."


def _report_row(here: pd.DataFrame, role: str, labels: str, method: str, backbone: str) -> dict:
    rows = results.cell(here, method, backbone)
    row = {"Method": results.named(method, backbone), "n": str(len(rows))}
    for metric, heading in (("accuracy", "Accuracy"), (MEAN, "Class mean")):
        figure = results.printed(role, labels, method, backbone, metric)
        row[f"{heading}, source"] = NO_FIGURE if figure is None else f"{figure:.2f}"
        row[heading] = percent(results.interval(rows[metric]))
    return row


def floors(runs: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The source's frozen backbones beside the same networks before any training, class means.

    One row per data set, share of the labels and method: ``figure`` (percent, the source's one
    run), ``untrained`` (fractions, a run each), ``low`` and ``high``, between which these runs, and
    on a rebuild the luck of other test images, contradict no figure (percent; nan below three of
    them), and ``side``, where the figure lies (``not run`` below three).
    """
    rows = []
    for role, dataset in zip(ROLES, (settings.blood, settings.derma), strict=True):
        for labels, words in LABELS.items():
            here = results.classes(runs, dataset, labels)
            for method in SOURCE_METHODS:
                floor = f"random {PRETEXT[method].NETWORKS['report']}"
                there = results.cell(here, floor, "frozen")
                figure = results.printed(role, labels, method, "frozen")
                row = {"dataset": dataset, "labels": words, "method": method, "figure": figure}
                row |= {
                    "untrained": [*there[MEAN]],
                    "side": NOT_RUN,
                    "low": math.nan,
                    "high": math.nan,
                }
                variance = split_variance(there, MEAN)
                part = Printed.percent("frozen", there[MEAN], 0.01, split_variance=variance)
                if found := part.against(figure):
                    middle, reach = figure - found.difference, found.contradicted_beyond()
                    row |= {"low": max(0.0, middle - reach), "high": min(100.0, middle + reach)}
                    row["side"] = "inside"
                    if found.p <= ALPHA:
                        row["side"] = "above" if found.difference > 0 else "below"
                rows.append(row)
    return pd.DataFrame(rows)


ROLES = ("bloodmnist", "dermamnist")


def floors_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """:func:`floors` as the chapter prints it."""
    rows, found = [], floors(runs, settings)
    for each in found.itertuples():
        span = NOT_RUN if each.side == NOT_RUN else f"{each.low:.1f} to {each.high:.1f}"
        rows.append(
            {
                "Data set": each.dataset,
                "Labels": "all" if each.labels == LABELS[ALL] else "quarter",
                "Method": results.named(each.method, "scratch"),
                "Source": f"{each.figure:.2f}",
                "n": str(len(each.untrained)),
                "Untrained": percent(results.interval(each.untrained)),
                "One more run": span,
                "Source is": each.side,
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ssl-floors",
        "What pretraining adds to a frozen backbone: mean class accuracy, %, of the source's "
        "frozen networks (one run each, on the official data) beside the same networks (ResNet-18 "
        "for SimCLR and MoCo, ViT-B/32 for MAE, the causal transformer for AIM) before any "
        "training under the same head, mean over n seeds with 95% interval; where one more "
        "untrained run is expected (95%, with the luck of other test images on a rebuild), and on "
        f"which side of that the source's figure lies. {sources(settings)}.",
    )


def floors_in_words(runs: pd.DataFrame, settings: Settings) -> str:
    """How many of the source's frozen figures clear the floor."""
    found = floors(runs, settings)
    tested = found[found["side"] != NOT_RUN]
    if not len(tested):
        return "None of the untrained backbones has been run three times here yet."
    above = tested[tested["side"] == "above"]
    missed = [
        f"{results.named(each.method, 'scratch')} ({each.dataset}, {each.labels})"
        for each in tested[tested["side"] != "above"].itertuples()
    ]
    text = (
        f"Of the source's {len(tested)} frozen figures for which there is a floor here, "
        f"**{len(above)}** lie above where one more untrained network is expected"
    )
    return f"{text}; not so: {', '.join(missed)}." if missed else f"{text}."


def recalls_table(runs: pd.DataFrame, settings: Settings, role: str) -> Table:
    """Recall of every class for the supervised and the fine-tuned networks, source and ours."""
    dataset = {"bloodmnist": settings.blood, "dermamnist": settings.derma}[role]
    names = [SUPERVISED, *((m, "fine-tuned") for m in SOURCE_METHODS if m in settings.methods)]
    rows, counts = [], set()
    for labels, words in ((ALL, "all"), (QUARTER, "quarter")):
        here = results.classes(runs, dataset, labels)
        for k in range(len(data.load(dataset).classes)):
            row = {"Labels": words, "Class": str(k)}
            for method, backbone in names:
                found = results.cell(here, method, backbone)
                counts.add(len(found))
                figure = results.printed(role, labels, method, backbone, f"recall_class_{k}")
                printed = NO_FIGURE if figure is None else f"{figure:.2f}"
                ours = percent(found[f"recall_class_{k}"].mean()) if len(found) else NOT_RUN
                row[results.named(method, "scratch")] = f"{printed} / {ours}"
            rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        f"tbl-ssl-recalls-{'blood' if role == 'bloodmnist' else 'derma'}",
        "Recall of every class, %, in protocol report, supervised and fine-tuned: the source's "
        f"one run / our mean{_over(counts)}. "
        f"{provenance.data_line(dataset)}.",
    )


def _over(counts: set[int]) -> str:
    """The numbers of draws behind a table's means; nothing where no run was made."""
    made = sorted(counts - {0})
    return f" over n = {' or '.join(map(str, made))} draws" if made else ""


def probes_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """Linear probe and kNN on the frozen features of protocol report, all labels and a quarter."""
    rows = []
    for dataset in settings.datasets:
        for method in (
            *settings.methods,
            *(f"random {network}" for network in planning.floored(settings)),
        ):
            row = {"Data set": dataset, "Features": results.named(method, "scratch")}
            for labels, words in ((ALL, "all"), (QUARTER, "quarter")):
                here = results.classes(runs, dataset, labels)
                for readout in ("linear probe", "kNN"):
                    pooled = ", mean of positions" if method == "aim" else ""
                    name = f"{method}{pooled}, {readout}"
                    found = [*results.values(here, name, "frozen").values()]
                    row[f"{readout}, {words}"] = percent(results.interval(found))
            rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ssl-probes",
        "Mean class accuracy, %, of classifiers on frozen features, protocol report: a linear "
        f"probe and the five nearest neighbours. {_draws(settings.seeds)} {sources(settings)}.",
    )


def _draws(seeds: int) -> str:
    return f"Mean over up to {seeds} draws with 95% interval."


def side_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """The small comparisons, each with the interval of its paired difference."""
    full, quarter = (results.classes(runs, settings.blood, labels) for labels in (ALL, QUARTER))
    rows = []
    for heading, here, method, other in (
        *(
            (f"blur (S13), {backbone}", full, (f"{m}, blur", backbone), (m, backbone))
            for m in ("simclr", "moco")
            for backbone in ("frozen", "fine-tuned")
        ),
        ("200 epochs (S14)", full, (f"supervised, {planning.TWICE}", "scratch"), SUPERVISED),
        *(
            (f"ResNet-34 (S17), {words}", part, ("moco, resnet34", "fine-tuned"), MOCO)
            for part, words in ((full, "all labels"), (quarter, "a quarter"))
        ),
        *(
            (f"extra cells (S18), {words}", part, ("moco, extra cells", "fine-tuned"), MOCO)
            for part, words in ((full, "all labels"), (quarter, "a quarter"))
        ),
        *(
            (
                f"unbalanced pretraining (S19), {b}",
                quarter,
                (f"{m}, unbalanced images", b),
                (f"{m}, balanced images", b),
            )
            for m in ("simclr", "moco")
            for b in ("frozen", "fine-tuned")
        ),
        *(
            (
                f"batch-norm statistics move, {words}",
                part,
                (f"{m}, moving statistics", "frozen"),
                (m, "frozen"),
            )
            for m in ("simclr", "moco")
            for part, words in ((full, "all labels"), (quarter, "a quarter"))
        ),
    ):
        difference = results.paired(here, method, other)
        rows.append(
            {
                "What changes": heading,
                "Method": results.named(other[0].split(",")[0], "scratch"),
                "n": "0" if difference is None else str(difference.n),
                "Difference, points": percent(difference, sign=True),
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ssl-side",
        "Small comparisons in protocol report: paired difference of mean class accuracy, mean over "
        f"n draws with 95% interval. {provenance.data_line(settings.blood)}; the extra cells are "
        "squares cut from the BCCD data set, the first of the source's two extra sets.",
    )


MOCO = ("moco", "fine-tuned")


def new_images_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """Headline figures on all test images, and on those that show nothing of the training split."""
    rows = []
    for dataset in settings.datasets:
        for labels, words in LABELS.items():
            here = results.classes(runs, dataset, labels)
            for method, backbone in (SUPERVISED, *((m, "fine-tuned") for m in SOURCE_METHODS)):
                found = results.cell(here, method, backbone)
                row = {
                    "Data set": dataset,
                    "Labels": words,
                    "Method": results.named(method, backbone),
                }
                row["n"] = str(len(found))
                for metric, heading in ((MEAN, "All test images"), (f"{MEAN}_new", "New images")):
                    row[heading] = percent(results.interval(found[metric].dropna()))
                rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ssl-new",
        "Mean class accuracy, %, protocol report, on all test images and on those that equal no "
        "training image and, where lesions are known, show no lesion of the training split. "
        f"{_draws(settings.seeds)} {sources(settings)}.",
    )


def paired_figure(runs: pd.DataFrame, settings: Settings) -> Figure:
    """When is self-supervision worth it? Fine-tuned minus supervised, in every cell of the grid."""
    rows = []
    for dataset in settings.datasets:
        for labels in LABELS:
            here = results.classes(runs, dataset, labels)
            for method in settings.methods:
                found = results.paired(here, (method, "fine-tuned"), SUPERVISED)
                if found is not None:
                    what = f"{dataset}, {labels}: {results.named(method, 'scratch')}"
                    facts = {"mean": found.mean, "low": found.low, "high": found.high}
                    rows.append({"comparison": what, "n": found.n} | facts)
    return figures.paired_differences(pd.DataFrame(rows)) if rows else figures.empty(NOT_RUN)


def comparisons_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """The same as a table, with Holm's correction over all comparisons that were run."""
    rows, tests = [], []
    for dataset in settings.datasets:
        for labels, words in LABELS.items():
            here = results.classes(runs, dataset, labels)
            for method in settings.methods:
                found = results.paired(here, (method, "fine-tuned"), SUPERVISED)
                row = {
                    "Data set": dataset,
                    "Labels": words,
                    "Method": results.named(method, "scratch"),
                }
                row |= {"n": "0" if found is None else str(found.n)}
                row |= {"Difference, points": percent(found, sign=True), "p (Holm)": NOT_RUN}
                if found is not None:
                    tests.append((row, found))
                rows.append(row)
    adjusted = tables.corrected(found for _, found in tests)
    for (row, _), p in zip(tests, adjusted, strict=True):
        row["p (Holm)"] = tables.p_value(p)
    counted = (
        "one comparison that was" if len(tests) == 1 else f"{len(tests)} comparisons that were"
    )
    corrected = (
        f", and two-sided t test with Holm's correction over the {counted} run" if tests else ""
    )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ssl-comparisons",
        "Fine-tuned methods against the supervised ResNet-18, protocol report: paired difference "
        f"of mean class accuracy over n draws with 95% interval{corrected}. {sources(settings)}.",
    )


def tuned_curve(runs: pd.DataFrame, settings: Settings, dataset: str) -> Figure:
    """Protocol tuned: accuracy against the number of labels."""
    frame = results.curve(runs, dataset, settings)
    if not len(frame):
        return figures.empty(NOT_RUN)
    for method in settings.methods:
        # A method that was just added has no colour of its own yet.
        figures.METHODS.setdefault(method, figures.Look(method, figures.BLACK, "*"))
    return figures.accuracy_against_labels(frame, ylabel="test mean class accuracy, %")


def tuned_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """Protocol tuned with all labels, beside the best published figures."""
    rows = []
    for dataset in settings.datasets:
        here = results.classes(runs, dataset, ALL, tuned=True)
        names = [SUPERVISED]
        names += [(m, "fine-tuned") for m in settings.methods]
        names += [(f"{m}, linear probe", "frozen") for m in settings.methods]
        for method, backbone in names:
            found = results.cell(here, method, backbone)
            row = {
                "Data set": dataset,
                "Method": results.named(method, backbone),
                "n": str(len(found)),
            }
            for metric, heading in METRICS.items():
                row[heading] = percent(results.interval(found[metric].dropna()))
            rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ssl-tuned",
        "Protocol tuned with all labels, test set, %. To beat, in accuracy: on BloodMNIST 95.8 "
        "(MedMNIST's ResNet-18) and 97.8 to 98.7 (best published), on DermaMNIST 73.5 and 77.9 to "
        f"81.7. {_draws(settings.tuned_seeds)} {sources(settings)}.",
    )


METRICS = {"accuracy": "Accuracy", MEAN: "Class mean", "auc": "AUC", "calibration_error": "ECE"}


def choices_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """What was compared on validation images for protocol tuned."""
    scored = "tuned, scored on validation images"
    rows = []
    for run in dict.fromkeys(
        (run.dataset, run.cell()["method"], run.backbone)
        for draw in range(max(1, settings.choice_seeds))
        for run in planning.candidates(settings, draw)
    ):
        dataset, method, backbone = run
        found = results.cell(results.classes(runs, dataset, QUARTER, scored), method, backbone)
        row = {
            "Data set": dataset,
            "Candidate": results.named(method, backbone),
            "n": str(len(found)),
        }
        for metric in ("accuracy", MEAN):
            row[METRICS[metric]] = percent(results.interval(found[metric]))
        rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ssl-choices",
        "Candidates for protocol tuned with a quarter of the labels, scored on validation images, "
        f"%. {_draws(settings.choice_seeds)} {sources(settings)}.",
    )


def sizes_table(settings: Settings) -> Table:
    """Parameters of each method's backbone and of what only the pretext task needs."""
    whole = data.load(settings.blood)
    _, channels, _, size = whole.train.images.shape
    rows = []
    for method in settings.methods:
        start = planning.pretraining(settings, settings.blood, method, 0)
        network = start.build(size, channels, len(whole.train.labels))
        backbone, trained = (
            sum(p.numel() for p in module.parameters() if p.requires_grad) / 1e6
            for module in (network.backbone, network)
        )
        own, task = PRINTED_SIZES.get(method, (None, None))
        rows.append(
            {
                "Method": results.named(method, "scratch"),
                "Backbone, source": NO_FIGURE if own is None else str(own),
                "Backbone": f"{backbone:.1f}",
                "Pretext task, source": NO_FIGURE if task is None else str(task),
                "Pretext task": f"{trained - backbone:.1f}",
            }
        )
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ssl-sizes",
        "Millions of trained parameters in protocol report, as the source prints them and as "
        "counted in our networks. The source's figure for the backbone of MAE includes the last "
        "layer of its ImageNet classifier, 0.8 million, which is left out here.",
    )


PRINTED_SIZES = {"moco": (None, 1.6), "aim": ("about 11", 34.2), "mae": (88.2, 5.1)}
"""Section 6 of the source: millions of parameters of backbone and pretext task."""


def cost_table(runs: pd.DataFrame, settings: Settings) -> Table:
    """Seconds and memory per method: its pretraining and its fine-tuning with all labels."""
    rows = []
    here = results.classes(runs, settings.blood, ALL)
    trained = runs[(runs["kind"] == "pretraining") & (runs["protocol"] == "report")]
    trained = trained[trained["dataset"] == settings.blood]
    for method in ("supervised", *settings.methods):
        first = trained[trained["method"] == f"pretraining of {method}"]
        backbone = "scratch" if method == "supervised" else "fine-tuned"
        then = results.cell(here, method, backbone)
        counts = then["record"].iloc[0].parameters if len(then) else {}
        rows.append(
            {
                "Method": results.named(method, "scratch"),
                "Parameters": counts.get("total", np.nan),
                "Pretraining, s": NO_FIGURE
                if method == "supervised"
                else _median(first["seconds"]),
                "Classifier, s": _median(then["seconds"]),
                "Memory, MB": _larger(first["peak_memory_mb"], then["peak_memory_mb"]),
            }
        )
    frame = pd.DataFrame(rows)
    frame["Parameters"] = [NOT_RUN if pd.isna(n) else f"{n:,.0f}" for n in frame["Parameters"]]
    return tables.show(
        frame,
        "tbl-ssl-cost",
        "Size and cost of each method in protocol report with all labels: parameters while "
        "fine-tuned, median seconds of a run (several may share one card, which slows each), and "
        "the most memory held on a graphics card, in the pretraining or the fine-tuning, whichever "
        f"holds more (median over runs). {provenance.data_line(settings.blood)}.",
    )


def _larger(*found: pd.Series) -> str:
    medians = [each.median() for each in found if each.notna().any()]
    return f"{max(medians):,.0f}" if medians else NOT_RUN


def _median(values: pd.Series) -> str:
    return f"{values.median():,.0f}" if len(values) else NOT_RUN


def confusion(runs: pd.DataFrame, settings: Settings, method: str, backbone: str) -> Figure:
    """Mean confusion matrix with a quarter of the labels of the balanced data set."""
    rows = results.cell(results.classes(runs, settings.blood, QUARTER), method, backbone)
    if not len(rows):
        return figures.empty(NOT_RUN)
    names = [str(k) for k in range(len(data.load(settings.blood).classes))]
    return figures.confusion(results.confusion(rows, settings.blood), names)


def validation_curves(runs: pd.DataFrame, settings: Settings) -> Figure:
    """Validation accuracy while the classifiers are trained, all labels, as the source draws it."""
    here = results.classes(runs, settings.blood, ALL)
    panels = []
    for method in SOURCE_METHODS:
        series = {(method, b): b for b in ("frozen", "fine-tuned")} | {SUPERVISED: "supervised"}
        frame = results.learning_curves(here, series, "valid_accuracy")
        panels.append(frame.assign(panel=results.named(method, "scratch")))
    frame = pd.concat(panels)
    if not len(frame):
        return figures.empty(NOT_RUN)
    return figures.learning_curves(
        frame, ylabel="validation accuracy", xlabel="% of the training steps"
    )


def beside_the_book(runs: pd.DataFrame, settings: Settings):
    """In a rerun: the reader's means beside the book's. In the book itself nothing."""
    if settings.store == "results":
        return None
    book = Settings()
    with data.as_in_the_book():
        planned, stored = planning.plan(book), planning.store(book)
        ours = results.frame(planned, [stored.get(run) for run in planned])
    rows = []
    for dataset in settings.datasets:
        for labels, words in LABELS.items():
            yours = results.classes(runs, dataset, labels)
            theirs = results.classes(ours, dataset, labels)
            for (method, backbone), group in yours.groupby(["method", "backbone"], sort=False):
                same = results.cell(theirs, method, backbone)
                row = {
                    "Data set": dataset,
                    "Labels": words,
                    "Method": results.named(method, backbone),
                }
                row |= {"n": str(len(group)), "Your run": percent(results.interval(group[MEAN]))}
                row |= {
                    "Book's n": str(len(same)),
                    "The book": percent(results.interval(same[MEAN])),
                }
                rows.append(row)
    if not rows:
        return None
    return tables.show(
        pd.DataFrame(rows),
        "tbl-ssl-yours",
        "Your run beside the book: mean class accuracy, %, protocol report, mean with 95% "
        f"interval. Yours is measured on {sources(settings)}; settings differ as the profiles do.",
    )


def commands() -> dict[str, str]:
    """What a reader can type, by what it does."""
    full = f"fewlabels run {NAME} --profile full -p store cache"
    return {
        "A few minutes, your numbers beside ours": f"make rerun CHAPTER={NAME}",
        "Everything, on a graphics card, eight runs at once": (
            f"{full} -p minutes -1 -p workers 8"
        ),
        "The source's grid alone, one draw": (
            f"{full} -p minutes -1 -p workers 8 -p seeds 1 -p side_seeds 0 "
            "-p choice_seeds 0 -p tuned_seeds 0"
        ),
        "As much as 25 minutes allow; started again, it goes on": (
            f"{full} -p minutes 25 -p workers 8"
        ),
        "Another data set in the place of BloodMNIST": (
            f"fewlabels run {NAME} -p blood pathmnist -p store cache"
        ),
    }


def confused_classes(images: ImageData) -> str:
    """The names of classes 0, 3 and 5."""
    return ", ".join(f"{k} ({images.classes[k]})" for k in TRIO if k < len(images.classes))
