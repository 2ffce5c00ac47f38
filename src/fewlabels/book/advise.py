"""`fewlabels advise`: one page on a reader's own images, made of runs of seconds.

Stopped and started again it goes on with what is missing; the page is written anew while it runs.
"""

import base64
import html
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from fewlabels import config, data, files, paths
from fewlabels.data import ImageData, own
from fewlabels.errors import UserError
from fewlabels.evidence import figures
from fewlabels.evidence.advice import LOOKS, Sentence, advice, best, curve, mean
from fewlabels.evidence.statistics import Interval
from fewlabels.evidence.tables import percent
from fewlabels.kinds.advice import OwnClassifier, OwnPretraining
from fewlabels.learn.training import Recipe
from fewlabels.nets.pretrained import TORCHVISION, Pretrained, at_hand
from fewlabels.runs.records import Experiment, Record, Store
from fewlabels.runs.sweep import run_all

SHARES = (0.1, 0.25, 0.5, 1.0)
"""Of the training labels; those that leave a class fewer than `FEWEST` are left out."""
FEWEST = 2
DRAWS = ((0, 1, 2), (3, 4))
"""Label draws: all methods with the first ones come before any with the others."""
STEPS, BATCH = 300, 64
"""Of a classifier."""
PAIR_STEPS, PAIR_BATCH = 256, 256
"""Of SimCLR's pretraining."""
FIXMATCH_STEPS = 150
REFRESHED = 5
"""Seconds between two versions of the page."""
ASIDE = 0.5
"""Share of the labels from which on FixMatch has too few images without a label."""


@dataclass(frozen=True)
class Advice:
    """What was found."""

    images: ImageData
    curve: pd.DataFrame
    """A row per method and share of the labels: method, name, share, labels, mean, low, high (mean
    class accuracy, fractions), n (draws)."""
    sentences: list[Sentence]
    notes: list[str]
    done: int
    planned: int

    def __str__(self) -> str:
        return "\n".join(f"- {each.text}" for each in self.sentences)


def plan(dataset: str, symmetry: str = "mirror", weights: str | None = None) -> list[Experiment]:
    """Every run of a page, in the order in which they are made.

    Args:
        weights: of a ResNet-18 trained on ImageNet; None leaves its features out.
    """
    labels = data.load(dataset).train.labels
    smallest = int(labels.bincount().min())
    shares = [s for s in SHARES if s == 1 or round(s * smallest) >= FEWEST]

    def sgd(steps: int, batch: int, rate: float) -> Recipe:
        batch = min(batch, len(labels))
        return Recipe(steps, batch, rate, "sgd", 5e-4, "cosine", evaluations=1)

    start = OwnPretraining(dataset, 0, sgd(PAIR_STEPS, PAIR_BATCH, 0.1), symmetry)
    supervised, semi = sgd(STEPS, BATCH, 0.05), sgd(FIXMATCH_STEPS, 96, 0.05)
    settings = {
        "untrained": {},
        "imagenet": {"weights": weights or ""},
        "scratch": {"training": supervised},
        "simclr": {"pretraining": start},
        "simclr fine-tuned": {"pretraining": start, "training": supervised},
        "fixmatch": {"training": semi},
    }
    if weights is None:
        del settings["imagenet"]
    runs: list[Experiment] = []
    for draws in DRAWS:
        for method, own_settings in settings.items():
            if method == "simclr":
                runs.append(start)
            asked = shares
            if method == "fixmatch":
                asked = [share for share in shares[:1] if share < ASIDE]
            runs += [
                OwnClassifier(dataset, method, share, draw, symmetry=symmetry, **own_settings)
                for draw in draws
                for share in asked
            ]
    return list(dict.fromkeys(runs))


def imagenet_weights() -> str | None:
    """Weights of a ResNet-18 trained on ImageNet that are on this machine; none is downloaded."""
    name = at_hand("resnet18")
    if name == TORCHVISION:
        place = paths.cache() / "weights" / "torchvision" / Pretrained("resnet18").checksum
        return name if place.exists() else None
    return name


def advise(
    images: str | Path | np.ndarray | Tensor,
    labels: np.ndarray | None = None,
    *,
    minutes: float = 10.0,
    symmetry: str = "mirror",
    page: str | Path | None = None,
    progress: Callable[[int, int, Record], None] | None = None,
) -> Advice:
    """What a reader's own images give with few labels, in about ``minutes``.

    Args:
        images: the path of an .npz file or a folder (see `fewlabels.data.own`), or uint8 arrays
            [N, H, W] or [N, H, W, 3] with values 0..255, or a tensor [N, C, H, W].
        labels: int [N], 0..classes-1, with arrays; a fifth of them is set aside for testing.
        minutes: no run is started later than this; 0 shows what has been made.
        symmetry: what leaves an image's meaning as it is: ``none``, ``mirror``, or ``any``.
        page: where to write a page, an ``.html`` file, again and again while runs finish.
        progress: called after each run with how many are done, how many there are, and its record.

    Returns:
        ``curve``, a table with a row per method and share of the labels (mean class accuracy with
        its interval, fractions); ``sentences``, the advice; ``done`` of ``planned`` runs.

    Raises:
        UserError: images that cannot be read, see `fewlabels.data.own.load`; labels beside a path,
            or none with arrays; ``minutes`` below zero, or an unknown symmetry; ``page`` is no
            .html, or lies where nothing can be written.
    """
    if minutes != math.inf:
        config.positive("minutes", minutes, or_zero=True)
    if page is not None:
        page = paths.at_home(page)
        if page.suffix != ".html":
            raise UserError(f"{page} is no name of a page: end it in .html.")
        files.folder(page.parent)  # Refused before the runs, not after the first of them.
    if isinstance(images, str | Path):
        if labels is not None:
            raise UserError("labels go with arrays only: a file or a folder holds its own.")
        dataset = str(images)
        if dataset not in data.DATASETS and own.is_path(dataset):
            dataset = own.absolute(dataset)
    elif labels is None:
        raise UserError("labels are missing: pass one for each image, 0, 1, 2 and so on.")
    else:
        dataset = own.kept(images, labels)
    if getattr(data.load(dataset), "valid", None) is None:
        raise UserError(f"{dataset} has no validation images: choose a MedMNIST set or your own.")
    runs = plan(dataset, symmetry, imagenet_weights())
    store = Store(paths.cache() / "runs" / "advise")
    asked = f"fewlabels.advise({dataset!r}, minutes=0, symmetry={symmetry!r})"
    written = 0.0

    def after(done: int, total: int, record: Record) -> None:
        nonlocal written
        if progress is not None:
            progress(done, total, record)
        if page is not None and time.monotonic() - written > REFRESHED:
            write(report(dataset, runs, store), page, asked, going_on=True)
            written = time.monotonic()

    run_all(runs, store, "auto", progress=after, minutes=minutes, keep_going=True)
    found = report(dataset, runs, store)
    if page is not None:
        write(found, page, asked)
    return found


def report(dataset: str, runs: list[Experiment], store: Store) -> Advice:
    """The advice that follows from the runs that have been made."""
    images = data.load(dataset)
    truth = images.test.labels.numpy()
    hits: dict[tuple[str, float], dict[int, np.ndarray]] = {}
    predicted: dict[str, list[np.ndarray]] = {}
    done = 0
    for run in runs:
        record = store.get(run)
        done += record is not None
        if record is None or not isinstance(run, OwnClassifier):
            continue
        classes = record.predictions["classes"]
        hits.setdefault((run.method, run.share), {})[run.draw] = classes == truth
        if run.share == 1:
            predicted.setdefault(run.method, []).append(classes)
    counts = {share: len(data.draw_fraction(images.train.labels, share, 0)) for _, share in hits}
    leader = best({key: mean(each, truth) for key, each in hits.items()}, 1.0)
    notes = [*getattr(images, "notes", ())]
    if not any(getattr(run, "method", "") == "imagenet" for run in runs):
        where = paths.cache() / "weights" / "torchvision"
        notes.append(
            "ImageNet features are left out: their weights are not on this machine (put "
            f"{Pretrained('resnet18').checksum} into {where})"
        )
    return Advice(
        images,
        curve(hits, truth, counts),
        advice(images, hits, predicted.get(leader, [])),
        notes,
        done,
        len(runs),
    )


def write(found: Advice, page: Path, asked: str, going_on: bool = False) -> None:
    """The page, which needs nothing beside it, and a notebook that asks the same by ``asked``."""
    with files.whole(page) as stream:
        stream.write(_page(found, going_on).encode())
    with files.whole(page.with_suffix(".ipynb")) as stream:
        stream.write(_notebook(asked).encode())


def _page(found: Advice, going_on: bool) -> str:
    images = found.images
    state = f"{found.done} of {found.planned} runs"
    parts = [f"<h1>{html.escape(images.title)}</h1>"]
    parts.append(
        f"<p>{len(images.classes)} classes; {len(images.train.labels):,} images train, "
        f"{len(images.test.labels):,} test, {len(images.valid.labels):,} stay aside for "
        f"choices of your own: nothing is chosen on them here. {state}"
        f"{', more are being made' if going_on else ''}.</p>"
    )
    parts.append(_counts(images))
    if len(found.curve):
        figures.style()
        drawn = figures.accuracy_against_labels(found.curve, "mean class accuracy, %")
        parts.append(_picture(drawn))
    parts.append("<h2>Advice</h2><ul>")
    parts += [
        f"<li>{html.escape(each.text)} <small>Rule: {html.escape(each.rule)}.</small></li>"
        for each in found.sentences
    ]
    parts.append("</ul>")
    if len(found.curve):
        parts.append("<h2>Figures</h2>" + _table(found.curve))
    notes = "".join(f"<li>{html.escape(each)}.</li>" for each in found.notes)
    parts.append(f"<h2>What to know of these figures</h2><ul>{LIMITS}{notes}</ul>")
    refresh = '<meta http-equiv="refresh" content="10">' if going_on else ""
    title = html.escape(images.name)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{refresh}<title>{title}</title>'
        f"<style>{STYLE}</style>{''.join(parts)}</html>\n"
    )


def _counts(images: ImageData) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(
            f"<td>{int((getattr(images, part).labels == k).sum()):,}</td>"
            for part in ("train", "valid", "test")
        )
        + "</tr>"
        for k, name in enumerate(images.classes)
    )
    head = "<tr><th>class</th><th>training</th><th>validation</th><th>test</th></tr>"
    return f"<details><summary>Images by class</summary><table>{head}{rows}</table></details>"


def _table(rows: pd.DataFrame) -> str:
    shares = sorted(rows["share"].unique())
    head = "".join(
        f"<th>{rows[rows['share'] == s]['labels'].iloc[0]:,} labels</th>" for s in shares
    )
    body = ""
    for method in (m for m in LOOKS.values() if m in {*rows["method"]}):
        own_rows = rows[rows["method"] == method].set_index("share")
        cells = "".join(
            f"<td>{percent(Interval(*own_rows.loc[s, ['mean', 'low', 'high', 'n']], ''))}</td>"
            if s in own_rows.index
            else "<td>&ndash;</td>"
            for s in shares
        )
        body += f"<tr><td>{html.escape(figures.look(method).label)}</td>{cells}</tr>"
    return f"<table><tr><th>mean class accuracy, % [95% interval]</th>{head}</tr>{body}</table>"


def _picture(figure) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=160)
    encoded = base64.b64encode(stream.getvalue()).decode()
    return (
        '<img alt="Mean class accuracy of every method against the number of labels" '
        f'src="data:image/png;base64,{encoded}">'
    )


def _notebook(asked: str) -> str:
    sources = [
        "import fewlabels\n",
        f"found = {asked}  # 0: what has been made\nprint(found)\n",
        "found.curve\n",
    ]
    cells = [
        {"cell_type": "code", "id": f"cell-{k}", "metadata": {}, "execution_count": None}
        | {"outputs": [], "source": source}
        for k, source in enumerate(sources)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}}
    return json.dumps(notebook | {"nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


LIMITS = (
    "<li>Every method but the ImageNet features is one small network (0.3 million weights), "
    f"trained for {STEPS} steps: a larger one, trained longer, may do better, most of all with all "
    "labels.</li>"
    "<li>Intervals hold the luck of the label draws and of the test images, not that of another "
    "pretraining: SimCLR was trained once.</li>"
    "<li>The test images were scored by every method. Whoever picks the best of them by this page "
    "has used them: check the choice on new images.</li>"
)
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;"
    "color:#222;background:#fff}table{border-collapse:collapse;font-size:14px}td,th{padding:.2rem "
    ".6rem;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child{text-align:"
    "left}img{max-width:100%}small{color:#666}li{margin:.4rem 0}"
)
