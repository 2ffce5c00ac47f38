"""Chapter 6's frame: single models, from chapter 5's records, and what they become when fused."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from fewlabels import data, evaluation, figures, fusion
from fewlabels.chapters.fusion import planning
from fewlabels.chapters.fusion.planning import Settings
from fewlabels.chapters.ssl_medmnist import results as grid
from fewlabels.chapters.ssl_medmnist.planning import SOURCE_METHODS
from fewlabels.chapters.ssl_medmnist.results import MEAN
from fewlabels.errors import UserError
from fewlabels.experiments.ssl import Classification
from fewlabels.runs import Record, Store
from fewlabels.statistics import PairedDifference, paired_difference
from fewlabels.sweep import run_all

SUPERVISED = "supervised"
RULES = {
    "product": fusion.product,
    "mean": fusion.mean,
    "vote": fusion.vote,
    "most confident": fusion.most_confident,
}
STACKING = "stacking"
CHOSEN_MEMBER = "chosen member"
CHOSEN_SUBSET = "product of the chosen subset"
CHOSEN = "chosen rule and subset"
TIMES = "\N{MULTIPLICATION SIGN}"
SLACK = 0.02
"""By how much float16 may change an accuracy: two top classes can become equal."""


def measure(settings: Settings) -> pd.DataFrame:
    """One row per model, single or fused, with its data set, share of the labels and draw.

    Columns: ``dataset``, ``labels``, ``draw``, ``method`` (a single model's name, `key` of a
    fusion, or one of the ``CHOSEN``), its metrics on the test images (fractions, 0..1),
    ``choice`` (what was chosen, from validation images alone) and the ``record`` of a single
    model. A fusion has a row for every draw in which all its members are there. Missing runs of
    chapter 5 are computed within ``minutes``.
    """
    own, planned = planning.store(settings), planning.plan(settings)
    if settings.minutes:
        compute(settings, planned, own)
    return with_fusions(grid.frame(planned, [own.get(run) for run in planned]), settings)


def compute(settings: Settings, planned: Sequence[Classification], own: Store) -> None:
    """Make the runs of chapter 5 that are missing, and the pretraining that they need."""
    run_all(
        planned,
        own,
        settings.device,
        settings.precision,
        settings.workers,
        minutes=settings.minutes if settings.minutes > 0 else math.inf,
        keep_going=True,
    )


def with_fusions(single: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The rows of `measure`, from those of the single models."""
    rows = [single.assign(choice="")]
    for (dataset, labels, draw), here in single.groupby(["dataset", "labels", "draw"], sort=False):
        records = dict(zip(here["method"], here["record"], strict=True))
        names = [method for method in settings.methods if method in records]
        if len(names) > 1:
            own = members({name: records[name] for name in names}, dataset)
            cell = {"dataset": dataset, "labels": labels, "draw": draw}
            found = _fusions(own, complete=names == settings.methods)
            rows.append(pd.DataFrame([cell | row for row in found]))
    return pd.concat(rows, ignore_index=True)


@dataclass(frozen=True)
class Members:
    """Models that were scored on the same images: probabilities [members, images, classes]."""

    names: tuple[str, ...]
    valid: np.ndarray
    test: np.ndarray
    valid_labels: np.ndarray
    test_labels: np.ndarray

    def take(self, names: Sequence[str]) -> "Members":
        place = [self.names.index(name) for name in names]
        return replace(self, names=tuple(names), valid=self.valid[place], test=self.test[place])

    def tempered(self) -> "Members":
        """Each with the temperature that is fitted to its validation images."""
        heat = [fusion.temperature(each, self.valid_labels) for each in self.valid]
        valid, test = (
            np.stack([fusion.tempered(p, t) for p, t in zip(part, heat, strict=True)])
            for part in (self.valid, self.test)
        )
        return replace(self, valid=valid, test=test)


def members(records: Mapping[str, Record], dataset: str) -> Members:
    """The probabilities that records keep, under the names given, with the labels at hand.

    UserError names a member that keeps none or was made from another data file, and one whose
    stored accuracy does not follow from them and the labels: it was scored on other images.
    """
    whole = data.load(dataset)
    truth = {"valid": whole.valid.labels.numpy(), "test": whole.test.labels.numpy()}
    first = next(iter(records))
    for name, record in records.items():
        if record.data[dataset] != records[first].data[dataset]:
            raise UserError(
                f"member {name} was made from another file of {dataset} than {first}: compute one "
                "of them again, with the same data."
            )
    valid, test = (
        fusion.gather({n: r.predictions.get(part) for n, r in records.items()}, labels)
        for part, labels in truth.items()
    )
    for p, (name, record) in zip(test, records.items(), strict=True):
        ours = (p.argmax(axis=1) == truth["test"]).mean()
        if abs(ours - record.metrics["accuracy"]) > SLACK:
            raise UserError(
                f"member {name} has an accuracy of {ours:.3f} on the labels at hand and of "
                f"{record.metrics['accuracy']:.3f} in its record, which is of another test set: "
                "compute it again."
            )
    return Members(tuple(records), valid, test, truth["valid"], truth["test"])


def key(rule: str, names: Sequence[str], tempered: bool = False) -> str:
    """What the column ``method`` calls a fusion."""
    return f"{rule} of {' x '.join(names)}{', tempered' if tempered else ''}"


def named(method: str) -> str:
    """A row's ``method`` as tables and figures call it, with every model's own name."""
    method = method.replace(" x ".join(SOURCE_METHODS), "all four")
    for name in SOURCE_METHODS:
        method = re.sub(rf"\b{name}\b", figures.look(name).label, method)
    return method.replace(" x ", f" {TIMES} ")


def _fusions(own: Members, complete: bool) -> list[dict]:
    """The rows of one data set, share of the labels and draw.

    Products of all subsets; where no member is missing (``complete``) also every rule over all of
    them, and what validation images choose among the single models, the products, and all rules
    and subsets (stacking: all members only). Of equally good ones the first of the list is taken:
    without temperatures rather than with, products before other rules, small subsets first.
    """
    subsets = fusion.subsets(own.names)
    if not complete:
        return [
            _row(key("product", names), fusion.product(own.take(names).test), own)
            for names in subsets
            if len(names) > 1
        ]
    parts = {False: own, True: own.tempered()}
    stacked = {
        warm: fusion.stacking(part.valid, own.valid_labels, part.test)
        for warm, part in parts.items()
    }

    def on_test(rule: str, names: tuple[str, ...], warm: bool) -> np.ndarray:
        return stacked[warm][0] if rule == STACKING else RULES[rule](parts[warm].take(names).test)

    def on_valid(rule: str, names: tuple[str, ...], warm: bool) -> np.ndarray:
        return stacked[warm][1] if rule == STACKING else RULES[rule](parts[warm].take(names).valid)

    products = [("product", names, False) for names in subsets]
    every = [(rule, names, warm) for warm in parts for rule in RULES for names in subsets]
    every += [(STACKING, own.names, warm) for warm in parts]
    validated = {
        each: fusion.mean_class_accuracy(on_valid(*each), own.valid_labels) for each in every
    }
    shown = [each for each in products if 1 < len(each[1]) < len(own.names)]
    shown += [(rule, own.names, warm) for warm in parts for rule in (*RULES, STACKING)]
    rows = [_row(key(*each), on_test(*each), own) for each in shown]
    for name, candidates in (
        (CHOSEN_MEMBER, products[: len(own.names)]),
        (CHOSEN_SUBSET, products),
        (CHOSEN, every),
    ):
        best = max(candidates, key=validated.get)
        # Any rule over one member is that member.
        choice = named(best[1][0] if len(best[1]) == 1 else key(*best))
        rows.append(_row(name, on_test(*best), own) | {"choice": choice})
    return rows


def _row(method: str, p: np.ndarray, own: Members) -> dict:
    right = p.argmax(axis=1) == own.test_labels
    recalls = {
        f"recall_class_{k}": float(right[own.test_labels == k].mean())
        for k in range(p.shape[1])
        if (own.test_labels == k).any()
    }
    return {
        "method": method,
        "accuracy": float(right.mean()),
        MEAN: fusion.mean_class_accuracy(p, own.test_labels),
        "calibration_error": evaluation.calibration_error(p, own.test_labels),
    } | recalls


def cell(runs: pd.DataFrame, dataset: str, labels: str) -> pd.DataFrame:
    """The rows of one data set and share of the labels."""
    return runs[(runs["dataset"] == dataset) & (runs["labels"] == labels)]


def values(here: pd.DataFrame, method: str, metric: str = MEAN) -> dict[int, float]:
    """Draw -> metric of one method in one cell."""
    return here[here["method"] == method].set_index("draw")[metric].to_dict()


def paired(
    here: pd.DataFrame, method: str, other: str, metric: str = MEAN
) -> PairedDifference | None:
    """``method`` minus ``other`` over the draws both have; None where they have none in common."""
    found = differences(here, method, other, metric)
    return paired_difference(found, dict.fromkeys(found, 0.0)) if found else None


def differences(
    here: pd.DataFrame, method: str, other: str, metric: str = MEAN
) -> dict[int, float]:
    """Draw -> ``method`` minus ``other``, for the draws both have."""
    first, second = (values(here, name, metric) for name in (method, other))
    return {draw: first[draw] - second[draw] for draw in sorted(first.keys() & second.keys())}


def seed_groups(runs: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Fused methods against fused seeds of one method, from the very same models.

    A group is K draws of all methods. From it come, all by the product and in mean class accuracy:
    ``one``, the mean of its single models; ``methods``, the mean over its draws and over all
    choices of K methods of their fusion; ``seeds``, the mean over the methods of the fusion of
    their K seeds; ``best``, the seeds of the method that is best alone on validation images; and
    ``supervised``, its seeds (nan where the group lacks them). So ``methods`` and ``seeds`` fuse
    the same models in rows and in columns, and their difference is paired within the group.

    Groups that share a draw are not independent: an interval may only rest on those marked
    ``disjoint``, (0, ..., K - 1), (K, ..., 2K - 1) and so on, and n is their number. Three draws
    give three groups of two, one of which is disjoint, and none of four.

    A draw is a draw of the labels as well: with a part of the labels, K seeds have together seen
    more of them than K methods of one draw, which makes it easier for the seeds.
    """
    rows = []
    size = len(settings.methods)
    for (dataset, labels), here in runs.dropna(subset="record").groupby(
        ["dataset", "labels"], sort=False
    ):
        by_draw = {
            draw: dict(zip(each["method"], each["record"], strict=True))
            for draw, each in here.groupby("draw")
        }
        draws = [d for d, each in by_draw.items() if set(settings.methods) <= set(each)]
        own = {
            draw: members({m: by_draw[draw][m] for m in settings.methods}, dataset)
            for draw in draws
        }
        control = {
            draw: members({SUPERVISED: by_draw[draw][SUPERVISED]}, dataset)
            for draw in draws
            if SUPERVISED in by_draw[draw]
        }
        for count in range(2, min(size, len(draws)) + 1):
            fused = {
                draw: np.mean(
                    [_product(one.test[list(c)], one) for c in combinations(range(size), count)]
                )
                for draw, one in own.items()
            }
            apart = [tuple(draws[i : i + count]) for i in range(0, len(draws), count)]
            for group in combinations(draws, count):
                rows.append(
                    {"dataset": dataset, "labels": labels, "size": count, "group": group}
                    | {"disjoint": group in apart, "methods": np.mean([fused[d] for d in group])}
                    | _seeds([own[draw] for draw in group])
                    | {"supervised": _supervised([control.get(draw) for draw in group])}
                )
    return pd.DataFrame(rows, columns=GROUP_COLUMNS)


GROUP_COLUMNS = (
    *("dataset", "labels", "size", "group", "disjoint"),
    *("one", "methods", "seeds", "best", "supervised"),
)


def _seeds(group: list[Members]) -> dict[str, float]:
    """``one``, ``seeds`` and ``best`` of a group: a draw of all methods each."""
    test, valid = (np.stack([getattr(one, part) for one in group]) for part in ("test", "valid"))
    alone, known = (
        np.array([[fusion.mean_class_accuracy(p, truth) for p in draw] for draw in part])
        for part, truth in ((test, group[0].test_labels), (valid, group[0].valid_labels))
    )
    seeds = [_product(test[:, method], group[0]) for method in range(test.shape[1])]
    best = seeds[known.mean(axis=0).argmax()]
    return {"one": float(alone.mean()), "seeds": float(np.mean(seeds)), "best": best}


def _supervised(group: list[Members | None]) -> float:
    if None in group:
        return math.nan
    return _product(np.concatenate([one.test for one in group]), group[0])


def _product(p: np.ndarray, own: Members) -> float:
    return fusion.mean_class_accuracy(fusion.product(p), own.test_labels)


def pairs(runs: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Every pair of methods of one draw, and every pair of draws of one method, fused by product.

    Columns: dataset, labels, kind (``METHODS`` or ``SEEDS``), ``members`` (mean accuracy of
    the two), ``gain`` (of the product over it), ``disagreement``, ``double_fault``; shares of the
    test images. Pairs share models and are no sample of independent ones.
    """
    rows = []
    single = runs.dropna(subset="record")
    single = single[single["method"].isin(settings.methods)]
    for kind, shared, apart in ((METHODS, "draw", "method"), (SEEDS, "method", "draw")):
        for (dataset, labels, _), here in single.groupby(["dataset", "labels", shared], sort=False):
            if len(here) < 2:
                continue
            names = here[apart].astype(str)
            own = members(dict(zip(names, here["record"], strict=True)), dataset)
            truth, predicted = own.test_labels, own.test.argmax(axis=2)
            for i, j in combinations(range(len(names)), 2):
                product = fusion.product(own.test[[i, j]]).argmax(axis=1)
                alone = (predicted[[i, j]] == truth).mean()
                rows.append(
                    {"dataset": dataset, "labels": labels, "kind": kind}
                    | {"members": alone, "gain": (product == truth).mean() - alone}
                    | {"disagreement": fusion.disagreement(predicted[i], predicted[j])}
                    | {"double_fault": fusion.double_fault(predicted[i], predicted[j], truth)}
                )
    return pd.DataFrame(rows, columns=PAIR_COLUMNS)


METHODS, SEEDS = "two methods", "two seeds of one method"
PAIR_COLUMNS = (
    *("dataset", "labels", "kind"),
    *("members", "gain", "disagreement", "double_fault"),
)
