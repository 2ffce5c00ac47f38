"""A reader's own images: an ``.npz`` file in MedMNIST's layout, or a folder of class folders.

    mine.npz          train_images uint8 [N, H, W] or [N, H, W, 3], train_labels int [N] or [N, 1];
                      val_... (or valid_...) and test_... likewise, where there are any
    mine/CLASS/*      image files of any size; or mine/train/CLASS/*, with mine/valid, mine/test
    mine@64           brought to 64 pixels a side; without it a folder's images are brought to 28,
                      and those of a file stay as they are

Splits that are missing are drawn from the training images, stratified, always in the same way; the
title says so. The sha256 of the content takes the place of an official checksum.
"""

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fewlabels import cached, config, files, paths
from fewlabels.data import reading
from fewlabels.data.images import ImageData, Split
from fewlabels.data.photographs import squeezed
from fewlabels.data.reading import images_in, read, visible
from fewlabels.errors import UserError

SIDE = 28
"""Pixels a side of a folder's images where the path does not say."""
SIDES = (16, 512)
SHARES = {"test": 0.2, "valid": 0.1}
"""Of a class's images, that a missing split gets."""
SEED = 0
"""Of the splits that are drawn."""
NAMED = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
"""Folders that are splits and not classes, where ``train`` is among them; the arrays of files are
named after them."""
MOST = 256
"""Classes, at most: predictions are kept in eight bits."""
SHOWN = 5
"""Files named in one message, at most."""


@dataclass(frozen=True)
class OwnData(ImageData):
    """A reader's own images, and what has to be known of them."""

    notes: tuple[str, ...] = ()
    """A sentence each: splits that were drawn, files that were changed."""


def is_path(name: str) -> bool:
    """Whether a data set's name is the path of an own one."""
    place = _parsed(name)[0]
    return os.sep in name or "/" in name or place.suffix == ".npz" or place.is_dir()


def absolute(name: str) -> str:
    """The same path from the root on, so that a run is the same from wherever it is started."""
    place, side = _parsed(name)
    return f"{place.resolve()}{f'@{side}' if side else ''}"


def load(name: str) -> OwnData:
    """Training, validation and test images.

    Args:
        name: a path, with ``@`` and a number of pixels behind it or not.

    Returns:
        uint8 [N, C, S, S], one channel where every image is grey, else three.

    Raises:
        UserError: nothing there, another layout, files that cannot be read (all of them named, up
            to five), arrays that would not be used, more than 256 classes, a class that is missing
            from a split or has too few images to be split.
    """
    place, side = _parsed(name)
    if place.is_dir():
        found, classes, notes = _from_folder(place, side or SIDE)
    elif place.is_file():
        found, classes, notes = _from_file(place, side)
    else:
        raise UserError(
            f"{place} is not there: name an .npz file in MedMNIST's layout, or a folder with one "
            "folder of images for each class."
        )
    found, drawn = _completed(str(place), found, classes)
    if drawn:
        notes.append(
            f"{' and '.join(drawn)} images are drawn from the training images "
            f"({' and '.join(f'{SHARES[each]:.0%}' for each in drawn)} of every class, seed {SEED})"
        )
    count = sum(len(split.labels) for split in found.values())
    full = os.path.basename(os.path.abspath(place))  # Of "." as well.
    title = f"{full} ({count:,} own images at {found['train'].images.shape[-1]} px"
    title += f", {' and '.join(drawn)} split drawn here)" if drawn else ")"
    # Files of a folder come class by class, and a chapter may take the first images only.
    order = torch.Generator().manual_seed(SEED)
    order = torch.randperm(len(found["train"].labels), generator=order)
    found["train"] = found["train"].take(order)
    short = place.stem if place.is_file() else full
    facts = {"name": short, "title": title, "classes": classes, "md5": checksum(name)}
    return OwnData(**facts, **found, notes=tuple(notes))


def kept(images: np.ndarray | Tensor, labels: np.ndarray) -> str:
    """Write arrays to a file in the cache, named after their content, and return its path.

    Args:
        images: uint8 [N, H, W] or [N, H, W, 3], values 0..255, or a tensor [N, C, H, W].
        labels: int [N], 0..classes-1.

    Raises:
        UserError: arrays that `load` would not take; nothing is written then.
    """
    if isinstance(images, Tensor) and images.dim() == 4:
        images = images.permute(0, 2, 3, 1)
    # torch warns of what is read-only.
    images = np.require(reading.array("images", images), requirements="CW")
    labels = np.ascontiguousarray(reading.array("labels", labels))
    pixels = _images("images", images, 0)
    train = Split(pixels, _labels("labels", labels, len(pixels)))
    _completed("labels", {"train": train}, _numbers(train))
    digest = hashlib.sha256(f"{images.shape} {images.dtype} {labels.dtype}".encode())
    digest.update(images)
    digest.update(labels)
    path = paths.cache() / "data" / f"own-{digest.hexdigest()[:12]}.npz"
    if not path.exists():
        with files.whole(path) as stream:
            np.savez_compressed(stream, train_images=images, train_labels=labels)
    return str(path)


def checksum(name: str) -> str:
    """sha256 of a file's content, or of a folder's lines "sha256  path" of its image files."""
    place, _ = _parsed(name)
    if place.is_file():
        return files.sha256(place)
    if not place.is_dir():
        raise UserError(f"{place} is not there: name an .npz file or a folder of images.")
    lines = "".join(
        f"{files.sha256(path)}  {path.relative_to(place).as_posix()}\n"
        for group in _layout(place).values()
        for paths_ in group.values()
        for path in paths_
    )
    return hashlib.sha256(lines.encode()).hexdigest()


def _parsed(name: str) -> tuple[Path, int]:
    """The path, and the pixels a side that the name asks for; 0 where it does not."""
    before, at, behind = name.rpartition("@")
    sized = at and behind.isascii() and behind.isdecimal()
    if not sized or paths.at_home(name).exists():
        return paths.at_home(name), 0
    if not SIDES[0] <= int(behind) <= SIDES[1]:
        raise UserError(
            f"{name} asks for {behind} pixels a side; allowed: {SIDES[0]} to {SIDES[1]}"
        )
    return paths.at_home(before), int(behind)


# Folders


def _layout(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Split -> class -> image files, in the order of their names."""
    inside = _folders(folder)
    splits = {"train": folder}
    if any(each.name == "train" and _folders(each) for each in inside):
        odd = [each.name for each in inside if each.name not in NAMED]
        if odd:
            raise UserError(
                f"{folder} has a folder `train` and beside it {', '.join(odd[:SHOWN])}: allowed "
                "beside it are valid and test."
            )
        splits = {NAMED[each.name]: each for each in inside}
        if len(splits) < len(inside):
            names = ", ".join(each.name for each in inside)
            raise UserError(
                f"{folder} has the folders {names}, two of one split: put them together."
            )
    found = {
        split: {each.name: images_in(each) for each in _folders(place)}
        for split, place in splits.items()
    }
    if len(found["train"]) < 2:
        raise UserError(
            f"{folder} has {len(found['train'])} folders of images: two or more are needed, one "
            "for each class, each named after it."
        )
    return found


def _folders(place: Path) -> list[Path]:
    return sorted(each for each in visible(place) if each.is_dir())


def _from_folder(folder: Path, side: int) -> tuple[dict[str, Split], tuple[str, ...], list[str]]:
    layout = _layout(folder)
    classes = tuple(sorted({name for group in layout.values() for name in group}))
    for split, group in layout.items():
        for name in classes:
            if not group.get(name):
                raise UserError(
                    f"{folder} has no {split} image of class {name!r}: put some there, or take the "
                    "class away from all splits."
                )
    stored = paths.cache() / "data" / f"own-{side}-{checksum(str(folder))}.pt"
    content = cached.load(stored, lambda kept: isinstance(kept, dict) and {*layout} <= {*kept})
    if content is None:
        content = _decoded(layout, side)
        cached.save(content, stored)
    found = {}
    for split, group in layout.items():
        counts = torch.tensor([len(group[name]) for name in classes])
        found[split] = Split(content[split], torch.arange(len(classes)).repeat_interleave(counts))
    notes = [f"images are squeezed to {side} x {side} pixels"] + content["notes"]
    return found, classes, notes


def _decoded(layout: dict[str, dict[str, list[Path]]], side: int) -> dict:
    """Split -> uint8 [N, C, side, side], and the notes."""
    groups = [own for split in layout for _, own in sorted(layout[split].items())]
    every = [path for own in groups for path in own]
    refused, changed = [], Counter()

    def decode(path: Path) -> Tensor | None:
        try:
            picture = read(path)
        except UserError as error:
            refused.append(str(error))
            return None
        changed["hold transparent pixels, which are white now"] += picture.transparent
        changed["were turned upright, as their camera noted"] += picture.turned
        return squeezed(picture.image, side)

    with ThreadPoolExecutor(config.cores()) as pool:
        images = [*pool.map(decode, every)]
    if refused:
        more = f" And {len(refused) - SHOWN} more." if len(refused) > SHOWN else ""
        raise UserError(" ".join(sorted(refused)[:SHOWN]) + more)
    stacked = torch.stack(images)
    grey = bool((stacked == stacked[:, :1]).all())
    stacked = stacked[:, :1].contiguous() if grey else stacked
    sizes = [sum(map(len, group.values())) for group in layout.values()]
    parts = [part.clone() for part in stacked.split(sizes)]
    notes = [f"{count} images {what}" for what, count in sorted(changed.items()) if count]
    return dict(zip(layout, parts, strict=True)) | {"notes": notes}


# Files


def _from_file(path: Path, side: int) -> tuple[dict[str, Split], tuple[str, ...], list[str]]:
    content = reading.arrays(path)
    if not {"train_images", "train_labels"} <= content.keys():
        raise UserError(
            f"{path} holds {', '.join(sorted(content)[:8]) or 'nothing'}: MedMNIST's layout has "
            "train_images and train_labels (and val_ and test_ likewise)."
        )
    found, left = {}, {each for each in content if each.endswith(("_images", "_labels"))}
    for name, split in NAMED.items():
        if f"{name}_images" in content and split not in found:
            if f"{name}_labels" not in content:
                raise UserError(f"{path} has no {name}_labels, which go with its images.")
            images = _images(f"{path}: {name}_images", content[f"{name}_images"], side)
            labels = _labels(f"{path}: {name}_labels", content[f"{name}_labels"], len(images))
            found[split] = Split(images, labels)
            left -= {f"{name}_images", f"{name}_labels"}
    if left:
        raise UserError(
            f"{path} holds {', '.join(sorted(left)[:SHOWN])}, of no use there: allowed beside "
            "train_ are val_ (or valid_) and test_, each with images and labels."
        )
    shapes = {split.images.shape[1:] for split in found.values()}
    if len(shapes) > 1:
        raise UserError(f"{path}: its splits have images of different shapes, {sorted(shapes)}.")
    return found, _numbers(*found.values()), []


def _numbers(*splits: Split) -> tuple[str, ...]:
    """What classes are called that have no names."""
    return tuple(map(str, range(max(int(split.labels.max()) for split in splits) + 1)))


def _images(what: str, array: np.ndarray, side: int) -> Tensor:
    if array.dtype != np.uint8:
        remedy = {"u": "divide by 256", "f": "multiply values in 0..1 by 255"}.get(array.dtype.kind)
        raise UserError(
            f"{what} is {array.dtype}; allowed: uint8, values 0..255"
            f"{f' ({remedy} and convert)' if remedy else ''}."
        )
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise UserError(f"{what} is {list(array.shape)}; allowed: [N, H, W] or [N, H, W, 3]")
    if not len(array) or min(array.shape[1:3]) < SIDES[0]:
        raise UserError(
            f"{what} is {list(array.shape)}: one image or more, of {SIDES[0]} pixels a side"
        )
    images = torch.from_numpy(array)
    images = images.unsqueeze(1) if array.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    side = side or min(array.shape[1:3])
    if images.shape[2:] != (side, side):
        parts = [
            F.interpolate(each.float(), (side, side), mode="bilinear", antialias=True)
            for each in images.split(1000)
        ]
        images = torch.cat(parts).round().clamp(0, 255).to(torch.uint8)
    return images


def _labels(what: str, array: np.ndarray, count: int) -> Tensor:
    if array.ndim == 2 and array.shape[1] > 1:
        raise UserError(f"{what} is {list(array.shape)}; allowed: one label for each image")
    array = array.reshape(-1)
    if len(array) != count:
        raise UserError(f"{what}: {count} images and {len(array)} labels: pair them.")
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= MOST:
        raise UserError(f"{what} holds other numbers than 0, 1, 2 and so on, up to {MOST - 1}.")
    return torch.from_numpy(array.astype(np.int64))


# Splits


def _completed(
    what: str, found: dict[str, Split], classes: tuple[str, ...]
) -> tuple[dict[str, Split], list[str]]:
    """All splits, and which of them were drawn from the training images as they were missing."""
    _check_classes(what, found, classes)
    drawn = [each for each in SHARES if each not in found]
    train, generator = found["train"], torch.Generator().manual_seed(SEED)
    part = torch.zeros(len(train.labels), dtype=torch.long)
    for k, name in enumerate(classes):
        members = (train.labels == k).nonzero().squeeze(1)
        if len(members) <= len(drawn):
            raise UserError(
                f"class {name!r} has {len(members)} training images: with {' and '.join(drawn)} "
                f"images to be drawn from them, {len(drawn) + 1} or more are needed."
            )
        order = members[torch.randperm(len(members), generator=generator)]
        start = 0
        for number, split in enumerate(drawn, start=1):
            count = max(1, round(SHARES[split] * len(members)))
            part[order[start : start + count]] = number
            start += count
    whole = {"train": train.take((part == 0).nonzero().squeeze(1))}
    whole |= {
        split: train.take((part == number).nonzero().squeeze(1))
        for number, split in enumerate(drawn, start=1)
    }
    return found | whole, drawn


def _check_classes(what: str, found: dict[str, Split], classes: tuple[str, ...]) -> None:
    """Every class is in every split."""
    if len(classes) < 2:
        raise UserError(f"{what}: all are of one class; two or more are needed to tell apart.")
    if len(classes) > MOST:
        raise UserError(f"{what} has {len(classes)} classes; allowed: 2 to {MOST}")
    for name, split in found.items():
        counts = split.labels.bincount(minlength=len(classes))
        if missing := [classes[k] for k in (counts == 0).nonzero().flatten().tolist()]:
            raise UserError(
                f"{what}: no {name} image of class {', '.join(missing[:SHOWN])}: every class "
                "has to be in every split (labels are 0, 1, 2 and so on, without gaps)."
            )
