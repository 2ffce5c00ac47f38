"""scikit-learn's handwritten digits, enlarged: real images that need no download.

1,797 digits of 8 x 8 pixels (Alpaydin & Kaynak 1998, the UCI set's test part). Enlarged to 20 x 20
and centred in 28 x 28, as MNIST's are. The stand-in for MNIST in tests and on closed networks; its
numbers are its own and are never mixed with MNIST's.
"""

import hashlib

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from fewlabels.data.images import ImageData, Split

TRAIN = 1297
"""The first 1,297 images train and the last 500 test: scikit-learn keeps the writers' order."""


def md5() -> str:
    """Checksum of the 8 x 8 images and labels as scikit-learn ships them."""
    digits = load_digits()
    content = digits.images.astype("uint8").tobytes() + digits.target.astype("uint8").tobytes()
    return hashlib.md5(content).hexdigest()


def load() -> ImageData:
    """1,297 training and 500 test images, 28 x 28, grey."""
    digits = load_digits()
    small = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    large = F.interpolate(small, size=20, mode="bicubic", align_corners=False).clamp(0, 1)
    images = F.pad(large.mul(255).round().to(torch.uint8), (4, 4, 4, 4))
    labels = torch.from_numpy(digits.target).long()
    return ImageData(
        name="digits",
        title="scikit-learn's 8 x 8 digits, enlarged to 28 x 28",
        classes=tuple(str(digit) for digit in range(10)),
        md5=md5(),
        train=Split(images[:TRAIN], labels[:TRAIN]),
        test=Split(images[TRAIN:], labels[TRAIN:]),
    )
