"""Naming what an image file from anywhere shows, by a trained network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fewlabels.data import photographs
from fewlabels.data.reading import read


@dataclass(frozen=True)
class Answer:
    """What a network makes of one image file."""

    path: Path
    ranking: tuple[tuple[str, float], ...]
    """Every class with its probability (0..1, they sum to 1), the most probable first."""
    remarks: tuple[str, ...]
    """What was done to the file's image before the network saw it."""


class Recogniser:
    """Ranks the classes for image files.

    Args:
        network: pixels 0..255 [N, 3, size, size] to logits, on ``device``.
        classes: in the order of the logits.
        size: pixels a side that every image is squeezed to.
    """

    def __init__(
        self, network: nn.Module, classes: Sequence[str], size: int, device: torch.device | str
    ):
        self.network, self.classes, self.size, self.device = network.eval(), classes, size, device

    @torch.no_grad()
    def __call__(self, path: Path | str) -> Answer:
        """The classes for one file, ranked. Raises UserError as `fewlabels.data.reading` does."""
        picture = read(path)
        pixels = photographs.squeezed(picture.image, self.size).unsqueeze(0).to(self.device)
        probabilities = self.network(pixels).softmax(dim=1)[0].tolist()
        ranking = sorted(zip(self.classes, probabilities, strict=True), key=lambda item: -item[1])
        remarks = {
            "grey": picture.grey,
            "turned upright": picture.turned,
            "transparent parts shown white": picture.transparent,
        }
        done = tuple(remark for remark, applies in remarks.items() if applies)
        return Answer(Path(path), tuple(ranking), done)
