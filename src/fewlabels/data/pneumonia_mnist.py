"""PneumoniaMNIST (Yang et al. 2023) as a chest X-ray data set, at 28, 64, 128 or 224 pixels."""

import hashlib

import pandas as pd
import torch

from fewlabels.data.images import Split
from fewlabels.data.medmnist import REBUILDS, SIZES, MedMNIST
from fewlabels.data.xrays import CLASSES, XrayData
from fewlabels.errors import UserError

__all__ = ["MATCHES_MD5", "MERGED", "SIZES", "TRAIN", "load", "matches", "md5"]

FLAG = "pneumoniamnist"
TRAIN = 5232
"""Images for training and validation, 4,708 and 524."""
MERGED = REBUILDS[FLAG].md5
"""The copy at 28 pixels that the book was made with."""
MATCHES_MD5 = "ffb950cd4ce1448ed645f019f6b261e2"


def md5(size: int) -> str:
    """Checksum of the file that is there, else of the official one."""
    own = MedMNIST(FLAG, size)
    return own.md5() if own.path.exists() else own.official


def load(size: int) -> XrayData:
    """Grey images [N, 1, size, size]; the training images with the validation images at their end.

    The file is the one that `fewlabels.data.medmnist` finds or downloads.

    Raises:
        UserError: the file is missing or another one, or the download failed.
    """
    found = MedMNIST(FLAG, size).load()
    parts = (found.train, found.valid)
    images, labels = (torch.cat(pair) for pair in zip(*parts, strict=True))
    return XrayData(
        name="pneumonia" if size == 28 else f"pneumonia_{size}",
        title=found.title,
        classes=CLASSES,
        md5=found.md5,
        train=Split(images, labels),
        test=found.test,
        valid=torch.arange(len(found.train.labels), len(labels)),
    )


def matches() -> pd.DataFrame:
    """Which file of the chest X-rays each image at 28 pixels was made from.

    Columns: split, index_in_merged_npz (position within the split), kermany_file, crop_fraction,
    rmse_28px, next_best_rmse, confident (1 where the match is certain).

    Raises:
        UserError: the table is missing from ``FEWLABELS_DATA`` or is another one.
    """
    path = MedMNIST(FLAG).path.with_name("pneumoniamnist_to_chest_xray.csv")
    if not path.exists() or hashlib.md5(path.read_bytes()).hexdigest() != MATCHES_MD5:
        raise UserError(
            f"{path} is missing or another table (expected md5 {MATCHES_MD5}): put it there, or "
            "leave the comparison out with the parameter unmatched=false."
        )
    return pd.read_csv(path)
