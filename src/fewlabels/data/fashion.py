"""Fashion-MNIST (Xiao et al. 2017) through torchvision, official to the byte."""

from torchvision.datasets import FashionMNIST

from fewlabels.data import idx
from fewlabels.data.images import ImageData

TRAIN = 60_000


def md5() -> str:
    """Checksum of the four official archives, known without them."""
    return idx.md5(FashionMNIST)


def load() -> ImageData:
    """60,000 training and 10,000 test images, 28 x 28, grey; 31 MB, see `fewlabels.data.idx`."""
    return idx.load(FashionMNIST, "fashion", "Fashion-MNIST", tuple(FashionMNIST.classes))
