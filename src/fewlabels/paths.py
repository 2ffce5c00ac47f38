"""Where things lie. The package is installed editable, so the checkout is its home."""

import os
from pathlib import Path

from fewlabels.errors import UserError

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
    try:
        return Path(os.environ.get("FEWLABELS_CACHE") or "~/.cache/fewlabels").expanduser()
    except RuntimeError:  # A user id without an account, and no HOME.
        raise UserError(
            "there is no home folder to keep downloads and weights in: name a folder in "
            "FEWLABELS_CACHE."
        ) from None
