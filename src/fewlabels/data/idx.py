"""The MNIST family as torchvision knows it: four idx archives with official checksums.

A data set of the family is a module that names torchvision's class for it; see ``mnist.py``.
"""

import gzip
import hashlib
from pathlib import Path

import torch
from torchvision.datasets import MNIST
from torchvision.datasets.utils import check_integrity

from fewlabels import files, paths
from fewlabels.data.images import ImageData, Split
from fewlabels.errors import UserError


def md5(family: type[MNIST]) -> str:
    """One checksum for the four archives: the md5 of torchvision's "md5  name" lines."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(family.resources))
    return hashlib.md5(lines.encode()).hexdigest()


def load(family: type[MNIST], name: str, title: str, classes: tuple[str, ...]) -> ImageData:
    """60,000 training and 10,000 test images, 28 x 28, grey.

    Looks for ``<family>/raw/*.gz`` in the folder that ``FEWLABELS_DATA`` names; without that
    variable downloads them into the cache. The folder is only read, never written.

    Args:
        family: torchvision's class, which knows the archives, their checksums and their servers.
        name: what the book calls the data set; ``title``: what a caption calls it.
        classes: a name for every label.

    Raises:
        UserError: a file is missing or is not the official one (named, with both checksums), or
            the download failed.
    """
    root = paths.data()
    raw = root / family.__name__ / "raw"
    if paths.given() is None:
        _download(family, title, root, raw)
    for archive, digest in family.resources:
        _check(raw / archive, digest)
    return ImageData(
        name=name,
        title=title,
        classes=classes,
        md5=md5(family),
        train=_read(raw, "train"),
        test=_read(raw, "t10k"),
    )


def _download(family: type[MNIST], title: str, root: Path, raw: Path) -> None:
    if not _lacking(family, raw):
        return
    otherwise = (
        f"Put its four .gz archives into a folder {family.__name__}/raw and name the folder above "
        "it in FEWLABELS_DATA, or use the parameter dataset=digits, which needs no download."
    )
    with files.download(raw, title, otherwise):
        for name in _lacking(family, raw):
            # A partial archive is fetched anew, and torchvision fetches none whose content lies
            # unpacked beside it. A reader's own folder is never touched like this.
            (raw / name).unlink(missing_ok=True)
            (raw / name).with_suffix("").unlink(missing_ok=True)
        family(root, download=True)


def _lacking(family: type[MNIST], raw: Path) -> list[str]:
    return [name for name, digest in family.resources if not check_integrity(raw / name, digest)]


def _check(path: Path, expected: str) -> None:
    if not path.exists():
        raise UserError(
            f"{path} is missing (expected md5 {expected}). Put the official archive there, or "
            "unset FEWLABELS_DATA to download it."
        )
    found = hashlib.md5(path.read_bytes()).hexdigest()
    if found != expected:
        raise UserError(
            f"{path} is not the official file: its md5 is {found}, expected {expected} "
            f"({path.stat().st_size:,} bytes). It may be a partial download: delete it and fetch "
            "it again."
        )


def _read(raw: Path, part: str) -> Split:
    images = _read_idx(raw / f"{part}-images-idx3-ubyte.gz", offset=16).view(-1, 1, 28, 28)
    labels = _read_idx(raw / f"{part}-labels-idx1-ubyte.gz", offset=8).long()
    return Split(images, labels)


def _read_idx(path: Path, offset: int) -> torch.Tensor:
    return torch.frombuffer(
        bytearray(gzip.decompress(path.read_bytes())[offset:]), dtype=torch.uint8
    )
