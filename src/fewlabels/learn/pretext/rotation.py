"""Predicting image rotations (Gidaris, Singh & Komodakis 2018).

Every image is shown turned by 0, 90, 180 and 270 degrees and the network names the turn.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.data.augment import quarter_turns
from fewlabels.data.views import View
from fewlabels.learn.training import Course, Recipe

TURNS = ("0", "90", "180", "270")
"""Class names: degrees, counter-clockwise."""
NETWORKS = {"report": "resnet18", "tuned": "resnet18-small"}
COURSES = {
    "report": Course(epochs=100, rate=0.06, momentum=0.0, schedule="constant"),
    "tuned": Course(epochs=100, rate=0.1, batch_size=256, weight_decay=5e-4, schedule="cosine"),
}
"""For colour images. The category was left out by the source of chapter 5: there is no original to
repeat. Protocol ``report`` takes the settings of the contrastive methods."""


def all_turns(images: Tensor) -> tuple[Tensor, Tensor]:
    """All four turns of every image, as in section 3 of the paper.

    Args:
        images: [N, C, H, H], any type.

    Returns:
        Images [4N, C, H, H] with the four turns of an image next to each other, and their classes
        int64 [4N].
    """
    turned = torch.stack([torch.rot90(images, k, dims=(2, 3)) for k in range(4)], dim=1)
    turns = torch.arange(4, device=images.device).repeat(len(images))
    return turned.flatten(0, 1), turns


def one_turn(images: Tensor) -> tuple[Tensor, Tensor]:
    """One random turn of every image: the same task in expectation, for a quarter of the cost.

    The paper turns every image of a batch all four ways (section 4.1), at four times the batch.
    """
    turns = torch.randint(4, (len(images),), device=images.device)
    return quarter_turns(images, turns), turns


def loss(logits: Tensor, turns: Tensor) -> Tensor:
    """Mean cross-entropy over the turns (equation 3)."""
    return F.cross_entropy(logits, turns)


class Rotation(nn.Module):
    """Backbone and a linear layer that names the turn of a view.

    Args:
        backbone: images to features [N, D], with their number as ``features``.
        view: of each image, before it is turned.
    """

    def __init__(self, backbone: nn.Module, view: View):
        super().__init__()
        self.backbone = backbone
        self.turns = nn.Linear(backbone.features, len(TURNS))
        self._view = view

    def views(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, C, H, H] to one view of every image in a random turn, and the turns."""
        return one_turn(self._view(images))

    def forward(self, views: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, 4] of the turns, and the turns."""
        return self.turns(self.backbone(views)), turns

    def loss(self, logits: Tensor, turns: Tensor) -> Tensor:
        """See :func:`loss`."""
        return loss(logits, turns)


def build(protocol: str, backbone: nn.Module, size: int, recipe: Recipe, blur: bool) -> Rotation:
    """The method for images of ``size`` pixels: crops and mirror images, then a turn."""
    return Rotation(backbone, View(size, 0.2 if protocol == "report" else 0.4))
