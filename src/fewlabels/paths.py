"""Where things lie. The package is installed editable, so the checkout is its home."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = ROOT / "chapters"
PARAMS = ROOT / "params"
RESULTS = ROOT / "results"
FREEZE = ROOT / "_freeze"
BOOK = ROOT / "_book"


def cache() -> Path:
    """Folder for what may be lost: downloads, weights, a reader's own runs.

    ``FEWLABELS_CACHE`` names another one.
    """
    return Path(os.environ.get("FEWLABELS_CACHE") or "~/.cache/fewlabels").expanduser()
