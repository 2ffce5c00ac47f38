"""Made-up records of classifiers on the generated cells, as chapter 5 keeps them, and claims."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy.special import softmax

from fewlabels import chapters, data
from fewlabels import evidence as ev
from fewlabels.book import notebooks
from fewlabels.learn import evaluation

SUPERVISED, METHODS = "supervised", ("simclr", "moco", "aim", "mae")
MODELS = (SUPERVISED, *METHODS)


def model(method: str, draw: int, labels: str = "100%", flat: float = 1.0) -> SimpleNamespace:
    """A record with probabilities, sure in proportion to 1 / flat."""
    predictions, whole = {}, data.load("cells")
    for part, split in (("valid", whole.valid), ("test", whole.test)):
        truth = split.labels.numpy()
        rng = np.random.default_rng([MODELS.index(method), draw, len(labels), len(truth)])
        logits = 1.5 * rng.normal(size=(len(truth), 4)) + 1.5 * np.eye(4)[truth]
        predictions[part] = softmax(logits / flat, axis=1).astype(np.float16)
    right = predictions["test"].argmax(axis=1) == truth
    recalls = {f"recall_class_{k}": float(right[truth == k].mean()) for k in range(4)}
    return SimpleNamespace(
        id=f"{method}{draw}{labels}",
        data={"cells": data.md5("cells")},
        predictions=predictions,
        metrics=evaluation.evaluate(predictions["test"], truth) | recalls,
        seconds=1.0,
        finished="2026-11-27T00:00:00Z",
        versions={},
        hardware={"device": "cpu", "processor": "any", "threads": 1, "precision": "32-true"},
    )


def models(draws: int) -> pd.DataFrame:
    """Rows of all models with all labels and a quarter of them, as `evidence.frame` has them."""
    rows = []
    for draw, labels, method in product(range(draws), ("100%", "25%"), MODELS):
        record = model(method, draw, labels)
        cell = {"dataset": "cells", "labels": labels, "draw": draw, "method": method}
        start = None if method == SUPERVISED else f"{method} {draw}"
        facts = {"name": method, "kind": "classes", "luck": start, "overlap": None}
        rows.append(cell | facts | {"record": record} | record.metrics)
    return pd.DataFrame(rows)


def claims_of(monkeypatch, chapter: str, frame: pd.DataFrame, **values) -> dict[str, dict]:
    """The claims that a chapter's notebook makes of a frame of runs, by their id; no file is read.

    values: of its parameters, where they are not the notebook's.
    """
    official = replace(data.load("cells"), title="the official file")
    monkeypatch.setattr(data, "load", lambda name: official)
    monkeypatch.setattr(data, "md5", lambda name: "0" * 32)
    monkeypatch.setattr(ev, "runs", lambda *_: frame)
    found = notebooks.evaluate(chapters.notebook(chapter), values, "runs", "claims")["claims"]
    return {row["claim"].id: row for row in found}


def words(claims: dict[str, dict]) -> dict[str, str]:
    """The verdicts on these claims, by their id."""
    return {name: row["verdict"].word for name, row in claims.items()}
