"""MedMNIST (Yang et al. 2023): its two-dimensional sets with one label per image.

Every set comes at 28, 64, 128 and 224 pixels. The official file is fetched by the ``medmnist``
package; a file in the folder that ``FEWLABELS_DATA`` names is used as it is, where its checksum is
the official one or that of a rebuild known here, and captions say which of the two it was.
"""

import csv
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import medmnist
import numpy as np
import torch
from medmnist import INFO

from fewlabels import paths
from fewlabels.data.images import ImageData, Split
from fewlabels.errors import UserError

SIZES = (28, 64, 128, 224)
MULTI_LABEL = "multi-label, binary-class"
FLAGS = tuple(flag for flag in INFO if not flag.endswith("3d"))
REBUILDS = {
    "1241aecea11dc31be1668c1a239fd6fc": "bloodmnist",
    "22ddb0ad76e869d01225c694b60645ce": "dermamnist",
    "27335337bb68fdce0ec034caf844517d": "pneumoniamnist",
}
"""Checksums of files made from the original images as MedMNIST describes, at 28 pixels. Which image
is in which split is seeded there, with the official number of every class."""
LESIONS = "HAM10000_metadata.csv"


@dataclass(frozen=True)
class MedMNIST:
    """One set at one size: an entry of ``fewlabels.data.DATASETS``."""

    flag: str
    size: int = 28

    @property
    def TRAIN(self) -> int:
        """Number of training images."""
        self._refuse_multi_label()
        return INFO[self.flag]["n_samples"]["train"]

    def md5(self) -> str:
        """Checksum of the file that is there; without one as :meth:`book_md5`."""
        return _md5(self._path()) if self._path().exists() else self.book_md5()

    def book_md5(self) -> str:
        """Checksum of the file behind the book's records: a rebuild known here, or the official."""
        self._refuse_multi_label()
        rebuilt = [digest for digest, flag in REBUILDS.items() if flag == self.flag]
        return rebuilt[0] if rebuilt and self.size == 28 else self._official()

    def load(self) -> ImageData:
        """Training, validation and test images.

        Looks for ``medmnist/<flag>.npz`` (``<flag>_64.npz`` and so on for larger sizes) in the
        folder that ``FEWLABELS_DATA`` names; without that variable the official file is downloaded
        into the cache.

        Raises:
            UserError: a set with several labels per image, a missing file, one that is neither
                official nor a known rebuild, or a failed download.
        """
        self._refuse_multi_label()
        path = self._path()
        if not path.exists():
            self._download()
        digest = _md5(path)
        rebuilt = digest in REBUILDS
        if digest != self._official() and not rebuilt:
            raise UserError(
                f"{path} is not the official file: its md5 is {digest}, expected "
                f"{self._official()}. It may be a partial download: delete it and fetch it again."
            )
        with np.load(path) as content:
            parts = {part: _split(content, part) for part in ("train", "val", "test")}
        title = f"{INFO[self.flag]['python_class']} at {self.size} px"
        if rebuilt:
            title += " (a rebuild, not the official file)"
        return ImageData(
            name=self.flag if self.size == 28 else f"{self.flag}-{self.size}",
            title=title,
            classes=tuple(name.split("(")[0].strip() for name in INFO[self.flag]["label"].values()),
            md5=digest,
            train=parts["train"],
            test=parts["test"],
            valid=parts["val"],
        )

    def lesions(self) -> dict[str, np.ndarray] | None:
        """Lesion ids of the images of every split (``train``, ``valid``, ``test``), DermaMNIST's.

        None where they cannot be known: the official file does not name its originals, and for
        other sets there are no lesions. A rebuild names them, and ``HAM10000_metadata.csv`` beside
        it knows the lesion of every original.
        """
        path, table = self._path(), self._path().with_name(LESIONS)
        if self.flag != "dermamnist" or not (path.exists() and table.exists()):
            return None
        with np.load(path) as content:
            if "train_source" not in content:
                return None
            sources = {part: content[f"{part}_source"] for part in ("train", "val", "test")}
        with table.open(newline="", encoding="utf-8") as stream:
            lesion = {row["image_id"]: row["lesion_id"] for row in csv.DictReader(stream)}
        found = {part: np.array([lesion[str(i)] for i in ids]) for part, ids in sources.items()}
        return {"train": found["train"], "valid": found["val"], "test": found["test"]}

    def _refuse_multi_label(self) -> None:
        if INFO[self.flag]["task"] == MULTI_LABEL:
            raise UserError(
                f"{self.flag} has several labels per image, and every method here takes one: "
                f"choose one of {', '.join(f for f in FLAGS if INFO[f]['task'] != MULTI_LABEL)}."
            )

    def _official(self) -> str:
        return INFO[self.flag]["MD5" if self.size == 28 else f"MD5_{self.size}"]

    def _path(self) -> Path:
        name = self.flag if self.size == 28 else f"{self.flag}_{self.size}"
        return _folder() / f"{name}.npz"

    def _download(self) -> None:
        path = self._path()
        if os.environ.get("FEWLABELS_DATA"):
            raise UserError(
                f"{path} is missing (official md5 {self._official()}). Put the file there, or "
                "unset FEWLABELS_DATA to download it."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch = getattr(medmnist, INFO[self.flag]["python_class"])
        try:
            fetch(split="train", download=True, root=str(path.parent), size=self.size)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{path.name} could not be downloaded ({reason}). Put it into a folder medmnist "
                "and name the folder above it in FEWLABELS_DATA."
            ) from error


def _folder() -> Path:
    folder = os.environ.get("FEWLABELS_DATA")
    return (Path(folder).expanduser() if folder else paths.cache() / "data") / "medmnist"


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def _split(content: np.lib.npyio.NpzFile, part: str) -> Split:
    images = torch.from_numpy(content[f"{part}_images"])
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    return Split(images, torch.from_numpy(content[f"{part}_labels"]).long().squeeze(1))


SETS = {flag: MedMNIST(flag) for flag in FLAGS} | {
    f"{flag}-{size}": MedMNIST(flag, size) for flag in FLAGS for size in SIZES[1:]
}
"""Every set by its name: ``bloodmnist``, ``bloodmnist-64`` and so on."""
