"""Where things lie: in the checkout that the package is installed from, or in the wheel."""

import os
from pathlib import Path

from fewlabels.errors import UserError

_CHECKOUT = Path(__file__).resolve().parents[2]
IN_CHECKOUT = not Path(__file__).with_name("carried").is_dir()
"""A wheel carries chapters and profiles, but neither the book's records nor its frozen pages."""
ROOT = _CHECKOUT if IN_CHECKOUT else Path(__file__).resolve().with_name("carried")
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
