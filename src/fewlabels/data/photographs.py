"""Photographs of objects: Caltech-101's folders, and shapes drawn by the computer.

Caltech-101 (Fei-Fei, Fergus and Perona 2004) comes as one folder per class and without a split; its
images have many sizes. They are decoded once, turned upright, squeezed to a square without keeping
their proportions, as the course sheet does, and kept as one tensor; what the squeezing loses (the
sizes, which images were grey) is kept beside it.
"""

import hashlib
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import Caltech101

from fewlabels import config, files, paths
from fewlabels.data.reading import Picture, images_in, read, visible
from fewlabels.errors import UserError

SOURCES = ("caltech101", "shapes")
CLASSES = 101
FOLDER = "101_ObjectCategories"
"""Folders in Caltech-101's archive, at least."""
SHAPES = ("cross", "disc", "square", "triangle")
SHAPES_PER_CLASS = 14

# Of each class in the official archive: number of images, and the md5 of its lines "md5  name".
OFFICIAL = {
    "accordion": (55, "48c406392ba8ddfa448cea383b8caffd"),
    "anchor": (42, "e1e8270d4076a3a40278074206405891"),
    "barrel": (47, "6a3dbcae1778e1c51be794a06831a650"),
    "binocular": (33, "34e30d2471000bd57015f4bee8010bf5"),
}


@dataclass(frozen=True)
class Photographs:
    """Labelled photographs without a split."""

    title: str
    """What a caption calls them."""
    classes: tuple[str, ...]
    md5: str
    files: tuple[str, ...]
    """``class/name`` of every image."""
    images: Tensor
    """uint8 [N, 3, S, S], squeezed to squares."""
    labels: Tensor
    """int64 [N], values 0..classes-1."""
    shapes: Tensor
    """int64 [N, 2], width and height in pixels, upright and before squeezing."""
    grey: Tensor
    """bool [N], stored without colour."""
    turned: Tensor
    """bool [N], turned upright because the file's orientation entry asked for it."""


def squeezed(image: Image.Image, size: int) -> Tensor:
    """An RGB image as uint8 [3, size, size], its proportions not kept, bilinear, antialiased."""
    pixels = np.array(image.resize((size, size), Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def reduced(images: Tensor, size: int = 80) -> np.ndarray:
    """Images uint8 [N, 3, H, W] as a page shows them: uint8 [N, 3, size, size], antialiased."""
    small = F.interpolate(
        images.float(), size, mode="bilinear", antialias=True, align_corners=False
    )
    return small.round().clamp(0, 255).to(torch.uint8).numpy()


@lru_cache(maxsize=4)
def load(source: str, classes: tuple[str, ...], size: int) -> Photographs:
    """The photographs of ``classes``, squeezed to ``size`` x ``size`` pixels.

    Args:
        source: ``caltech101``, or ``shapes``: drawings made here, for tests.
        classes: folders of Caltech-101 (or of ``SHAPES``), in the order of the labels.
        size: pixels, a multiple of 4 (so that the sheet's network halves it twice).

    Raises:
        UserError: an unknown class, a folder that is missing or differs from the official one, a
            download that failed.
    """
    config.one_of("dataset", source, SOURCES)
    if not isinstance(size, int) or size < 16 or size % 4:
        raise UserError(f"size is {size!r}; allowed: a multiple of 4 from 16")
    check_classes(source, classes)
    if source == "shapes":
        title = f"{len(classes)} kinds of shapes drawn by the computer"
        checked = md5(source, classes)
    else:
        title = f"Caltech-101's {', '.join(classes[:-1])} and {classes[-1]}"
        checked = _verified({name: _files(_folder(), name) for name in classes})
    names, labels, pictures = zip(*decoded(source, classes), strict=True)
    return Photographs(
        title=title,
        classes=classes,
        md5=checked,
        files=names,
        images=torch.stack([squeezed(each.image, size) for each in pictures]),
        labels=torch.tensor(labels),
        shapes=torch.tensor([each.image.size for each in pictures]),
        grey=torch.tensor([each.grey for each in pictures]),
        turned=torch.tensor([each.turned for each in pictures]),
    )


def decoded(source: str, classes: tuple[str, ...]) -> list[tuple[str, int, Picture]]:
    """Every photograph in its own size: ``class/name``, label, picture; in the order of `load`."""
    if source == "shapes":
        return _drawn(classes)
    return [
        (f"{name}/{path.name}", k, read(path))
        for k, name in enumerate(classes)
        for path in _files(_folder(), name)
    ]


@lru_cache(maxsize=16)
def md5(source: str, classes: tuple[str, ...]) -> str:
    """One checksum for the classes: of the lines "md5  class", each the md5 of its files' lines.

    For ``OFFICIAL`` classes it is known without the files.
    """
    check_classes(source, classes)
    if source == "shapes":
        digest = hashlib.md5("\n".join(classes).encode())
        for _, _, picture in _drawn(classes):
            digest.update(picture.image.tobytes())
        return digest.hexdigest()
    if all(name in OFFICIAL for name in classes):
        return _combined({name: OFFICIAL[name][1] for name in classes})
    return _verified({name: _files(_folder(), name) for name in classes})


def check_classes(source: str, classes: tuple[str, ...]) -> None:
    """UserError for fewer than two classes, one twice, or an unknown shape."""
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise UserError(f"classes is {list(classes)}; allowed: two or more, each once")
    for name in classes:
        if source == "shapes":
            config.one_of("classes", name, SHAPES)
        elif not isinstance(name, str) or not name or Path(name).name != name:
            raise UserError(f"classes has {name!r}; allowed: names of Caltech-101's folders")


def _folder() -> Path:
    """``caltech101/101_ObjectCategories`` of ``FEWLABELS_DATA``, or downloaded into the cache."""
    own = paths.given() is not None
    folder = paths.data() / "caltech101" / FOLDER
    if own and not folder.is_dir():
        raise UserError(
            f"{folder} is missing: put Caltech-101's class folders there, or unset FEWLABELS_DATA "
            "to download them (137 MB)."
        )
    if not own and not folder.is_dir():
        _download(folder.parent)
    there = sum(path.is_dir() for path in visible(folder))
    if there < (1 if own else CLASSES):
        then = "unpack the archive again" if own else "it is downloaded again"
        raise UserError(
            f"{folder} is incomplete, {there} of {CLASSES} classes lie in it: delete it, and "
            f"{then}."
        )
    return folder


def _download(target: Path) -> None:
    """Fetch and unpack the archive beside ``target``, which appears when it is complete."""
    otherwise = (
        "Put its class folders into caltech101/101_ObjectCategories, name the folder above that in "
        "FEWLABELS_DATA, or use the smoke profile, which draws its own images."
    )
    made = target.with_name(f"{target.name}.tmp")
    with files.download(target, "Caltech-101", otherwise):
        if (target / FOLDER).is_dir():
            return
        shutil.rmtree(made, ignore_errors=True)
        try:
            Caltech101(made, download=True)
            shutil.rmtree(target, ignore_errors=True)
            (made / target.name).rename(target)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _files(folder: Path, name: str) -> list[Path]:
    if not (folder / name).is_dir():
        there = sorted(path.name for path in visible(folder) if path.is_dir())
        raise UserError(
            f"classes has {name!r}, and {folder} has no such folder; it has: {', '.join(there[:8])}"
            f"{' ...' if len(there) > 8 else ''}"
        )
    found = images_in(folder / name)
    if len(found) < 4:
        raise UserError(f"{folder / name} holds {len(found)} images: at least 4 are needed.")
    return found


def _verified(files: dict[str, list[Path]]) -> str:
    """Checksum of the classes; UserError for one that should be official and is not."""
    digests = {}
    for name, found in files.items():
        lines = "".join(
            f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.name}\n" for path in found
        )
        digests[name] = hashlib.md5(lines.encode()).hexdigest()
        count, expected = OFFICIAL.get(name, (len(found), digests[name]))
        if digests[name] != expected:
            raise UserError(
                f"{found[0].parent} is not the official folder: it holds {len(found)} images with "
                f"md5 {digests[name]}, expected {count} with {expected}. Delete it and unpack the "
                "archive again."
            )
    return _combined(digests)


def _combined(digests: dict[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.md5(lines.encode()).hexdigest()


def _drawn(classes: tuple[str, ...]) -> list[tuple[str, int, Picture]]:
    """Shapes in random colours, places and sizes; some of the images are grey."""
    random = np.random.default_rng(0)
    drawn = []
    for k, name in enumerate(classes):
        for i in range(SHAPES_PER_CLASS):
            width, height = (int(each) for each in random.integers(40, 80, 2))
            back, front = (tuple(int(c) for c in random.integers(0, 256, 3)) for _ in range(2))
            image = Image.new("RGB", (width, height), back)
            radius = random.uniform(0.25, 0.45) * min(width, height)
            x, y = random.uniform(radius, width - radius), random.uniform(radius, height - radius)
            _draw(ImageDraw.Draw(image), name, x, y, radius, front)
            grey = i % 5 == 0
            image = image.convert("L").convert("RGB") if grey else image
            drawn.append((f"{name}/{i:02}.png", k, Picture(image, grey, False, False)))
    return drawn


def _draw(draw: ImageDraw.ImageDraw, name: str, x: float, y: float, r: float, colour) -> None:
    box = [x - r, y - r, x + r, y + r]
    match name:
        case "disc":
            draw.ellipse(box, fill=colour)
        case "square":
            draw.rectangle(box, fill=colour)
        case "triangle":
            draw.polygon([(x - r, y + r), (x + r, y + r), (x, y - r)], fill=colour)
        case _:
            draw.rectangle([x - r, y - r / 4, x + r, y + r / 4], fill=colour)
            draw.rectangle([x - r / 4, y - r, x + r / 4, y + r], fill=colour)
