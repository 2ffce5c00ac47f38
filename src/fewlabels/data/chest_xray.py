"""Kermany et al.'s chest X-rays (2018) in the Kaggle folder layout.

``chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg``; ``val`` (16 images) may be absent, and
where it is there its images join the training images, from which this book takes its own validation
images. The set has to be fetched by hand: Kaggle asks for an account.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from fewlabels import cached, paths
from fewlabels.data.images import Split
from fewlabels.data.xrays import CLASSES, XrayData
from fewlabels.errors import UserError

TRAIN = 5216
"""Training images of the copies that the book was made with."""
SIZE = 224
"""Pixels a side that every image is brought to, as the networks take it."""
RESIZED = "39875522e78672db56c78ad9fbca1b58"
"""Checksum of those copies: resized to 224 x 224 pixels without keeping the aspect ratio."""
RESIZED_TITLE = (
    "Kermany et al.'s chest X-rays in copies resized to 224 x 224, not the official ones"
)
PARTS = {f"{part}_{what}" for part in ("train", "test") for what in ("images", "labels", "files")}
"""What is kept in the cache."""
TITLE = "Kermany et al.'s chest X-rays, resized to 224 x 224"


def md5() -> str:
    """Checksum over every file's place and content; without the folder, the book's copies'."""
    folder = _folder()
    return _checksum(folder) if folder is not None and folder.is_dir() else book_md5()


def book_md5() -> str:
    """Checksum of the copies behind the book's records."""
    return RESIZED


def load() -> XrayData:
    """Training and test images, grey [N, 1, 224, 224], decoded once and kept in the cache.

    Looks for the folder ``chest_xray`` in the folder that ``FEWLABELS_DATA`` names.

    Raises:
        UserError: the folder or one of its classes is missing or empty, or a file is no image.
    """
    folder = _folder()
    if folder is None or not folder.is_dir():
        where = folder or "the folder chest_xray"
        raise UserError(
            f"{where} is missing: fetch Kaggle's data set 'chest-xray-pneumonia', unpack it, and "
            "name the folder that holds chest_xray in FEWLABELS_DATA; or take PneumoniaMNIST, "
            "which is downloaded: with --profile quick, or with the parameters dataset=pneumonia, "
            "three_class_seeds=0 and unmatched=false."
        )
    checksum = _checksum(folder)
    stored = paths.cache() / "data" / f"chest_xray-{SIZE}-{checksum}.pt"
    content = cached.load(stored, lambda kept: isinstance(kept, dict) and kept.keys() >= PARTS)
    if content is None:
        content = _decoded(folder)
        cached.save(content, stored)
    return XrayData(
        name="chest_xray",
        title=RESIZED_TITLE if checksum == RESIZED else TITLE,
        classes=CLASSES,
        md5=checksum,
        train=Split(content["train_images"], content["train_labels"]),
        test=Split(content["test_images"], content["test_labels"]),
        train_files=tuple(content["train_files"]),
        test_files=tuple(content["test_files"]),
    )


def _folder() -> Path | None:
    folder = os.environ.get("FEWLABELS_DATA")
    return Path(folder).expanduser() / "chest_xray" if folder else None


def _files(folder: Path, part: str) -> list[Path]:
    """The images of a part in the order of their class and name."""
    found = []
    for cls in CLASSES:
        own = sorted(
            file
            for suffix in ("*.jpeg", "*.jpg", "*.png")
            for file in (folder / part / cls).glob(suffix)
        )
        if not own and part != "val":
            raise UserError(
                f"{folder / part / cls} holds no images; expected the Kaggle layout, "
                "chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg"
            )
        found += own
    return found


@lru_cache(maxsize=2)
def _checksum(folder: Path) -> str:
    digest = hashlib.md5()
    for part in ("train", "val", "test"):
        for file in _files(folder, part):
            content = hashlib.md5(file.read_bytes()).hexdigest()
            digest.update(f"{content}  {file.relative_to(folder)}\n".encode())
    return digest.hexdigest()


def _decoded(folder: Path) -> dict:
    content = {}
    for part, sources in (("train", ("train", "val")), ("test", ("test",))):
        files = [file for source in sources for file in _files(folder, source)]
        with ThreadPoolExecutor(2) as pool:
            images = list(pool.map(_grey, files))
        content[f"{part}_images"] = torch.from_numpy(np.stack(images)).unsqueeze(1)
        content[f"{part}_labels"] = torch.tensor([CLASSES.index(f.parent.name) for f in files])
        content[f"{part}_files"] = [str(file.relative_to(folder)) for file in files]
    return content


def _grey(file: Path) -> np.ndarray:
    try:
        with Image.open(file, formats=("JPEG", "PNG")) as image:
            image = image.convert("L")
            if image.size != (SIZE, SIZE):
                image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            return np.array(image)
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(
            f"{file} cannot be read as an image: remove it or fetch it again"
        ) from error
