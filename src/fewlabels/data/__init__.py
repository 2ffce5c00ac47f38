"""Image data sets by name, all of one shape: :class:`~fewlabels.data.images.ImageData`.

A data set is one module with a ``load()``, an ``md5()`` and ``TRAIN``, its number of training
images; ``DATASETS`` names it. ``md5()`` has to answer without the files where the official checksum
is known, because a run's identity holds it, and a chapter's runs are listed without its data.
Wherever a name is asked for, it may be the path of a reader's own images (`fewlabels.data.own`).
"""

from collections.abc import Container, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache, partial
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from fewlabels.data import (
    cells,
    chest_xray,
    digits,
    fashion,
    generated_xrays,
    medmnist,
    mnist,
    own,
    pneumonia_mnist,
    xrays,
)
from fewlabels.data.images import (
    ImageData,
    Split,
    channel_statistics,
    draw_fraction,
    draw_labels,
    hold_out,
)
from fewlabels.errors import UserError

XRAYS = {"chest_xray": chest_xray, "generated_xrays": generated_xrays} | {
    "pneumonia" if size == 28 else f"pneumonia_{size}": SimpleNamespace(
        load=partial(pneumonia_mnist.load, size),
        md5=partial(pneumonia_mnist.md5, size),
        TRAIN=pneumonia_mnist.TRAIN,
    )
    for size in pneumonia_mnist.SIZES
}
DATASETS = {
    "mnist": mnist,
    "fashion": fashion,
    "digits": digits,
    "cells": cells,
    **medmnist.SETS,
    **XRAYS,
}

__all__ = [
    "DATASETS",
    "ImageData",
    "Split",
    "as_in_the_book",
    "at_hand",
    "channel_statistics",
    "check",
    "chest",
    "coloured",
    "draw_fraction",
    "draw_labels",
    "file_names",
    "hold_out",
    "lesions",
    "load",
    "md5",
    "parts",
    "train_size",
]


def check(key: str, name: str, names: Container[str]) -> None:
    """Refuse, as the value of a parameter, what is neither one of ``names`` nor a path."""
    if name not in names and not own.is_path(name):
        known = ", ".join(map(str, names))
        raise UserError(f"{key} is {name!r}; allowed: {known}, or the path of your own images")


def load(name: str) -> ImageData:
    """The data set of this name, or a reader's own at this path, read once per process.

    Args:
        name: one of `fewlabels.data.DATASETS`, as ``digits`` (no download) or ``bloodmnist``; or
            the path of an .npz file in MedMNIST's layout or of a folder, see `fewlabels.data.own`.

    Returns:
        ``train``, ``test`` and, where there is one, ``valid``: each with ``images``, a tensor uint8
        [N, C, H, W], and ``labels``, int64 [N]; and ``classes``, their names.

    Raises:
        UserError: unknown name, files that are missing, partial or not the official ones; within
            `as_in_the_book`, other files than the book's; see `fewlabels.data.own.load`.
    """
    found, source = _load(name), _source(name)
    if _BOOK.get() and hasattr(source, "book_md5") and found.md5 != source.book_md5():
        raise UserError(
            f"{name} is another file here (md5 {found.md5}) than behind the book's records "
            f"(md5 {source.book_md5()}): name the folder of the book's own in FEWLABELS_DATA."
        )
    return found


def at_hand(name: str) -> bool:
    """Whether a data set can be loaded without a download; MNIST and the like count as there."""
    path = getattr(_source(name), "path", None)
    return path is None or path.exists()


def _source(name: str):
    """What loads a data set: its module, or the same for a path."""
    check("dataset", name, DATASETS)
    if name in DATASETS:
        return DATASETS[name]
    return SimpleNamespace(load=partial(own.load, name), md5=partial(own.checksum, name))


@lru_cache(maxsize=4)
def _load(name: str) -> ImageData:
    found = _source(name).load()
    # A file that has just been downloaded may be another one than was expected before it was there.
    _md5.cache_clear()
    return found


def parts(name: str, scored_on: str) -> tuple[Split, Split]:
    """Training images, and the images that are scored.

    ``scored_on="test"``: all training images, and the test set. ``"validation"``: of every
    class as many training images as a sixth of the smallest class are held out and score; the test
    set is not touched.
    """
    images = load(name)
    if scored_on == "test":
        return images.train, images.test
    smallest = int(images.train.labels.bincount().min())
    kept, out = hold_out(images.train.labels, smallest // 6, seed=0)
    return images.train.take(kept), images.train.take(out)


def coloured(name: str) -> ImageData:
    """The data set with three channels; those of grey images are equal."""
    found = load(name)
    if found.train.images.shape[1] == 3:
        return found
    parts = {
        part: Split(split.images.expand(-1, 3, -1, -1).contiguous(), split.labels)
        for part in ("train", "valid", "test")
        if (split := getattr(found, part)) is not None
    }
    return replace(found, **parts)


def chest(name: str) -> xrays.XrayData:
    """A data set as the chapter on chest X-rays takes it: grey, two classes, the second one ill.

    A reader's own validation images join the training images, and their positions are kept.

    Raises:
        UserError: another number of classes.
    """
    found = load(name)
    if isinstance(found, xrays.XrayData):
        return found
    if len(found.classes) != 2:
        raise UserError(f"{name} has {len(found.classes)} classes; allowed: two, healthy and ill")
    joined = [torch.cat(pair) for pair in zip(found.train, found.valid, strict=True)]
    train, test = (Split(_grey(s.images), s.labels) for s in (Split(*joined), found.test))
    valid = torch.arange(len(found.train.labels), len(train.labels))
    facts = {key: getattr(found, key) for key in ("name", "title", "classes", "md5")}
    return xrays.XrayData(**facts, train=train, test=test, valid=valid)


def _grey(images: Tensor) -> Tensor:
    return rgb_to_grayscale(images) if images.shape[1] == 3 else images


def md5(name: str) -> str:
    """Checksum of the data set ``name``, without loading it where that is possible."""
    return _md5(name, _BOOK.get())


@lru_cache(maxsize=16)
def _md5(name: str, book: bool) -> str:
    source = _source(name)
    return source.book_md5() if book and hasattr(source, "book_md5") else source.md5()


_BOOK: ContextVar[bool] = ContextVar("book", default=False)


@contextmanager
def as_in_the_book() -> Iterator[None]:
    """Within it, checksums are those of the files behind the book's records.

    For listing these records, which other files on this machine must not change, and for making
    tables from them: other files are not loaded either. A data set whose files may differ says so
    by a ``book_md5()``.
    """
    token = _BOOK.set(True)
    try:
        yield
    finally:
        _BOOK.reset(token)


def train_size(name: str) -> int:
    """Number of training images of the data set ``name``; only a reader's own is loaded for it.

    Those of the files that are here; within :func:`as_in_the_book`, of the book's.
    """
    source = _source(name)
    if hasattr(source, "train_size") and not _BOOK.get():
        return source.train_size()
    return source.TRAIN if hasattr(source, "TRAIN") else len(load(name).train.labels)


def file_names(name: str) -> dict[str, tuple[str, ...]] | None:
    """``class/name`` of every image of ``train`` and ``test``, where a folder of them is here.

    None for data sets of another kind, and within :func:`as_in_the_book`.
    """
    known = getattr(_source(name), "names", None)
    return known() if known and not _BOOK.get() else None


def lesions(name: str) -> dict[str, np.ndarray] | None:
    """What object every image of a split shows, where one is shown on several images.

    Split (train, valid, test) -> ids; None where the data set does not know.
    """
    known = getattr(_source(name), "lesions", None)
    return known() if known else None
