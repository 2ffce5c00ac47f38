"""MoCo v2 (He et al. 2020, Chen et al. 2020): find an image's key among those of earlier batches.

Lightly's example is the model of protocol ``report``: 4,096 keys in memory, a momentum that rises
from 0.996 to 1 over the epochs, temperature 0.5, and no shuffling of the keys' batch.
"""

import copy

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from fewlabels.augment import View, two_views
from fewlabels.training import Course, EpochRecipe

NETWORKS = {"report": "resnet18", "tuned": "resnet18-small"}
COURSES = {
    "report": Course(epochs=100, rate=0.06, momentum=0.0, schedule="constant"),
    "tuned": Course(epochs=200, rate=0.06, batch_size=256, weight_decay=5e-4, schedule="cosine"),
}
TEMPERATURES = {"report": 0.5, "tuned": 0.2}
KEYS = 4096


def view(protocol: str, size: int, blur: bool) -> View:
    """Lightly's view at ``size`` pixels, or ours, which also have no way up."""
    colours = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
    up = {} if protocol == "report" else {"vertical_flip": 0.5}
    return View(size, 0.2, jitter=0.8, grey=0.2, blur=0.5 * blur, **up, **colours)


class MoCo(nn.Module):
    """Query encoder, slowly following key encoder, and a memory of keys (algorithm 1).

    Args:
        backbone: images to features [N, D], with their number as ``features``.
        view: of the query and of the key.
        temperature: tau of equation 1.
        epochs: over which the momentum rises.
        epoch_steps: updates in an epoch.
        keys: size of the memory.
        width: of the head's two layers.
    """

    def __init__(
        self,
        backbone: nn.Module,
        view: View,
        temperature: float,
        epochs: int,
        epoch_steps: int,
        keys: int = KEYS,
        width: int = 1024,
    ):
        super().__init__()
        self.backbone = backbone
        self.projection_head = MoCoProjectionHead(backbone.features, width, width)
        self.key_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.key_projection_head = copy.deepcopy(self.projection_head).requires_grad_(False)
        self.criterion = NTXentLoss(temperature=temperature, memory_bank_size=(keys, width))
        self._view = view
        self.epochs, self.epoch_steps, self.step = epochs, epoch_steps, 0

    def views(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, C, H, W] to the views of query and key."""
        return two_views(self._view, images)

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Projections [N, width] of both; in training the key encoder moves first (equation 2)."""
        if self.training:
            momentum = cosine_schedule(self.step // self.epoch_steps, self.epochs, 0.996, 1)
            update_momentum(self.backbone, self.key_backbone, m=momentum)
            update_momentum(self.projection_head, self.key_projection_head, m=momentum)
            self.step += 1
        with torch.no_grad():
            keys = self.key_projection_head(self.key_backbone(key))
        return self.projection_head(self.backbone(query)), keys

    def loss(self, query: Tensor, key: Tensor) -> Tensor:
        """InfoNCE (equation 1) over the positive key and the memory, which then takes the keys."""
        return self.criterion(query, key)


def build(protocol: str, backbone: nn.Module, size: int, recipe: EpochRecipe, blur: bool) -> MoCo:
    """The method for images of ``size`` pixels, trained by ``recipe``."""
    epochs = max(1, recipe.steps // recipe.epoch_steps)
    return MoCo(
        backbone,
        view(protocol, size, blur),
        TEMPERATURES[protocol],
        epochs,
        recipe.epoch_steps,
        width=min(1024, 2 * backbone.features),
    )
