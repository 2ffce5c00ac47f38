"""MedMNIST (Yang et al. 2023): its two-dimensional sets with one label per image.

Every set comes at 28, 64, 128 and 224 pixels. The official file is fetched by the ``medmnist``
package; a file in the folder that ``FEWLABELS_DATA`` names is used as it is, where its checksum is
the official one or that of the set's own rebuild, and captions say which of the two it was.
"""

import csv
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import medmnist
import numpy as np
import torch
from medmnist import INFO

from fewlabels import files, paths
from fewlabels.data.images import ImageData, Split
from fewlabels.errors import UserError

SIZES = (28, 64, 128, 224)
MULTI_LABEL = "multi-label, binary-class"
FLAGS = tuple(flag for flag in INFO if not flag.endswith("3d"))


@dataclass(frozen=True)
class Rebuild:
    """A file at 28 pixels that stands in for the official one, and captions say so."""

    md5: str
    what: str = "a rebuild"

    @property
    def title(self) -> str:
        return f"{self.what}, not the official file"


REBUILDS = {
    "bloodmnist": Rebuild("1241aecea11dc31be1668c1a239fd6fc"),
    "dermamnist": Rebuild("22ddb0ad76e869d01225c694b60645ce"),
    "pneumoniamnist": Rebuild("27335337bb68fdce0ec034caf844517d", "merged from partial copies"),
}
"""By set. BloodMNIST and DermaMNIST were made from the original images as MedMNIST describes: which
image is in which split is seeded, with the official number of every class. PneumoniaMNIST was
merged from two partial copies: validation and test images are complete, and the training images
are in another order than the official file's."""
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

    @property
    def path(self) -> Path:
        """Where the file is, or will be."""
        name = self.flag if self.size == 28 else f"{self.flag}_{self.size}"
        return _folder() / f"{name}.npz"

    @property
    def official(self) -> str:
        """Checksum of the official file."""
        return INFO[self.flag]["MD5" if self.size == 28 else f"MD5_{self.size}"]

    def md5(self) -> str:
        """Checksum of the file that is there; without one as :meth:`book_md5`."""
        return _md5(self.path) if self.path.exists() else self.book_md5()

    def book_md5(self) -> str:
        """Checksum of the file behind the book's records: a rebuild known here, or the official."""
        self._refuse_multi_label()
        rebuild = self._rebuild()
        return rebuild.md5 if rebuild else self.official

    def load(self) -> ImageData:
        """Training, validation and test images.

        Looks for ``medmnist/<flag>.npz`` (``<flag>_64.npz`` and so on for larger sizes) in the
        folder that ``FEWLABELS_DATA`` names; without that variable the official file is downloaded
        into the cache.

        Raises:
            UserError: a set with several labels per image, a missing file, one that is neither
                official nor the rebuild of this set, or a failed download.
        """
        self._refuse_multi_label()
        path = self.path
        if not path.exists():
            self._download()
        digest = _md5(path)
        rebuild = self._rebuild()
        rebuilt = rebuild is not None and digest == rebuild.md5
        if digest != self.official and not rebuilt:
            raise UserError(
                f"{path} is not the official file: its md5 is {digest}, expected "
                f"{self.official}. It may be a partial download: delete it and fetch it again."
            )
        with np.load(path) as content:
            parts = {part: _split(content, part) for part in ("train", "val", "test")}
        title = f"{INFO[self.flag]['python_class']} at {self.size} px"
        if rebuilt:
            title += f" ({rebuild.title})"
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
        path, table = self.path, self.path.with_name(LESIONS)
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

    def _rebuild(self) -> Rebuild | None:
        return REBUILDS.get(self.flag) if self.size == 28 else None

    def _download(self) -> None:
        path = self.path
        if paths.given() is not None:
            raise UserError(
                f"{path} is missing (official md5 {self.official}). Put the file there, or "
                "unset FEWLABELS_DATA to download it."
            )
        otherwise = "Put it into a folder medmnist and name the folder above it in FEWLABELS_DATA."
        # Beside its place, where a download that is cut off is never taken for the file.
        made = files.folder(path.parent) / f"{path.stem}.tmp"
        fetch = getattr(medmnist, INFO[self.flag]["python_class"])
        with files.download(path, path.name, otherwise):
            if path.exists():
                return
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            try:
                fetch(split="train", download=True, root=str(made), size=self.size)
                (made / path.name).replace(path)
            finally:
                shutil.rmtree(made, ignore_errors=True)


def _folder() -> Path:
    return paths.data() / "medmnist"


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
SINGLE_LABEL = tuple(name for name, own in SETS.items() if INFO[own.flag]["task"] != MULTI_LABEL)
"""The names of those that can be loaded."""
