"""Image data sets by name, all of one shape: :class:`~fewlabels.data.images.ImageData`.

A data set is one module with a ``load()``, an ``md5()`` and ``TRAIN``, its number of training
images; ``DATASETS`` names it. ``md5()`` has to answer without the files where the official checksum
is known, because a run's identity holds it, and a chapter's runs are listed without its data.
"""

from functools import lru_cache, partial
from types import SimpleNamespace

from fewlabels import config
from fewlabels.data import chest_xray, digits, generated_xrays, mnist, pneumonia_mnist
from fewlabels.data.images import ImageData, Split, draw_labels, hold_out

DATASETS = {
    "mnist": mnist,
    "digits": digits,
    "chest_xray": chest_xray,
    "generated_xrays": generated_xrays,
    **{
        "pneumonia" if size == 28 else f"pneumonia_{size}": SimpleNamespace(
            load=partial(pneumonia_mnist.load, size),
            md5=partial(pneumonia_mnist.md5, size),
            TRAIN=pneumonia_mnist.TRAIN,
        )
        for size in pneumonia_mnist.SIZES
    },
}

__all__ = ["DATASETS", "ImageData", "Split", "draw_labels", "hold_out", "load", "md5", "train_size"]


@lru_cache(maxsize=4)
def load(name: str) -> ImageData:
    """The data set ``name``, read once per process.

    Raises:
        UserError: unknown name, or files that are missing, partial or not the official ones.
    """
    config.one_of("dataset", name, DATASETS)
    return DATASETS[name].load()


@lru_cache(maxsize=16)
def md5(name: str) -> str:
    """Checksum of the data set ``name``, without loading it where that is possible."""
    config.one_of("dataset", name, DATASETS)
    return DATASETS[name].md5()


def train_size(name: str) -> int:
    """Number of training images of the data set ``name``, without loading it."""
    config.one_of("dataset", name, DATASETS)
    return DATASETS[name].TRAIN
