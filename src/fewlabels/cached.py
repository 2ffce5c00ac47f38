"""Files of tensors that may be lost: written whole, set aside where they cannot be read."""

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fewlabels import files


def save(value: Any, path: Path) -> None:
    """Write the file whole, see `fewlabels.files`."""
    with files.whole(path) as stream:
        # Given a path, torch would write its name, and so our pid, into the archive.
        torch.save(value, stream)


def load(
    path: Path,
    fits: Callable[[Any], bool],
    device: torch.device | str = "cpu",
    mmap: bool = False,
) -> Any | None:
    """What the file holds, or None where there is no such file.

    A file that is cut short, or does not hold what ``fits`` accepts, is set aside with a warning
    and counts as lost.

    Args:
        mmap: leave tensors on the disk until they are used, to look whether the file is whole.
    """
    if not path.exists():
        return None
    try:
        # torch writes checksums of its tensors and does not look at them again.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                return set_aside(path, "it is damaged")
        value = torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except (OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch raises a dozen kinds for a broken file.
        return set_aside(path, f"it cannot be read ({type(error).__name__})")
    return value if fits(value) else set_aside(path, "it holds something else")


def set_aside(path: Path, why: str) -> None:
    """Move a file to ``set-aside/`` beside it, with a warning; what is there already stays."""
    aside = files.folder(path.parent / "set-aside") / path.name
    count = 1
    while aside.exists():
        count += 1
        aside = aside.with_name(f"{path.stem}-{count}{path.suffix}")
    with files.refusals(path):
        try:
            path.replace(aside)
        except FileNotFoundError:
            return  # Another process was faster.
    warnings.warn(f"{path.name} was moved to {aside}: {why}. It will be made again.", stacklevel=3)
