"""What chest X-ray data sets have beyond images and labels: patients, and the kind of pneumonia."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import md5

import pandas as pd
import torch
from torch import Tensor

from fewlabels.data.images import ImageData, Split
from fewlabels.errors import UserError

CLASSES = ("NORMAL", "PNEUMONIA")
KINDS = ("normal", "bacterial", "viral")
PATIENT = re.compile(r"(person\d+)_|((?:NORMAL2-)?IM-\d+)-")
UNKNOWN_KINDS = (
    "classes is 3, but the names of {}'s files do not tell which pneumonia ('bacteria' or "
    "'virus'); allowed: 2"
)


@dataclass(frozen=True)
class XrayData(ImageData):
    """Chest X-rays, grey [N, 1, H, W], labelled normal (0) or pneumonia (1)."""

    train_files: tuple[str, ...] = ()
    """Name of every training image; empty where the data set has none."""
    test_files: tuple[str, ...] = ()
    valid: Tensor | None = None
    """Positions of the training images that the data set itself sets aside for validation."""


def patient(file: str) -> str:
    """The patient that a file's name tells, within its class.

    ``person17_bacteria_56.jpeg`` is an image of person 17, ``IM-0115-0001.jpeg`` of IM-0115, and
    ``NORMAL2-IM-0381-0001.jpeg`` of NORMAL2-IM-0381. Numbers may count anew in another class, part
    or kind of pneumonia; the same number is taken for the same person where that is the safe side.
    """
    name = file.rsplit("/", 1)[-1]
    found = PATIENT.match(name)
    return next(filter(None, found.groups())) if found else name


def kind(file: str) -> int:
    """0 normal, 1 bacterial, 2 viral, by the file's name; see `tell_kinds`."""
    return 1 if "bacteria" in file else 2 if "virus" in file else 0


def tell_kinds(files: Sequence[str], labels: Sequence[int]) -> bool:
    """Whether the name of every pneumonia says bacterial or viral, and that of no normal image.

    Else `kind` would take a pneumonia for a normal image.
    """
    return bool(files) and all(
        (kind(f) > 0) == label for f, label in zip(files, labels, strict=True)
    )


def three_classes(images: XrayData) -> XrayData:
    """The same images labelled normal, bacterial or viral. UserError where names do not tell."""
    for split, files in ((images.train, images.train_files), (images.test, images.test_files)):
        if not tell_kinds(files, split.labels.tolist()):
            raise UserError(UNKNOWN_KINDS.format(images.name))
    train, test = (
        Split(split.images, torch.tensor([kind(file) for file in files]))
        for split, files in (
            (images.train, images.train_files),
            (images.test, images.test_files),
        )
    )
    facts = vars(images) | {"classes": KINDS, "train": train, "test": test}
    return XrayData(**facts)


def kinds(images: XrayData) -> tuple[tuple[str, ...], Tensor]:
    """Names of the kinds of test image, and the kind [N] of every one: `KINDS` where the files'
    names tell them, else the classes."""
    if not tell_kinds(images.test_files, images.test.labels.tolist()):
        return tuple(name.lower() for name in images.classes), images.test.labels
    return KINDS, torch.tensor([kind(file) for file in images.test_files])


def overview(images: XrayData) -> pd.DataFrame:
    """A row per part and class: its images, their share of the part (%), patients and kinds.

    Patients and kinds are those of the files' names; texts say where there are none.
    """
    rows = []
    for part, split, files in (
        ("training", images.train, images.train_files),
        ("test", images.test, images.test_files),
    ):
        told = tell_kinds(files, split.labels.tolist())
        for k, name in enumerate(images.classes):
            here = (split.labels == k).nonzero().squeeze(1).tolist()
            own = [files[i] for i in here] if files else []
            ill = [kind(file) for file in own if told and kind(file)]
            named = own and all(PATIENT.match(file.rsplit("/", 1)[-1]) for file in own)
            rows.append(
                {
                    "Part": part,
                    "Class": name,
                    "Images": len(here),
                    "Share, %": 100 * len(here) / len(split.labels),
                    "Patients": f"{len({(patient(f), kind(f)) for f in own}):,}"
                    if named
                    else "unknown",
                    "Bacterial / viral": f"{ill.count(1):,} / {ill.count(2):,}"
                    if ill
                    else "\N{EN DASH}",
                }
            )
    return pd.DataFrame(rows)


def shared_patients(images: XrayData) -> tuple[int, int]:
    """Patients with images in both parts: by number and kind of image, and by number alone."""
    train, test = (
        {(patient(file), kind(file)) for file in files}
        for files in (images.train_files, images.test_files)
    )
    return len(train & test), len({name for name, _ in train} & {name for name, _ in test})


def duplicates(images: XrayData) -> dict[str, int]:
    """Groups of pixel-identical images.

    Returns:
        ``train``, ``test``: groups of two or more within that part; ``across``: groups with images
        in both; ``mixed``: groups whose images have different labels; ``images``: images in any of
        these groups.
    """
    groups: dict[str, list[tuple[str, int]]] = {}
    for part, split in (("train", images.train), ("test", images.test)):
        for image, label in zip(split.images, split.labels.tolist(), strict=True):
            key = md5(image.contiguous().numpy()).hexdigest()
            groups.setdefault(key, []).append((part, label))
    repeated = [group for group in groups.values() if len(group) > 1]
    parts = [{part for part, _ in group} for group in repeated]
    return {
        "train": sum(each == {"train"} for each in parts),
        "test": sum(each == {"test"} for each in parts),
        "across": sum(len(each) > 1 for each in parts),
        "mixed": sum(len({label for _, label in group}) > 1 for group in repeated),
        "images": sum(len(group) for group in repeated),
    }


def validation(images: XrayData, fraction: float, by_patient: bool, seed: int) -> Tensor:
    """Positions of the training images held out for validation, about ``fraction`` of each class.

    Args:
        by_patient: all images of a patient on one side; a data set without file names has its own
            validation images (``valid``), which are returned instead. Else at random by image, as
            the report did.
        seed: names the draw.
    """
    if by_patient and not images.train_files:
        return images.valid
    generator = torch.Generator().manual_seed(seed)
    held = []
    files = images.train_files or range(len(images.train.labels))
    groups = [patient(file) if by_patient else str(i) for i, file in enumerate(files)]
    labels = images.train.labels.tolist()
    for cls in sorted(set(labels)):
        members: dict[str, list[int]] = {}
        for position, (group, label) in enumerate(zip(groups, labels, strict=True)):
            if label == cls:
                members.setdefault(group, []).append(position)
        names = sorted(members)
        wanted = fraction * sum(map(len, members.values()))
        taken: list[int] = []
        for at in torch.randperm(len(names), generator=generator).tolist():
            if len(taken) >= wanted:
                break
            taken += members[names[at]]
        held += taken
    return torch.tensor(sorted(held))
