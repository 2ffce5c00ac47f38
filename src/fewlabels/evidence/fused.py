"""Fusions of models, as further rows of the tidy frame of their runs.

Models are rows of `fewlabels.evidence.frame.frame`, one per data set, share of the labels, method
and draw, whose records keep the probabilities of validation and test images. Those of one draw have
seen the same labelled images and are fused with each other (`with_fusions`); over several draws
their fusions are compared with fusions of as many draws of one method (`seed_groups`, `pairs`).

Whatever is fitted or chosen (temperatures, a stacked regression, a rule, a subset of the methods)
uses validation images only. The frames answer the questions of `fewlabels.evidence`. They name no
chapter: what nobody has fused is empty there, not refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pandas as pd

from fewlabels import data
from fewlabels.errors import UserError
from fewlabels.evidence.frame import done
from fewlabels.learn import evaluation, fusion
from fewlabels.runs.records import Record

MEAN = "mean_class_accuracy"
METRICS = ("accuracy", MEAN, "calibration_error")
"""Of every fusion, beside the recall of every class."""
PRODUCT, STACKING = "product", "stacking"
RULES = {
    PRODUCT: fusion.product,
    "mean": fusion.mean,
    "vote": fusion.vote,
    "most confident": fusion.most_confident,
}
CHOSEN_MEMBER = "chosen member"
CHOSEN_SUBSET = "product of the chosen subset"
CHOSEN = "chosen rule and subset"
METHODS, SEEDS = "two methods", "two seeds of one method"
SLACK = 0.02
"""By how much float16 may change an accuracy: two top classes can become equal."""

Fusion = tuple[str, tuple[str, ...], bool]
"""A rule, its members, and whether each member's temperature is fitted first."""


@dataclass(frozen=True)
class Made:
    """What stands in the column ``record`` of a row that was computed from records."""

    id: str
    predictions: dict[str, np.ndarray] = field(default_factory=dict)


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


def key(rule: str, names: Sequence[str], tempered: bool = False) -> str:
    """What the column ``method`` calls a fusion: ``"product of moco x mae"``."""
    return f"{rule} of {' x '.join(names)}{', tempered' if tempered else ''}"


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


def with_fusions(models: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """The rows of ``models``, and below them one per fusion, data set, share of labels and draw.

    The fusions are the products of all subsets of the methods, every rule over all of them as they
    are and tempered, and what validation images choose among the single models, the products, and
    all rules and subsets (stacking: all methods only). Of equally good ones the first is taken:
    without temperatures rather than with, products before other rules, small subsets first.

    Columns beside those of ``models``: ``rule`` (``single`` for a model; ``chosen`` for a choice),
    ``members`` (``"moco x mae"``) and ``size``, their number, ``tempered``, and ``choice``, the
    ``method`` that was chosen. ``method`` is `key` of a fusion, or one of the ``CHOSEN``. Metrics
    are fractions of the test images; the ``record`` keeps predicted classes. Fusions of one draw
    and data set share their luck. Without one of its members a fusion has no record, like a run
    that has not been made. A member that was made from another file of the data than the one at
    hand, as the book's may be, counts as missing: the labels of its images are not at hand. So does
    every member where there is no file at all.
    """
    methods = tuple(methods)
    own = {"rule": "single", "members": models["method"], "size": 1, "tempered": False}
    rows = models.assign(**own, choice="").to_dict("records")
    for cell, here in models.groupby(["dataset", "labels", "draw"], sort=False):
        file = data.md5(cell[0]) if data.at_hand(cell[0]) else None
        made = {row.method: row.record for row in done(here).itertuples()}
        records = {m: made[m] for m in methods if m in made and made[m].data[cell[0]] == file}
        one = members(records, cell[0]) if len(records) > 1 else None
        found = _fused(one, complete=one.names == methods) if one else {}
        known = {"dataset": cell[0], "labels": cell[1], "draw": cell[2]}
        known |= {"kind": "fusion", "backbone": "fused", "overlap": None}
        known |= {"luck": f"{cell[0]}, draw {cell[2]}"}
        for method, facts in _planned(methods).items():
            row = known | {"method": method, "name": method} | facts | {"record": None}
            if method in found:
                p, choice = found[method]
                made_of = Made(f"{method}, {cell}", {"classes": p.argmax(axis=1).astype(np.uint8)})
                row |= _scores(p, one.test_labels) | {"choice": choice, "record": made_of}
            rows.append(row)
    found = pd.DataFrame(rows, columns=None if rows else [*models, *own, "choice"])
    return found.assign(**{each: np.nan for each in METRICS if each not in found})


def _planned(methods: tuple[str, ...]) -> dict[str, dict]:
    """Every fusion's ``method``, with what is known of it beforehand."""
    every = [(PRODUCT, names, False) for names in fusion.subsets(methods, 2)]
    every += [(rule, methods, warm) for warm in (False, True) for rule in (*RULES, STACKING)]
    named = {key(*each): each for each in every}
    named |= {name: ("chosen", methods, False) for name in (CHOSEN_MEMBER, CHOSEN_SUBSET, CHOSEN)}
    return {
        name: {"rule": rule, "members": " x ".join(names), "size": len(names)}
        | {"tempered": warm, "choice": ""}
        for name, (rule, names, warm) in named.items()
    }


def _fused(own: Members, complete: bool) -> dict[str, tuple[np.ndarray, str]]:
    """``method`` -> probabilities of the test images [N, K], and what was chosen.

    Products alone where a method is missing.
    """
    subsets = fusion.subsets(own.names)
    if not complete:
        products = [names for names in subsets if len(names) > 1]
        return {
            key(PRODUCT, names): (fusion.product(own.take(names).test), "") for names in products
        }
    parts = {False: own, True: own.tempered()}
    stacked = {
        warm: fusion.stacking(part.valid, own.valid_labels, part.test)
        for warm, part in parts.items()
    }

    def on_test(rule: str, names: tuple[str, ...], warm: bool) -> np.ndarray:
        return stacked[warm][0] if rule == STACKING else RULES[rule](parts[warm].take(names).test)

    def on_valid(rule: str, names: tuple[str, ...], warm: bool) -> np.ndarray:
        return stacked[warm][1] if rule == STACKING else RULES[rule](parts[warm].take(names).valid)

    products: list[Fusion] = [(PRODUCT, names, False) for names in subsets]
    every = [(rule, names, warm) for warm in parts for rule in RULES for names in subsets]
    every += [(STACKING, own.names, warm) for warm in parts]
    validated = {
        each: fusion.mean_class_accuracy(on_valid(*each), own.valid_labels) for each in every
    }
    shown = [each for each in products if len(each[1]) > 1]
    shown += [(rule, own.names, warm) for warm in parts for rule in (*RULES, STACKING)]
    found = {key(*each): (on_test(*each), "") for each in shown}
    for name, candidates in (
        (CHOSEN_MEMBER, products[: len(own.names)]),
        (CHOSEN_SUBSET, products),
        (CHOSEN, every),
    ):
        best = max(candidates, key=validated.get)
        # Any rule over one member is that member.
        choice = best[1][0] if len(best[1]) == 1 else key(*best)
        found[name] = (on_test(*best), choice)
    return found


def _scores(p: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    right = p.argmax(axis=1) == truth
    recalls = {
        f"recall_class_{k}": float(right[truth == k].mean())
        for k in range(p.shape[1])
        if (truth == k).any()
    }
    return {
        "accuracy": float(right.mean()),
        MEAN: fusion.mean_class_accuracy(p, truth),
        "calibration_error": evaluation.calibration_error(p, truth),
    } | recalls


def seed_groups(models: pd.DataFrame, methods: Sequence[str], control: str) -> pd.DataFrame:
    """Fused methods against fused seeds of one method, from the very same models.

    A group is ``size`` = K draws of all methods (``group``, the draws). From it come, all by the
    product and in mean class accuracy: ``one``, the mean of its single models; ``methods``, the
    mean over its draws and over all choices of K methods of their fusion; ``seeds``, the mean over
    the methods of the fusion of their K seeds; ``best``, the seeds of the method that is best alone
    on validation images; and ``control``, the seeds of the method ``control`` (nan where the group
    lacks them). So ``methods`` and ``seeds`` fuse the same models in rows and in columns, and their
    difference, ``gain``, is paired within the group.

    Groups that share a draw are not independent: an interval may only rest on those marked
    ``disjoint``, (0, ..., K - 1), (K, ..., 2K - 1) and so on, and n is their number. Three draws
    give three groups of two, one of which is disjoint, and none of four.

    A draw is a draw of the labels as well: with a part of the labels, K seeds have together seen
    more of them than K methods of one draw, which makes it easier for the seeds.
    """
    methods, rows = tuple(methods), []
    for (dataset, labels), here in _cells(models):
        by_draw = {
            draw: each.set_index("method")["record"].to_dict()
            for draw, each in here.groupby("draw")
        }
        draws = [draw for draw, records in by_draw.items() if {*methods} <= {*records}]
        own = {draw: members({m: by_draw[draw][m] for m in methods}, dataset) for draw in draws}
        beside = {
            draw: members({control: by_draw[draw][control]}, dataset).test[0]
            for draw in draws
            if control in by_draw[draw]
        }
        for size in range(2, min(len(methods), len(draws)) + 1):
            fused = {draw: _of_methods(one, size) for draw, one in own.items()}
            apart = [tuple(draws[i : i + size]) for i in range(0, len(draws), size)]
            for group in combinations(draws, size):
                cell = {"dataset": dataset, "labels": labels, "draw": group[0], "size": size}
                cell |= {"group": group, "disjoint": group in apart}
                scores = {"methods": np.mean([fused[draw] for draw in group]), "control": np.nan}
                scores |= _of_seeds([own[draw] for draw in group])
                if beside.keys() >= {*group}:
                    together = np.stack([beside[draw] for draw in group])
                    scores["control"] = _product(together, own[group[0]])
                rows.append(cell | scores | {"gain": scores["methods"] - scores["seeds"]})
    columns = ("dataset", "labels", "draw", "size", "group", "disjoint")
    return _made("group", rows, (*columns, "one", "methods", "seeds", "best", "control", "gain"))


def _of_methods(own: Members, size: int) -> float:
    """Mean over all choices of so many members of their product's mean class accuracy."""
    chosen = combinations(range(len(own.names)), size)
    return float(np.mean([_product(own.test[list(each)], own) for each in chosen]))


def _of_seeds(group: list[Members]) -> dict[str, float]:
    """``one``, ``seeds`` and ``best`` of a group: a draw of all methods each."""
    test, valid = (np.stack([getattr(one, part) for one in group]) for part in ("test", "valid"))
    alone, known = (
        np.array([[fusion.mean_class_accuracy(p, truth) for p in draw] for draw in part])
        for part, truth in ((test, group[0].test_labels), (valid, group[0].valid_labels))
    )
    seeds = [_product(test[:, method], group[0]) for method in range(test.shape[1])]
    best = seeds[known.mean(axis=0).argmax()]
    return {"one": float(alone.mean()), "seeds": float(np.mean(seeds)), "best": best}


def _product(p: np.ndarray, own: Members) -> float:
    return fusion.mean_class_accuracy(fusion.product(p), own.test_labels)


def pairs(models: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Every pair of methods of one draw, and every pair of draws of one method, fused by product.

    Columns: dataset, labels, ``of`` (``METHODS`` or ``SEEDS``), ``alone`` (mean accuracy of the
    two), ``gain`` (of the product over it), ``disagreement``, ``double_fault``; fractions of the
    test images. Pairs share models and are no sample of independent ones.
    """
    rows = []
    single = models[models["method"].isin([*methods])]
    for of, shared, apart in ((METHODS, "draw", "method"), (SEEDS, "method", "draw")):
        for (dataset, labels, _), here in _cells(single, shared):
            if len(here) < 2:
                continue
            names = here[apart].astype(str)
            own = members(dict(zip(names, here["record"], strict=True)), dataset)
            truth, predicted = own.test_labels, own.test.argmax(axis=2)
            for i, j in combinations(range(len(names)), 2):
                product = fusion.product(own.test[[i, j]]).argmax(axis=1)
                alone = (predicted[[i, j]] == truth).mean()
                rows.append(
                    {"dataset": dataset, "labels": labels, "of": of, "alone": alone}
                    | {"gain": (product == truth).mean() - alone}
                    | {"disagreement": fusion.disagreement(predicted[i], predicted[j])}
                    | {"double_fault": fusion.double_fault(predicted[i], predicted[j], truth)}
                )
    columns = ("dataset", "labels", "of", "alone", "gain", "disagreement", "double_fault")
    return _made("pair", rows, columns)


def _cells(models: pd.DataFrame, *more: str) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """The models that have been made by data set, share of the labels and ``more``."""
    yield from done(models).groupby(["dataset", "labels", *more], sort=False)


def _made(what: str, rows: list[dict], columns: Sequence[str]) -> pd.DataFrame:
    """A frame of these columns whose rows are all there, and share no luck that has a name."""
    made = [Made(f"{what} {place}") for place in range(len(rows))]
    found = pd.DataFrame(rows, columns=[*columns])
    return found.assign(name=what, luck=None, overlap=None, record=made)
