"""The picture that a link to the book is shown with: title, a mark for every claim, the counts.

Made from results/claims.csv by `fewlabels summary`.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from PIL import Image

from fewlabels import paths
from fewlabels.book import ledger
from fewlabels.evidence import figures, glance
from fewlabels.evidence.verdicts import FORMER

INCHES, DOTS = (12.0, 6.3), 100
"""1200 x 630 pixels, as the sites ask that show it."""
WIDE = 44
WORDS = {
    "holds": "confirmed",
    "reversed": "refuted",
    "within noise": "undecided",
    "not tested": "not tested",
}
TITLE = "Learning from Few Labels"
QUESTION = "Student reports, run again many times: which of their claims hold?"


def file() -> Path:
    return paths.ROOT / "styles" / "card.png"


def write() -> Path:
    """Draw the card again and return its path."""
    claims = _claims()
    figures.style()
    fig = plt.figure(figsize=INCHES, layout="none")
    fig.text(0.06, 0.85, TITLE, fontsize=44, fontweight="bold")
    fig.text(0.06, 0.76, QUESTION, fontsize=20)
    ax = fig.add_axes((0.06, 0.1, 0.88, 0.6))
    ax.set_axis_off()
    row = 0
    for source in claims["source"].unique():
        found = claims.loc[claims["source"] == source, "verdict"]
        for k, verdict in enumerate(found):
            _mark(ax, k % WIDE, row + k // WIDE, verdict)
        row += 1 + (len(found) - 1) // WIDE
    row += 0.6
    for k, (word, count) in enumerate(_counts().items()):
        _mark(ax, k * WIDE / 4, row, FORMER[word][0])
        ax.text(k * WIDE / 4 + 1, row, f"{count} {WORDS[word]}", fontsize=20, va="center")
    ax.set(xlim=(-0.5, WIDE - 0.5), ylim=(row + 0.5, -0.6))
    told = {"Description": said(), "Software": None}
    with plt.rc_context({"savefig.bbox": None}):
        fig.savefig(file(), dpi=DOTS, metadata=told)
    plt.close(fig)
    return file()


def said() -> str:
    """The card's line of counts. Questions are counted apart, as in the ledger, and not here."""
    counts = _counts()
    parts = ", ".join(f"{count} {WORDS[word]}" for word, count in counts.items())
    return f"{sum(counts.values())} claims: {parts}"


def stale() -> bool:
    """Whether the committed card says something else than the ledger."""
    with Image.open(file()) as image:
        return image.info.get("Description") != said()


def _counts() -> dict[str, int]:
    claims = _claims()
    meant = {now: before for before, words in FORMER.items() for now in words}
    verdicts = claims["verdict"].replace({"not identifiable": "not tested"} | meant)
    counts = verdicts[claims["kind"] != "question"].value_counts()
    return {word: int(counts.get(word, 0)) for word in WORDS}


def _mark(ax: Axes, x: float, y: float, verdict: str) -> None:
    ax.plot(x, y, **{"ms": 14, "mew": 1.6} | glance.SIGNS[verdict])


def _claims() -> pd.DataFrame:
    return ledger.read().drop_duplicates("claim")
