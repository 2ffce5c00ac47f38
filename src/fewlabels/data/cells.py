"""Generated cells: coloured discs in four classes, for tests and for the profile ``smoke``.

They have all that the medical sets have: three channels, a validation split, classes of unequal
size, an image that occurs twice, and objects shown on several images.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from fewlabels.data.images import ImageData, Split

TRAIN, VALID, TEST = 160, 40, 60
SHARES = (0.5, 0.25, 0.15, 0.1)
CLASSES = ("large", "small", "ring", "pair")


def md5() -> str:
    """Checksum of the generated images and labels."""
    images = load()
    return hashlib.md5(
        b"".join(
            part.images.numpy().tobytes() + part.labels.numpy().tobytes()
            for part in (images.train, images.valid, images.test)
        )
    ).hexdigest()


def load() -> ImageData:
    """160 training, 40 validation and 60 test images, 28 x 28, in colour.

    The first validation image is the first training image of its class, pixel by pixel.
    """
    generator = torch.Generator().manual_seed(0)
    train, valid, test = (_split(count, generator) for count in (TRAIN, VALID, TEST))
    twin = (train.labels == valid.labels[0]).nonzero()[0, 0]
    valid.images[0] = train.images[twin]
    return ImageData(
        name="cells",
        title="generated cells, not real images",
        classes=CLASSES,
        md5="",
        train=train,
        valid=valid,
        test=test,
    )


def lesions() -> dict[str, np.ndarray]:
    """Made-up objects: every third test image shows one that is in training as well."""
    train = np.array([f"object {i}" for i in range(TRAIN)])
    test = np.array([f"object {i if i % 3 == 0 else 1000 + i}" for i in range(TEST)])
    return {"train": train, "valid": np.array([f"object {2000 + i}" for i in range(VALID)])} | {
        "test": test
    }


def _split(count: int, generator: torch.Generator) -> Split:
    ends = (torch.tensor(SHARES).cumsum(0) * count).round().long()
    labels = torch.bucketize(torch.arange(count), ends, right=True)
    labels = labels[torch.randperm(count, generator=generator)]
    return Split(torch.stack([_cell(int(k), generator) for k in labels]), labels)


def _cell(cls: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(3, 28, 28, generator=generator) * 8
    x, y, shade = torch.rand(3, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    middle = (11 + 6 * x, 11 + 6 * y)
    distance = ((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2).sqrt()
    if cls == 3:
        other = ((rows - middle[0]) ** 2 + (columns - middle[1] - 8) ** 2).sqrt()
        distance = torch.minimum(distance, other)
    inside = (distance < (9, 5, 8, 4)[cls]) & ((distance > 4) | torch.tensor(cls != 2))
    ground, ink = torch.tensor([220.0, 200, 205]), torch.tensor([110.0 + 40 * shade, 70, 150])
    image = torch.where(inside, ink.view(3, 1, 1), ground.view(3, 1, 1)) + noise
    return image.clamp(0, 255).to(torch.uint8)
