"""Blood cells of another source, without the labels of interest: extra images for pretraining.

4,886 squares cut around the boxes of the BCCD data set and resized to 28 pixels: 4,153 red cells,
372 white cells and 361 platelets.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from fewlabels import paths
from fewlabels.errors import UserError

MD5 = "7f7bc89d6be8e2194e7c68e1bc71078a"


def md5() -> str:
    """Checksum of the file."""
    return MD5


def images() -> Tensor:
    """uint8 [4886, 3, 28, 28], from ``medmnist/bccd_cells.npz`` in ``FEWLABELS_DATA``.

    Raises UserError where the file is missing or another one.
    """
    path = paths.data() / "medmnist" / "bccd_cells.npz"
    if not path.exists():
        raise UserError(
            f"{path} is missing: it was made for this book from the BCCD data set and cannot be "
            "downloaded. Put it there, or leave the runs with these images out with the parameter "
            "side_seeds=0."
        )
    found = hashlib.md5(path.read_bytes()).hexdigest()
    if found != MD5:
        raise UserError(f"{path} is another file: its md5 is {found}, expected {MD5}.")
    with np.load(path) as content:
        return torch.from_numpy(content["images"]).permute(0, 3, 1, 2).contiguous()
