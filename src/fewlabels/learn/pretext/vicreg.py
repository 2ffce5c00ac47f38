"""VICReg (Bardes, Ponce & LeCun 2022): views agree, features vary, and no two of them alike.

The source does not have it. It shows what one more method takes: this file, and a line in
``fewlabels.learn.pretext.methods``.
"""

import torch
from lightly.loss.vicreg_loss import invariance_loss, variance_loss
from lightly.models.modules.heads import VICRegProjectionHead
from torch import Tensor, nn

from fewlabels.data.views import View
from fewlabels.learn.pretext.views import TwoViews
from fewlabels.learn.training import Course, Recipe

NETWORKS = {"report": "resnet18", "tuned": "resnet18-small"}
COURSES = {
    "report": Course(
        epochs=100, rate=1e-3, optimiser="adamw", weight_decay=0.01, schedule="constant"
    ),
    "tuned": Course(
        epochs=200,
        rate=2e-3,
        batch_size=256,
        optimiser="adamw",
        weight_decay=0.01,
        schedule="cosine",
    ),
}
"""AdamW in place of the paper's LARS, which is made for large batches."""


def view(protocol: str, size: int) -> View:
    """Lightly's view (appendix C.1) without blur, or ours, which also has no way up."""
    colours = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
    if protocol == "report":
        return View(size, 0.08, jitter=0.8, grey=0.2, solarise=0.1, **colours)
    return View(size, 0.3, vertical_flip=0.5, jitter=0.8, grey=0.2, solarise=0.1, **colours)


class VICReg(TwoViews):
    """Backbone and expander.

    Args:
        backbone: images to features [N, D], with their number as ``features``.
        view: drawn twice for every image.
        width: of the expander's layers.
    """

    def __init__(self, backbone: nn.Module, view: View, width: int = 1024):
        head = VICRegProjectionHead(backbone.features, width, width, num_layers=2)
        super().__init__(backbone, head, view)

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Invariance, variance and covariance, weighted 25, 25 and 1.

        As equation 6, but that Lightly takes the mean of the variance terms of both views where
        the paper takes their sum. The expander is smaller than the paper's: two layers in place of
        three, 1,024 numbers wide in place of 8,192.
        """
        variance = (variance_loss(first) + variance_loss(second)) / 2
        covariances = covariance(first) + covariance(second)
        return 25 * invariance_loss(first, second) + 25 * variance + covariances


def covariance(x: Tensor) -> Tensor:
    """Sum of the squared covariances of different features of x [N, D], over D (equation 4).

    Lightly chooses them by a mask, for which a card has to wait.
    """
    x = x - x.mean(dim=0)
    own = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    return (x.T @ x / (len(x) - 1)).masked_fill(own, 0).pow(2).sum() / x.shape[1]


def build(protocol: str, backbone: nn.Module, size: int, recipe: Recipe, blur: bool) -> VICReg:
    """The method for images of ``size`` pixels."""
    return VICReg(backbone, view(protocol, size), min(1024, 2 * backbone.features))
