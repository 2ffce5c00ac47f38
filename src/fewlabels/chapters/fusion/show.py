"""Chapter 6's tables and figures, as the notebook calls them. Cells without runs say so."""

from collections import Counter
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fewlabels import data, figures, fusion, provenance, tables
from fewlabels.chapters.fusion import results
from fewlabels.chapters.fusion.claims import ALL_FOUR, FUSIONS
from fewlabels.chapters.fusion.planning import NAME, Settings
from fewlabels.chapters.fusion.results import (
    CHOSEN,
    CHOSEN_MEMBER,
    CHOSEN_SUBSET,
    METHODS,
    RULES,
    SEEDS,
    STACKING,
    SUPERVISED,
    key,
    named,
)
from fewlabels.chapters.ssl_medmnist.planning import SOURCE_EPOCHS
from fewlabels.chapters.ssl_medmnist.results import ALL, MEAN, QUARTER, interval, one_more, printed
from fewlabels.chapters.ssl_medmnist.show import LABELS, sources
from fewlabels.statistics import FEWEST, PairedDifference, mean_difference
from fewlabels.tables import NO_FIGURE, NOT_RUN, Table, percent

SHARES = {ALL: "all", QUARTER: "quarter"}


def cells(settings: Settings) -> Iterator[tuple[str, str]]:
    """Data sets and shares of the labels, in the order of the tables."""
    for dataset in settings.datasets:
        for labels in SHARES:
            yield dataset, labels


def summary(runs: pd.DataFrame, rows: list[dict], groups: pd.DataFrame, settings: Settings) -> str:
    """The chapter in one paragraph, every figure from the runs."""
    lines = []
    whole = key("product", settings.methods)
    for dataset, labels in cells(settings):
        here = results.cell(runs, dataset, labels)
        reached = interval([*results.values(here, whole).values()])
        over = results.paired(here, whole, CHOSEN_MEMBER)
        if over is not None:
            lines.append(
                f"On {dataset} with {LABELS[labels]} the product of {len(settings.methods)} "
                f"methods reaches {percent(reached)}% mean class accuracy, "
                f"**{percent(over, sign=True)}** points from the single method that validation "
                f"images choose (n = {over.n})."
            )
    for dataset in settings.datasets:
        here = groups[(groups["dataset"] == dataset) & (groups["labels"] == ALL)]
        if len(here):
            size = here["size"].max()
            gap = _gap(here[here["size"] == size])
            lines.append(
                f"Fusing {size} methods instead of {size} seeds of one changes the mean class "
                f"accuracy on {dataset} with all labels by {_of_groups(gap)}."
            )
    if not lines:
        lines.append(
            "The runs of chapter 5 that this chapter fuses have not been made yet: its tables say "
            f"`{NOT_RUN}` and its verdicts `not tested`."
        )
    words = [row["verdict"].word for row in rows]
    counted = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(sorted(words)))
    lines.append(f"Of the source's {len(words)} claims: {counted}.")
    return "::: {.callout-important}\n## In short\n\n" + " ".join(lines) + "\n:::"


# The source's fusions


def report_table(runs: pd.DataFrame, settings: Settings, role: str) -> Table:
    """Single models and the source's three fusions on one data set, source beside ours."""
    dataset = _dataset(settings, role)
    models = {SUPERVISED: (SUPERVISED, "scratch")}
    models |= {method: (method, "fine-tuned") for method in settings.methods}
    models |= {name: (printed_as, "fine-tuned") for printed_as, name in FUSIONS.items()}
    rows = []
    for labels, share in SHARES.items():
        here = results.cell(runs, dataset, labels)
        for method, name in models.items():
            found = here[here["method"] == method]
            row = {"Labels": share, "Model": _members(method), "n": str(len(found))}
            for metric, heading in (("accuracy", "Accuracy"), (MEAN, "Class mean")):
                figure = printed(role, labels, *name, metric)
                row[f"{heading}, source"] = NO_FIGURE if figure is None else f"{figure:.2f}"
                row[heading] = percent(interval(found[metric]))
            rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        f"tbl-fusion-{_short(role)}",
        f"Protocol report on {provenance.data_line(dataset)}: test accuracy and mean class "
        "accuracy, %, the source's one run beside our mean over n draws with its 95% interval. "
        f"Products of the probabilities of fine-tuned networks.{_epochs(settings)}",
    )


def _dataset(settings: Settings, role: str) -> str:
    return {"bloodmnist": settings.blood, "dermamnist": settings.derma}[role]


def _members(product: str) -> str:
    return named(product).removeprefix("product of ")


def _short(role: str) -> str:
    return role.removesuffix("mnist")


def _epochs(settings: Settings) -> str:
    if settings.epochs == SOURCE_EPOCHS:
        return ""
    return f" {settings.epochs} epochs, where the source has {SOURCE_EPOCHS}."


def printed_figure(runs: pd.DataFrame, settings: Settings) -> Figure:
    """The source's printed mean class accuracies of its fusions, and where ours would lie."""
    rows = []
    for role in ("bloodmnist", "dermamnist"):
        for labels, share in SHARES.items():
            here = results.cell(runs, _dataset(settings, role), labels)
            for name, method in FUSIONS.items():
                figure = printed(role, labels, name, "fine-tuned")
                found = one_more([*results.values(here, method).values()])
                if found is not None and figure is not None:
                    what = f"{role}, {share}: {_members(method)}"
                    ours = {"mean": found.mean, "low": found.low, "high": found.high}
                    rows.append({"quantity": what, "published": figure / 100, "n": found.n} | ours)
    return figures.published_against_ours(pd.DataFrame(rows)) if rows else figures.empty(NOT_RUN)


def recalls_table(runs: pd.DataFrame, settings: Settings, role: str) -> Table:
    """Recall of every class for the product of all four, source and ours."""
    dataset = _dataset(settings, role)
    rows = []
    for k, name in enumerate(data.load(dataset).classes):
        row = {"Class": f"{k}: {name}"}
        for labels, share in SHARES.items():
            found = results.cell(runs, dataset, labels)
            found = found[found["method"] == ALL_FOUR]
            figure = printed(role, labels, "fusion-all", "fine-tuned", f"recall_class_{k}")
            row[f"{share.capitalize()}, source"] = NO_FIGURE if figure is None else f"{figure:.2f}"
            recalls = found.get(f"recall_class_{k}", pd.Series(dtype=float)).dropna()
            row[share.capitalize()] = percent(interval(recalls))
        rows.append(row)
    return tables.show(
        pd.DataFrame(rows),
        f"tbl-fusion-recalls-{_short(role)}",
        "Recall of every class, %, for the product of all four methods with all labels and with a "
        "quarter: the source's one run, and our mean with its 95% interval. "
        f"{_n(runs, dataset, ALL_FOUR)}{provenance.data_line(dataset)}.",
    )


def _n(runs: pd.DataFrame, dataset: str, method: str) -> str:
    counts = {len(results.values(results.cell(runs, dataset, labels), method)) for labels in SHARES}
    made = sorted(counts - {0})
    return f"n = {' or '.join(map(str, made))} draws. " if made else ""


# Rules


def rules_table(runs: pd.DataFrame, settings: Settings, role: str) -> Table:
    """Every rule over all methods, with and without temperatures, against the product."""
    dataset = _dataset(settings, role)
    base = key("product", settings.methods)
    rows, tests = [], []
    for labels, share in SHARES.items():
        here = results.cell(runs, dataset, labels)
        for warm in (False, True):
            for rule in (*RULES, STACKING):
                method = key(rule, settings.methods, warm)
                found = here[here["method"] == method]
                row = {"Labels": share, "Rule": f"{rule}{', tempered' if warm else ''}"}
                row |= {"n": str(len(found))}
                row |= {"Accuracy": percent(_mean(found["accuracy"]))}
                row |= {"Class mean": percent(interval(found[MEAN]))}
                row |= {"ECE": percent(_mean(found["calibration_error"]))}
                difference = None if method == base else results.paired(here, method, base)
                row |= _tested(difference, tests, len(rows))
                if method == base:
                    row |= {"Difference": NO_FIGURE, "p (Holm)": NO_FIGURE}
                rows.append(row)
    _correct(rows, tests)
    return tables.show(
        pd.DataFrame(rows),
        f"tbl-fusion-rules-{_short(role)}",
        f"Rules over {_listed(settings)} on test images, %: mean over n draws, of the class mean "
        "with its 95% interval; ECE is the expected calibration error. Difference: class mean "
        f"less that of the product, points, with its interval{_corrected(tests)}. A "
        "description: nothing is chosen by it. "
        f"{provenance.data_line(dataset)}.",
    )


def _mean(found: pd.Series) -> float | None:
    return float(found.mean()) if len(found) else None


def _tested(difference: PairedDifference | None, tests: list, place: int) -> dict[str, str]:
    """Cells of a comparison; its p value is written by `_correct`, once all are known."""
    if difference is not None:
        tests.append((place, difference))
    return {"Difference": percent(difference, sign=True), "p (Holm)": NOT_RUN}


def _correct(rows: list[dict], tests: list[tuple[int, PairedDifference]]) -> None:
    adjusted = tables.corrected(difference for _, difference in tests)
    for (place, _), p in zip(tests, adjusted, strict=True):
        rows[place]["p (Holm)"] = tables.p_value(p)


def _corrected(tests: list[tuple[int, PairedDifference]]) -> str:
    """The tests as a caption names them; nothing where there are none."""
    if not tests:
        return ""
    counted = "one comparison" if len(tests) == 1 else f"{len(tests)} comparisons"
    return f", and the t test with Holm's correction over {counted}"


def _listed(settings: Settings) -> str:
    return ", ".join(figures.look(method).label for method in settings.methods)


def chosen_table(runs: pd.DataFrame, settings: Settings, role: str) -> Table:
    """What validation images choose on one data set, and what it is worth on test images."""
    dataset = _dataset(settings, role)
    base = key("product", settings.methods)
    rows, tests = [], []
    for labels, share in SHARES.items():
        here = results.cell(runs, dataset, labels)
        for method, words in {
            CHOSEN_MEMBER: "single methods",
            base: "none: product of all",
            CHOSEN_SUBSET: "products of subsets",
            CHOSEN: "all rules and subsets",
        }.items():
            found = here[here["method"] == method]
            row = {"Labels": share, "Candidates": words}
            row |= {"Chosen (draws)": NO_FIGURE if method == base else _choices(found)}
            row |= {"n": str(len(found)), "Class mean": percent(interval(found[MEAN]))}
            if method == CHOSEN_MEMBER:
                row |= {"Difference": NO_FIGURE, "p (Holm)": NO_FIGURE}
            else:
                row |= _tested(results.paired(here, method, CHOSEN_MEMBER), tests, len(rows))
            rows.append(row)
    _correct(rows, tests)
    return tables.show(
        pd.DataFrame(rows),
        f"tbl-fusion-chosen-{_short(role)}",
        "Chosen on validation images, by mean class accuracy and in every draw anew, and scored "
        "once on test images: one method, a subset to multiply, or rule, subset and temperatures "
        "together. Mean class accuracy, %, over n draws with its 95% interval; difference to the "
        f"chosen single method, points{_corrected(tests)}. {provenance.data_line(dataset)}.",
    )


def _choices(found: pd.DataFrame) -> str:
    if not len(found):
        return NOT_RUN
    choices = Counter(map(_members, found["choice"]))
    return "; ".join(f"{what} ({n})" for what, n in choices.most_common())


def differences_figure(runs: pd.DataFrame, settings: Settings) -> Figure:
    """The comparisons that count, in every cell of the grid."""
    whole = key("product", settings.methods)
    rows = []
    for dataset, labels in cells(settings):
        here = results.cell(runs, dataset, labels)
        for method, other, words in (
            (whole, SUPERVISED, "product of all less supervised"),
            (whole, CHOSEN_MEMBER, "product of all less the chosen method"),
            (CHOSEN, whole, "chosen rule and subset less product of all"),
        ):
            found = results.paired(here, method, other)
            if found is not None:
                what = f"{dataset}, {SHARES[labels]}: {words}"
                facts = {"mean": found.mean, "low": found.low, "high": found.high}
                rows.append({"comparison": what, "n": found.n} | facts)
    return figures.paired_differences(pd.DataFrame(rows)) if rows else figures.empty(NOT_RUN)


# Seeds of one method


def seeds_table(groups: pd.DataFrame, settings: Settings) -> Table:
    """Fused methods against as many fused seeds of one method, over disjoint groups of runs."""
    rows = []
    for dataset, labels in cells(settings):
        for size in range(2, len(settings.methods) + 1):
            here = groups[(groups["dataset"] == dataset) & (groups["labels"] == labels)]
            here = here[(here["size"] == size) & here["disjoint"].astype(bool)]
            row = {"Data set": f"{dataset}, {SHARES[labels]}", "K": str(size), "n": str(len(here))}
            row |= {words: percent(_mean(here[column])) for column, words in GROUPED.items()}
            rows.append(row | {"Difference": percent(_alone(_gap(here)), sign=True)})
    return tables.show(
        pd.DataFrame(rows),
        "tbl-fusion-seeds",
        "Mean class accuracy, %, of one model, of K methods of one draw and of K seeds (draws) of "
        "one method, multiplied; all from the very same models, over n groups of K draws of which "
        "no two share a draw. Best: the seeds of the method that is best alone on validation "
        "images. Difference: methods less seeds, points, with its 95% interval where there are "
        f"three groups or more. There are {settings.seeds} draws, and no group can have more. With "
        "a quarter of the labels, K seeds have seen K draws of them and K methods one. "
        f"{sources(settings)}.",
    )


GROUPED = {
    "one": "One",
    "methods": "Methods",
    "seeds": "Seeds",
    "best": "Best",
}


def _gap(groups: pd.DataFrame) -> PairedDifference | None:
    """Methods less seeds, over the disjoint groups; None without any."""
    here = groups[groups["disjoint"].astype(bool)]
    return mean_difference(here["methods"] - here["seeds"]) if len(here) else None


def _alone(gap: PairedDifference | None) -> PairedDifference | float | None:
    """Without the note that a table adds where there are one or two runs: a group is several."""
    return gap.mean if gap is not None and gap.n < FEWEST else gap


def _of_groups(gap: PairedDifference) -> str:
    groups = "one group" if gap.n == 1 else f"n = {gap.n} groups"
    groups += " of draws" if gap.n >= FEWEST else " of draws: no interval"
    return f"**{percent(_alone(gap), sign=True)}** points ({groups})"


def growth_figure(runs: pd.DataFrame, groups: pd.DataFrame, settings: Settings) -> Figure:
    """Mean class accuracy against the number of fused models: methods, and seeds of one."""
    if not len(groups):
        return figures.empty(NOT_RUN)
    fig, panels = _panels(settings)
    for (dataset, labels), ax in panels.items():
        here = results.cell(runs, dataset, labels)
        apart = groups[(groups["dataset"] == dataset) & (groups["labels"] == labels)]
        points = pd.DataFrame(
            {"size": len(names), "value": np.mean([*found.values()])}
            for names in fusion.subsets(settings.methods)
            if (
                found := results.values(
                    here, names[0] if len(names) == 1 else key("product", names)
                )
            )
        )
        ax.plot(points["size"], 100 * points["value"], "*", color=figures.FAINT, ms=4)
        lines = {"methods": points.groupby("size")["value"].mean()}
        lines["seeds"] = apart.groupby("size")["seeds"].mean()
        lines["supervised"] = apart.dropna().groupby("size")["supervised"].mean()
        lines["seeds"].loc[1] = lines["methods"].loc[1]
        if alone := results.values(here, SUPERVISED):
            lines["supervised"].loc[1] = np.mean([*alone.values()])
        for name, line in lines.items():
            label, colour, marker = GROWTH[name]
            line = 100 * line.sort_index()
            ax.plot(line.index, line, color=colour, marker=marker, label=label)
        ax.set_xticks(range(1, len(settings.methods) + 1))
    return _labelled(fig, panels, "models in the product", "mean class accuracy, %")


GROWTH = {
    "methods": figures.METHODS["fusion"]._replace(label="K methods, one draw"),
    "seeds": figures.Look("K seeds of one method", figures.VERMILLION, "s"),
    "supervised": figures.Look("K seeds, supervised", figures.BLUE, "o"),
}


def _panels(settings: Settings) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """An axes for every data set (row) and share of the labels (column)."""
    count = len(settings.datasets)
    fig, axes = plt.subplots(
        count, 2, figsize=(figures.WIDTH, 0.6 + 2.2 * count), squeeze=False, sharex=True
    )
    return fig, dict(zip(cells(settings), axes.flat, strict=True))


def _labelled(fig: Figure, panels: dict, xlabel: str, ylabel: str) -> Figure:
    for (dataset, labels), ax in panels.items():
        ax.set_title(f"{dataset}, {LABELS[labels]}")
    fig.supxlabel(xlabel, fontsize=9)
    fig.supylabel(ylabel, fontsize=9)
    entries = {}
    for ax in panels.values():
        handles, names = ax.get_legend_handles_labels()
        entries |= dict(zip(names, handles, strict=True))
    fig.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=len(entries))
    plt.close(fig)
    return fig


# Diversity


def diversity_table(pairs: pd.DataFrame, settings: Settings) -> Table:
    """How pairs of methods differ from pairs of seeds, and what fusing gains each."""
    rows = []
    for dataset, labels in cells(settings):
        for kind in (METHODS, SEEDS):
            here = pairs[(pairs["dataset"] == dataset) & (pairs["labels"] == labels)]
            here = here[here["kind"] == kind]
            row = {"Data set": f"{dataset}, {SHARES[labels]}", "Pairs of": kind}
            row |= {"Pairs": str(len(here))}
            row |= {words: percent(_mean(here[column])) for column, words in PAIRED.items()}
            rows.append(row | {"Gain": percent(_mean(here["gain"]), sign=True)})
    return tables.show(
        pd.DataFrame(rows),
        "tbl-fusion-diversity",
        "Means over all pairs, on test images, %: accuracy of the two members; images on which "
        "they disagree; images that both get wrong, which no choice between the two can mend; and "
        "the product's gain in accuracy over the members' mean, points. Pairs share models: "
        f"no intervals. {sources(settings)}.",
    )


PAIRED = {
    "members": "Members",
    "disagreement": "Disagreement",
    "double_fault": "Both wrong",
}


def diversity_figure(pairs: pd.DataFrame, settings: Settings) -> Figure:
    """Gain of the product of two models against their disagreement."""
    if not len(pairs):
        return figures.empty(NOT_RUN)
    fig, panels = _panels(settings)
    looks = {METHODS: GROWTH["methods"], SEEDS: GROWTH["seeds"]}
    for (dataset, labels), ax in panels.items():
        ax.axhline(0, color=figures.INK, lw=0.8)
        for kind, (_, colour, marker) in looks.items():
            here = pairs[(pairs["dataset"] == dataset) & (pairs["labels"] == labels)]
            here = here[here["kind"] == kind]
            ax.plot(
                100 * here["disagreement"],
                100 * here["gain"],
                marker,
                color=colour,
                mfc="none" if kind == SEEDS else colour,
                ls="",
                label=kind,
            )
    return _labelled(
        fig,
        panels,
        "test images on which the two disagree, %",
        "gain of the product over their mean accuracy, points",
    )


def beside_the_book(runs: pd.DataFrame, settings: Settings):
    """In a rerun: the reader's products beside the book's. In the book itself nothing."""
    if settings.store == "results":
        return None
    rows = []
    for dataset in (d for d in settings.datasets if d in Settings().datasets):
        with data.as_in_the_book():
            book_md5 = data.md5(dataset)
        if data.md5(dataset) != book_md5:
            # The book's probabilities can only be fused and scored with the labels of its files.
            continue
        book = results.measure(Settings(dataset, dataset, methods=settings.methods))
        for labels, words in LABELS.items():
            yours, theirs = (results.cell(each, dataset, labels) for each in (runs, book))
            for method in (SUPERVISED, *settings.methods, key("product", settings.methods)):
                own, other = ([*results.values(each, method).values()] for each in (yours, theirs))
                row = {"Data set": dataset, "Labels": words, "Model": named(method)}
                row |= {"n": str(len(own)), "Your run": percent(interval(own))}
                row |= {"Book's n": str(len(other)), "The book": percent(interval(other))}
                rows.append(row)
    if not rows:
        return None
    return tables.show(
        pd.DataFrame(rows),
        "tbl-fusion-yours",
        "Your run beside the book: mean class accuracy, %, mean with 95% interval. Settings "
        f"differ as the profiles do. {sources(settings)}.",
    )


def commands() -> dict[str, str]:
    """What a reader can type, by what it does."""
    return {
        "A few minutes, your numbers beside ours": f"make rerun CHAPTER={NAME}",
        "From the book's records, in seconds": f"fewlabels run {NAME} --profile full",
        "Two methods only": f"fewlabels run {NAME} --profile full -p methods '[aim, mae]'",
        "With chapter 5's runs made anew, on a graphics card": (
            f"fewlabels run {NAME} --profile full -p store cache -p minutes -1 -p workers 8"
        ),
    }
