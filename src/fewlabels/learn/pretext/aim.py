"""AIM (El-Nouby et al. 2024): patches in reading order, each told from those before.

A random prefix of the patches sees itself in both directions, the rest only what lies before
(section 3.2). Protocol ``report`` is Lightly's example with the source's settings. As written
there, the prediction at a position is compared with the patch at that *same* position, which is
among its inputs: the task can be solved by copying. Protocol ``tuned`` asks each position for the
*next* patch, outside the prefix only, as equation 1 and section 3.2 of the paper have it.
"""

from functools import partial

import torch
from lightly.models import utils
from lightly.models.modules import AIMPredictionHead
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.data.views import View
from fewlabels.learn.pretext.views import LONG, patch_view
from fewlabels.learn.training import Course, Recipe
from fewlabels.nets.vit import CausalViT

NETWORKS = {"report": "aim", "tuned": "aim-tuned"}
COURSES = {
    "report": Course(
        epochs=100, rate=1.5e-4, optimiser="adamw", weight_decay=0.01, schedule="constant"
    ),
    "tuned": LONG,
}
view = partial(patch_view, min_scale=0.4)


class AIM(nn.Module):
    """Causal transformer and prediction head.

    Args:
        backbone: the transformer.
        view: of each image.
        width: of the head.
        following: predict the next patch behind the prefix; else the patch at hand, everywhere.
    """

    def __init__(self, backbone: CausalViT, view: View, width: int = 2048, following: bool = False):
        super().__init__()
        self.backbone = backbone
        self.projection_head = AIMPredictionHead(
            input_dim=backbone.features,
            output_dim=backbone.channels * backbone.patch**2,
            hidden_dim=width,
            num_blocks=1,
        )
        self.following = following
        self._view = view

    def views(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """One view of every image, and what lies behind its prefix, see :meth:`prefixes`."""
        return self._view(images), self.prefixes(len(images), images.device)

    def prefixes(self, count: int, device: torch.device) -> Tensor:
        """bool [count, L], False within a prefix of random length and True behind it."""
        return utils.random_prefix_mask(
            size=(count, self.backbone.patches),
            max_prefix_length=self.backbone.patches - 1,
            device=device,
        )

    def predict(self, views: Tensor, beyond: Tensor) -> Tensor:
        """Predicted patches [N, L, patch * patch * C], normalised, one per position."""
        tokens = self.backbone.tokens(views, beyond)
        return self.projection_head(self.backbone.vit._pos_embed(tokens))

    def forward(self, views: Tensor, beyond: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predictions, the patches they are compared with, and which count (bool [N, L])."""
        predicted = self.predict(views, beyond)
        target = utils.normalize_mean_var(utils.patchify(views, self.backbone.patch))
        if self.following:
            return predicted[:, :-1], target[:, 1:], beyond[:, 1:]
        return predicted, target, beyond.new_ones(beyond.shape)

    def loss(self, predicted: Tensor, target: Tensor, counted: Tensor) -> Tensor:
        """Mean squared error over the pixels of the patches that count (equation 2)."""
        each = F.mse_loss(predicted, target, reduction="none").mean(dim=2)
        counted = counted.to(each.dtype)
        return (each * counted).sum() / counted.sum()


def build(protocol: str, backbone: CausalViT, size: int, recipe: Recipe, blur: bool) -> AIM:
    """The method for images of the transformer's size."""
    width = 2048 if backbone.features >= 256 else max(64, 2 * backbone.features)
    return AIM(backbone, view(protocol, backbone.size), width, following=protocol == "tuned")
