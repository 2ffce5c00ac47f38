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
    named = os.environ.get("FEWLABELS_CACHE") or "~/.cache/fewlabels"
    return at_home(named, "downloads and weights are kept there: name a folder in FEWLABELS_CACHE")


def given() -> Path | None:
    """Folder that holds the data files already, where ``FEWLABELS_DATA`` names one."""
    named = os.environ.get("FEWLABELS_DATA")
    return at_home(named, "name another folder in FEWLABELS_DATA") if named else None


def data() -> Path:
    """Folder of the data files: `given`, or that of downloads."""
    return given() or cache() / "data"


def at_home(path: Path | str, otherwise: str = "name it without ~") -> Path:
    """The path with the folder that a ``~`` stands for. Raises UserError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # No such user; or one without an account, and no HOME.
        raise UserError(f"{path} is in no home folder that exists; {otherwise}.") from None
