"""Files of tensors that may be lost: written whole, set aside where they cannot be read."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def save(value: Any, path: Path) -> None:
    """Write under a temporary name and rename: a file under ``path`` is a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    with partial.open("wb") as file:
        # Given a path, torch would write its name, and so our pid, into the archive.
        torch.save(value, file)
    partial.replace(path)


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
        value = torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except (OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch raises a dozen kinds for a broken file.
        return set_aside(path, f"it cannot be read ({type(error).__name__})")
    return value if fits(value) else set_aside(path, "it holds something else")


def set_aside(path: Path, why: str) -> None:
    """Move a file to ``set-aside/`` beside it, with a warning; what is there already stays."""
    aside = path.parent / "set-aside" / path.name
    aside.parent.mkdir(exist_ok=True)
    count = 1
    while aside.exists():
        count += 1
        aside = aside.with_name(f"{path.stem}-{count}{path.suffix}")
    try:
        path.replace(aside)
    except FileNotFoundError:
        return  # Another process was faster.
    warnings.warn(f"{path.name} was moved to {aside}: {why}. It will be made again.", stacklevel=3)
