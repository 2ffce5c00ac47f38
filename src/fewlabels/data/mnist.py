"""MNIST (LeCun et al. 1998) through torchvision, official to the byte."""

from torchvision.datasets import MNIST

from fewlabels.data import idx
from fewlabels.data.images import ImageData

TRAIN = 60_000


def md5() -> str:
    """Checksum of the four official archives, known without them."""
    return idx.md5(MNIST)


def load() -> ImageData:
    """60,000 training and 10,000 test images, 28 x 28, grey; 12 MB, see `fewlabels.data.idx`."""
    return idx.load(MNIST, "mnist", "MNIST", tuple(str(digit) for digit in range(10)))
