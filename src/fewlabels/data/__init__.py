"""Image data sets by name, all of one shape: :class:`~fewlabels.data.images.ImageData`.

A data set is one module with a ``load()``, an ``md5()`` and ``TRAIN``, its number of training
images; ``DATASETS`` names it. ``md5()`` has to answer without the files where the official checksum
is known, because a run's identity holds it, and a chapter's runs are listed without its data.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from types import SimpleNamespace

import numpy as np

from fewlabels import config
from fewlabels.data import (
    cells,
    chest_xray,
    digits,
    fashion,
    generated_xrays,
    medmnist,
    mnist,
    pneumonia_mnist,
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
    "channel_statistics",
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


def load(name: str) -> ImageData:
    """The data set ``name``, read once per process.

    Raises:
        UserError: unknown name, files that are missing, partial or not the official ones; within
            :func:`as_in_the_book`, other files than the book's.
    """
    config.one_of("dataset", name, DATASETS)
    found, own = _load(name), DATASETS[name]
    if _BOOK.get() and hasattr(own, "book_md5") and found.md5 != own.book_md5():
        raise UserError(
            f"{name} is another file here (md5 {found.md5}) than behind the book's records "
            f"(md5 {own.book_md5()}): name the folder of the book's own in FEWLABELS_DATA."
        )
    return found


@lru_cache(maxsize=4)
def _load(name: str) -> ImageData:
    found = DATASETS[name].load()
    # A file that has just been downloaded may be another one than was expected before it was there.
    _md5.cache_clear()
    return found


def parts(name: str, scored_on: str) -> tuple[Split, Split]:
    """Training images, and the images that are scored.

    ``scored_on="test"``: all training images, and the test set. ``"validation"``: a sixth of the
    training images is held out and scores; the test set is not touched.
    """
    images = load(name)
    if scored_on == "test":
        return images.train, images.test
    smallest = int(images.train.labels.bincount().min())
    kept, out = hold_out(images.train.labels, smallest // 6, seed=0)
    return images.train.take(kept), images.train.take(out)


def md5(name: str) -> str:
    """Checksum of the data set ``name``, without loading it where that is possible."""
    config.one_of("dataset", name, DATASETS)
    return _md5(name, _BOOK.get())


@lru_cache(maxsize=16)
def _md5(name: str, book: bool) -> str:
    own = DATASETS[name]
    return own.book_md5() if book and hasattr(own, "book_md5") else own.md5()


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
    """Number of training images of the data set ``name``, without loading it.

    Those of the files that are here; within :func:`as_in_the_book`, of the book's.
    """
    config.one_of("dataset", name, DATASETS)
    own = DATASETS[name]
    return own.train_size() if hasattr(own, "train_size") and not _BOOK.get() else own.TRAIN


def file_names(name: str) -> dict[str, tuple[str, ...]] | None:
    """``class/name`` of every image of ``train`` and ``test``, where a folder of them is here.

    None for data sets of another kind, and within :func:`as_in_the_book`.
    """
    config.one_of("dataset", name, DATASETS)
    known = getattr(DATASETS[name], "names", None)
    return known() if known and not _BOOK.get() else None


def lesions(name: str) -> dict[str, np.ndarray] | None:
    """What object every image of a split shows, where one is shown on several images.

    Split (train, valid, test) -> ids; None where the data set does not know.
    """
    config.one_of("dataset", name, DATASETS)
    known = getattr(DATASETS[name], "lesions", None)
    return known() if known else None
