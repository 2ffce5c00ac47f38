"""PneumoniaMNIST (Yang et al. 2023) through medmnist, at 28, 64, 128 or 224 pixels."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from medmnist import INFO

from fewlabels import paths
from fewlabels.data.images import Split
from fewlabels.data.xrays import CLASSES, XrayData
from fewlabels.errors import UserError

TRAIN = 5232
"""Images for training and validation, 4,708 and 524."""
MERGED = "27335337bb68fdce0ec034caf844517d"
"""md5 of a copy at 28 pixels that was merged from two partial ones: validation and test images are
complete and the training images in another order than the official file's."""
SIZES = (28, 64, 128, 224)
MATCHES_MD5 = "ffb950cd4ce1448ed645f019f6b261e2"


def md5(size: int) -> str:
    """Checksum of the file that is there, else of the official one."""
    path = _path(size)
    if path.exists():
        return hashlib.md5(path.read_bytes()).hexdigest()
    return _official(size)


def load(size: int) -> XrayData:
    """Grey images [N, 1, size, size]; the training images with the validation images at their end.

    Looks for ``medmnist/pneumoniamnist*.npz`` in the folder that ``FEWLABELS_DATA`` names; without
    that variable downloads it (4 MB at 28 pixels) into the cache.

    Raises:
        UserError: the file is missing or another one, or the download failed.
    """
    path = _path(size)
    if not path.exists():
        if os.environ.get("FEWLABELS_DATA"):
            raise UserError(
                f"{path} is missing: put MedMNIST's file there, or unset FEWLABELS_DATA to "
                "download it."
            )
        _download(path, size)
    found = md5(size)
    if found not in (_official(size), MERGED):
        raise UserError(
            f"{path} is not the official file: its md5 is {found}, expected {_official(size)}. "
            "It may be a partial download: delete it and fetch it again."
        )
    merged = " (merged from partial copies, not the official file)" if found == MERGED else ""
    with np.load(path) as content:
        parts = {
            part: (
                torch.from_numpy(content[f"{part}_images"]).unsqueeze(1),
                torch.from_numpy(content[f"{part}_labels"]).squeeze(1).long(),
            )
            for part in ("train", "val", "test")
        }
    images, labels = (torch.cat(pair) for pair in zip(parts["train"], parts["val"], strict=True))
    return XrayData(
        name="pneumonia" if size == 28 else f"pneumonia_{size}",
        title=f"PneumoniaMNIST at {size} pixels{merged}",
        classes=CLASSES,
        md5=found,
        train=Split(images, labels),
        test=Split(*parts["test"]),
        valid=torch.arange(len(parts["train"][1]), len(labels)),
    )


def matches() -> pd.DataFrame:
    """Which file of the chest X-rays each image at 28 pixels was made from.

    Columns: split, index_in_merged_npz (position within the split), kermany_file, crop_fraction,
    rmse_28px, next_best_rmse, confident (1 where the match is certain).

    Raises:
        UserError: the table is missing from ``FEWLABELS_DATA`` or is another one.
    """
    path = _path(28).with_name("pneumoniamnist_to_chest_xray.csv")
    if not path.exists() or hashlib.md5(path.read_bytes()).hexdigest() != MATCHES_MD5:
        raise UserError(
            f"{path} is missing or another table (expected md5 {MATCHES_MD5}): put it there, or "
            "leave the comparison out with the parameter unmatched=false."
        )
    return pd.read_csv(path)


def _name(size: int) -> str:
    return "pneumoniamnist" if size == 28 else f"pneumoniamnist_{size}"


def _path(size: int) -> Path:
    folder = os.environ.get("FEWLABELS_DATA")
    root = Path(folder).expanduser() if folder else paths.cache() / "data"
    return root / "medmnist" / f"{_name(size)}.npz"


def _official(size: int) -> str:
    return INFO["pneumoniamnist"]["MD5" if size == 28 else f"MD5_{size}"]


def _download(path: Path, size: int) -> None:
    from medmnist import PneumoniaMNIST

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        PneumoniaMNIST(split="train", root=str(path.parent), size=size, download=True)
    except Exception as error:  # medmnist raises a bare RuntimeError, urllib several others.
        reason = " ".join(str(error).split())
        raise UserError(
            f"PneumoniaMNIST could not be downloaded ({reason}). Put {path.name} into a folder "
            "medmnist and name the folder above it in FEWLABELS_DATA."
        ) from error
