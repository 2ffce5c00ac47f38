"""SimCLR (Chen et al. 2020): two views of an image lie closer than views of different images.

Lightly's example is the model of protocol ``report``, with the source's head (1,024 wide) and
without the blur.
"""

import torch
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.data.views import View
from fewlabels.learn.pretext.views import TwoViews
from fewlabels.learn.training import Course, Recipe

NETWORKS = {"report": "resnet18", "tuned": "resnet18-small"}
COURSES = {
    "report": Course(epochs=100, rate=0.06, momentum=0.0, schedule="constant"),
    "tuned": Course(epochs=200, rate=0.06, batch_size=256, weight_decay=5e-4, schedule="cosine"),
}
TEMPERATURES = {"report": 0.5, "tuned": 0.2}


def view(protocol: str, size: int, blur: bool) -> View:
    """Lightly's view at ``size`` pixels, or ours: milder crops and colours, and no way up."""
    if protocol == "report":
        colours = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
        return View(size, 0.08, jitter=0.8, grey=0.2, blur=0.5 * blur, **colours)
    colours = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
    return View(size, 0.3, vertical_flip=0.5, jitter=0.8, grey=0.2, blur=0.5 * blur, **colours)


class SimCLR(TwoViews):
    """Backbone and projection head g of section 2.1.

    Args:
        backbone: images to features [N, D], with their number as ``features``.
        view: drawn twice for every image.
        temperature: tau of equation 1.
        width: of the head's two layers.
    """

    def __init__(
        self,
        backbone: nn.Module,
        view: View,
        temperature: float = 0.5,
        width: int = 1024,
    ):
        super().__init__(backbone, SimCLRProjectionHead(backbone.features, width, width), view)
        self.temperature = temperature

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """NT-Xent (equation 1), the mean over all 2N views."""
        return nt_xent(first, second, self.temperature)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Equation 1 for projections [N, D] of two views: each finds its partner among 2N - 1 others.

    As Lightly's loss, up to rounding; that one chooses by a mask, for which a card has to wait.
    """
    z = F.normalize(torch.cat([first, second]), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    partner = torch.arange(len(z), device=z.device).roll(len(first))
    return F.cross_entropy(similarity, partner)


def build(protocol: str, backbone: nn.Module, size: int, recipe: Recipe, blur: bool) -> SimCLR:
    """The method for images of ``size`` pixels."""
    width = min(1024, 2 * backbone.features)
    return SimCLR(backbone, view(protocol, size, blur), TEMPERATURES[protocol], width)
