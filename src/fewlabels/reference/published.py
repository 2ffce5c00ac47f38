"""What the five source reports print: their claims and their figures.

Nothing here is measured by this book. Figures keep the units they were printed in, which differ
between the sources; each function says which.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd
import yaml

from fewlabels.errors import UserError

_REFERENCE = files("fewlabels") / "reference"
CLAIMS = Path(str(_REFERENCE / "claims.yaml"))
"""The file of all claims."""

KINDS = ("figure", "difference", "order", "limit", "count", "time", "question")
"""What a claim's verdict judges: printed figures; the sign of a difference, or of several that all
have to hold; that a limit is not exceeded; a count; seconds on the source's machine; a hypothesis.
"""


@dataclass(frozen=True)
class Claim:
    """One empirical claim of a source, in our own words.

    ``published`` maps a quantity to its printed figure: percent, unless the quantity's name says
    otherwise (``epoch``, ``minutes``, ``seconds_...`` as [low, high], ``trainable_...`` a count).
    It is None where only prose makes the claim. ``decide`` says which measurement settles it.
    ``erratum`` says where the source contradicts itself, None where it does not.

    How it is judged was decided before the results that `fewlabels.evidence.verdicts` names:
    ``kind`` is one of `KINDS`; ``direction`` says which comparison has which sign; ``luck`` what
    counts as one independent unit, a key of ``luck`` in the file; ``hypothesis`` is what a question
    is taken to ask; ``reduced`` how it is judged where the training budget is smaller than the
    source's, a key of ``reduced`` there, None where every run has the source's. ``margin``, with
    its reason: see `margin_of`. ``open`` is the verdict, ``not tested`` or ``not identifiable``,
    and its reason where no run of ours can judge the claim.
    """

    id: str
    source: str
    chapter: str
    text: str
    published: dict | None
    decide: str
    kind: str = "figure"
    direction: str | None = None
    luck: str = "run"
    margin: Mapping[str, float] = field(default_factory=dict)
    margin_why: str = ""
    hypothesis: str | None = None
    reduced: str | None = None
    erratum: str | None = None
    open: tuple[str, str] | None = None

    def margin_of(self, quantity: str) -> float:
        """The smallest distance that counts: of a printed figure by its name, or of a kind of
        quantity, as ``difference``; in the printed unit (points, for percentages).

        The claim's own where it has one, else the default of the kind of quantity.
        """
        defaults = _document()["margins"]
        kind = next((kind for kind in defaults if kind in quantity), "accuracy")
        return float(self.margin.get(kind, defaults[kind]["margin"]))


SPELLED = {"mlp": "MLP", "cnn": "CNN", "mae": "MAE", "aim": "AIM", "moco": "MoCo", "f1": "F1"} | {
    "trainable": "trained parameters,",
    "finetuned": "fine-tuned",
    "ssl": "self-supervised",
}
"""Words within the names of printed quantities."""


@cache
def _document() -> dict:
    return yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))


def sources() -> dict[str, str]:
    """Short name of every source -> its full title."""
    return dict(_document()["sources"])


def margins() -> dict[str, dict]:
    """Kind of quantity -> its default ``margin`` and ``why``."""
    return dict(_document()["margins"])


def claims(chapter: str | None = None) -> dict[str, Claim]:
    """Every claim by its id, in the order of the sources, or those of one chapter.

    Raises UserError for a chapter without claims, and where an id is there twice.
    """
    everything: dict[str, Claim] = {}
    for entry in _document()["claims"]:
        if entry["id"] in everything:
            raise UserError(f"claims.yaml has two claims {entry['id']}: give one another id.")
        everything[entry["id"]] = Claim(
            id=entry["id"],
            source=entry["source"],
            chapter=entry["chapter"],
            text=entry["claim"],
            published=entry["published"],
            decide=entry["decide"],
            kind=entry["kind"],
            direction=entry.get("direction"),
            luck=entry["luck"],
            margin=entry.get("margin", {}),
            margin_why=entry.get("margin_why", ""),
            hypothesis=entry.get("hypothesis"),
            reduced=entry.get("reduced"),
            erratum=entry.get("erratum"),
            open=_open(entry),
        )
    if chapter is None:
        return everything
    found = {id: claim for id, claim in everything.items() if claim.chapter == chapter}
    if not found:
        chapters = dict.fromkeys(claim.chapter for claim in everything.values())
        raise UserError(f"no claims for chapter {chapter!r}: choose one of {', '.join(chapters)}")
    return found


def unit(quantity: str) -> str:
    """Of a printed quantity, from its name in claims.yaml."""
    if quantity.startswith("difference"):
        return "points"
    named = {"trainable": "parameters", "epoch": "epoch", "minutes": "minutes", "seconds": "s"}
    return named.get(quantity.split("_")[0], "%")


def spelled(quantity: str) -> str:
    """The name of a printed quantity in claims.yaml as tables and reasons print it."""
    words = quantity.replace("mean_class_accuracy", "class_mean").replace("cohen_kappa", "kappa")
    words = words.replace("_full", ", all labels").replace("_quarter", ", a quarter")
    return " ".join(SPELLED.get(word, word) for word in words.split("_"))


def _open(entry: dict) -> tuple[str, str] | None:
    words = ("not tested", "not identifiable")
    return next(((w, entry[k]) for w in words if (k := w.replace(" ", "_")) in entry), None)


def digests(chapter: str) -> dict[str, str]:
    """A hash of every claim of a chapter, and of what claims.yaml says of all; {} without any."""
    parts = {f"claim {each['id']}": each for each in _document()["claims"]}
    own = {name: each for name, each in parts.items() if each["chapter"] == chapter}
    if own:
        own["claims.yaml"] = {k: v for k, v in _document().items() if k != "claims"}
    return {
        name: hashlib.sha256(json.dumps(each, sort_keys=True).encode()).hexdigest()[:16]
        for name, each in own.items()
    }


def claim(id: str) -> Claim:
    """The claim with this id, such as ``"R3"``. Raises UserError for an unknown one."""
    everything = claims()
    if id not in everything:
        raise UserError(f"no claim {id!r}: choose one of {', '.join(everything)}")
    return everything[id]


def former_verdicts() -> pd.DataFrame:
    """The verdicts of 2026-11-25, before the rules of 2026-11-27: claim, verdict, why.

    ``why`` says why the new rules give another one; it is empty where they do not.
    """
    return pd.read_csv(_REFERENCE / "former_verdicts.csv", keep_default_na=False)


def rotnet_mnist() -> pd.DataFrame:
    """The RotNet report's classification tables: fractions (0..1), printed to two decimals.

    Columns: model (rotnet, cnn), task (digits, rotations), class (a class's number, or accuracy,
    macro, weighted), precision, recall, f1, support (images). A row named accuracy has its figure
    under f1, as in the printed table.
    """
    return pd.read_csv(_REFERENCE / "rotnet_mnist.csv", dtype={"class": str})


def ssl_medmnist() -> pd.DataFrame:
    """The medical-imaging report's tables: percent (0..100), printed to two decimals.

    Columns: dataset, labels (full, quarter), method, backbone (scratch, frozen, finetuned),
    metric (accuracy, mean_class_accuracy, recall_class_<number>), value_percent.
    """
    return pd.read_csv(_REFERENCE / "ssl_medmnist.csv")


def chest_xray() -> pd.DataFrame:
    """The chest X-ray report's figures: rates are fractions (0..1) to two or three decimals.

    Columns: model (resnet50_transfer, cnn_scratch), metric, value. The metrics
    ``true_..._pred_...`` are numbers of test images; loss, trainable_parameters and epochs are what
    they say.
    """
    return pd.read_csv(_REFERENCE / "chest_xray.csv")


def chest_xray_classes(model: str) -> pd.DataFrame:
    """The classes of one model of the chest X-ray report: fractions (0..1).

    Columns: class (NORMAL, PNEUMONIA), precision, recall, f1.
    """
    printed = chest_xray().set_index(["model", "metric"])["value"][model]
    return pd.DataFrame(
        {"class": name}
        | {key: printed[f"{key}_{name.lower()}"] for key in ("precision", "recall", "f1")}
        for name in ("NORMAL", "PNEUMONIA")
    )
