"""MoCo v2 (He et al. 2020, Chen et al. 2020): find an image's key among those of earlier batches.

Lightly's example is the model of protocol ``report``: 4,096 keys in memory, a momentum that rises
from 0.996 to 1 over the epochs, temperature 0.5, and no shuffling of the keys' batch.
"""

import copy

import torch
from lightly.models.modules import MoCoProjectionHead
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.data.views import View
from fewlabels.learn.pretext.views import TwoViews
from fewlabels.learn.training import Course, EpochRecipe

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


class MoCo(TwoViews):
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
        super().__init__(backbone, MoCoProjectionHead(backbone.features, width, width), view)
        self.key_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.key_projection_head = copy.deepcopy(self.projection_head).requires_grad_(False)
        self.temperature = temperature
        self.epoch_steps = epoch_steps
        # All that changes from step to step lies on the device, so that a step can be captured.
        state = {
            "memory": F.normalize(torch.randn(keys, width), dim=1),
            "oldest": torch.zeros(1, dtype=torch.int64),
            "step": torch.zeros(1, dtype=torch.int64),
            "momenta": torch.tensor([cosine_schedule(e, epochs, 0.996, 1) for e in range(epochs)]),
        }
        for name, tensor in state.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Projections [N, width] of both; in training the key encoder moves first (equation 2)."""
        if self.training:
            self._follow()
        with torch.no_grad():
            keys = self.key_projection_head(self.key_backbone(key))
        return self.projection_head(self.backbone(query)), keys

    def loss(self, query: Tensor, key: Tensor) -> Tensor:
        """InfoNCE (equation 1) over the positive key and the memory, which then takes the keys.

        As Lightly's loss, which asks the device where the oldest keys are.
        """
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
        others = query @ self.memory.T.clone()
        logits = torch.cat([(query * key).sum(dim=1, keepdim=True), others], dim=1)
        if query.requires_grad:
            self._remember(key.detach())
        positive = torch.zeros(len(query), dtype=torch.int64, device=query.device)
        return F.cross_entropy(logits / self.temperature, positive)

    @torch.no_grad()
    def _follow(self) -> None:
        momentum = self.momenta[self.step // self.epoch_steps].squeeze(0)
        for leader, follower in (
            (self.backbone, self.key_backbone),
            (self.projection_head, self.key_projection_head),
        ):
            own = list(follower.parameters())
            torch._foreach_mul_(own, momentum)
            torch._foreach_add_(own, torch._foreach_mul(list(leader.parameters()), 1 - momentum))
        self.step += 1

    @torch.no_grad()
    def _remember(self, keys: Tensor) -> None:
        places = self.oldest + torch.arange(len(keys), device=keys.device)
        self.memory.index_copy_(0, places % len(self.memory), keys)
        self.oldest.copy_((self.oldest + len(keys)) % len(self.memory))


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
