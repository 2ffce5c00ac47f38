"""Chest X-rays in folders: Kermany et al.'s (2018) as Kaggle has them, or a reader's own.

``chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg``; ``val`` (16 images) may be absent, and
where it is there its images join the training images, from which this book takes its own validation
images. The set has to be fetched by hand: Kaggle asks for an account. Images of any kind that
`fewlabels.data.reading` knows may lie there, under any names.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fewlabels import cached, paths
from fewlabels.data.images import Split
from fewlabels.data.reading import images_in, read, visible
from fewlabels.data.xrays import CLASSES, XrayData, patient
from fewlabels.errors import UserError

TRAIN = 5216
"""Training images of the copies that the book was made with."""
FEWEST = 10
"""Patients of a class in a part; an image whose name tells no patient counts as one."""
SIZE = 224
"""Pixels a side that every image is brought to, as the networks take it."""
RESIZED = "39875522e78672db56c78ad9fbca1b58"
"""Checksum of those copies: resized to 224 x 224 pixels without keeping the aspect ratio."""
RESIZED_TITLE = (
    "Kermany et al.'s chest X-rays in copies resized to 224 x 224, not the official ones"
)
OFFICIAL = ((5216, 624), (5232, 624))
"""Training and test images of Kaggle's set, without and with those of ``val``."""
KAGGLE_TITLE = "Kermany et al.'s chest X-rays, resized to 224 x 224"
PARTS = {f"{part}_{what}" for part in ("train", "test") for what in ("images", "labels", "files")}
"""What is kept in the cache."""
SOURCES = {"train": ("train", "val"), "test": ("test",)}


def md5() -> str:
    """Checksum over every file's place and content; without the folder, the book's copies'."""
    folder = _folder()
    return _checksum(folder) if folder is not None and folder.is_dir() else book_md5()


def book_md5() -> str:
    """Checksum of the copies behind the book's records."""
    return RESIZED


def train_size() -> int:
    """Number of training images in the folder; without it, of the book's copies."""
    here = names()
    return len(here["train"]) if here else TRAIN


def names() -> dict[str, tuple[str, ...]] | None:
    """``class/name`` of the images of ``train`` and ``test``; None where the folder is missing.

    Raises UserError as `load` does, and where too few patients are known of a class.
    """
    folder = _folder()
    if folder is None or not folder.is_dir():
        return None
    found = {part: [f"{f.parent.name}/{f.name}" for f in files(folder, part)] for part in SOURCES}
    for part, own in found.items():
        for cls in CLASSES:
            patients = {patient(name) for name in own if name.startswith(f"{cls}/")}
            if len(patients) < FEWEST:
                raise UserError(
                    f"{folder / part / cls} has images of {len(patients)} patients: at least "
                    f"{FEWEST} are needed."
                )
    return {part: tuple(each) for part, each in found.items()}


def load() -> XrayData:
    """Training and test images, grey [N, 1, 224, 224], decoded once and kept in the cache.

    Looks for the folder ``chest_xray`` in the folder that ``FEWLABELS_DATA`` names.

    Raises:
        UserError: the folder or one of its classes is missing or empty, or something in it is no
            image or belongs to no class.
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
    counts = tuple(len(content[f"{part}_labels"]) for part in SOURCES)
    own = f"a folder of {sum(counts):,} chest X-rays, resized to {SIZE} x {SIZE}"
    title = KAGGLE_TITLE if counts in OFFICIAL else own
    return XrayData(
        name="chest_xray",
        title=RESIZED_TITLE if checksum == RESIZED else title,
        classes=CLASSES,
        md5=checksum,
        train=Split(content["train_images"], content["train_labels"]),
        test=Split(content["test_images"], content["test_labels"]),
        train_files=tuple(content["train_files"]),
        test_files=tuple(content["test_files"]),
    )


def _folder() -> Path | None:
    folder = paths.given()
    return folder / "chest_xray" if folder else None


def files(folder: Path, part: str) -> list[Path]:
    """The images of ``train`` (those of ``val`` at the end) or ``test``, by class and name."""
    return [file for source in SOURCES[part] for file in _files(folder, source)]


def _files(folder: Path, source: str) -> list[Path]:
    own = folder / source
    found = {cls: images_in(own / cls) if (own / cls).is_dir() else [] for cls in CLASSES}
    layout = "expected the Kaggle layout, chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg"
    for cls in CLASSES:
        if not found[cls] and source != "val":
            raise UserError(f"{own / cls} holds no images; {layout}")
    if other := sorted({path.name for path in visible(own)} - {*CLASSES}) if own.is_dir() else []:
        raise UserError(f"{own / other[0]} belongs to no class; {layout}")
    return [file for cls in CLASSES for file in found[cls]]


@lru_cache(maxsize=2)
def _checksum(folder: Path) -> str:
    digest = hashlib.md5()
    for source in ("train", "val", "test"):
        for file in _files(folder, source):
            content = hashlib.md5(file.read_bytes()).hexdigest()
            digest.update(f"{content}  {file.relative_to(folder)}\n".encode())
    found = digest.hexdigest()
    # Other folders were once read without their 16 bits and orientation: those runs do not count.
    return found if found == RESIZED else hashlib.md5(f"{found} 2".encode()).hexdigest()


def _decoded(folder: Path) -> dict:
    content = {}
    for part in SOURCES:
        own = files(folder, part)
        with ThreadPoolExecutor(2) as pool:
            images = list(pool.map(_grey, own))
        content[f"{part}_images"] = torch.from_numpy(np.stack(images)).unsqueeze(1)
        content[f"{part}_labels"] = torch.tensor([CLASSES.index(f.parent.name) for f in own])
        content[f"{part}_files"] = [str(file.relative_to(folder)) for file in own]
    return content


def _grey(file: Path) -> np.ndarray:
    image = read(file).image.convert("L")
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.array(image)
