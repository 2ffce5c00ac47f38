"""Masked autoencoder (He et al. 2022): three quarters of the patches are hidden and painted again.

Protocol ``report`` is Lightly's example and the source's choice: a ViT-B/32 on images enlarged to
224 pixels, a decoder of one block. ``tuned`` has a transformer made for 28 pixels, 49 patches of 4
in place of 49 of 32, and normalises the pixels of each patch, as section 4.1 of the paper advises.
"""

from functools import partial

import torch
from lightly.models import utils
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM
from lightly.models.modules.masked_vision_transformer_timm import init_weights
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.data.views import View
from fewlabels.learn.pretext.views import LONG, patch_view
from fewlabels.learn.training import Course, Recipe
from fewlabels.nets.vit import MaskedViT

NETWORKS = {"report": "vit-b32", "tuned": "vit-28"}
COURSES = {
    "report": Course(
        epochs=50, rate=1.5e-4, optimiser="adamw", weight_decay=0.01, schedule="constant"
    ),
    "tuned": LONG,
}
HIDDEN = 0.75
"""Share of the patches that is hidden."""
view = partial(patch_view, min_scale=0.2)


class MAE(nn.Module):
    """Encoder of the visible patches, and a decoder of all of them (section 3).

    Args:
        backbone: the encoder.
        view: of each image, at the encoder's size.
        width: of the decoder.
        depth: blocks of the decoder.
        heads: its attention heads.
        normalise: predict each patch's pixels minus their mean, over their deviation.
    """

    def __init__(
        self,
        backbone: MaskedViT,
        view: View,
        width: int = 512,
        depth: int = 1,
        heads: int = 16,
        normalise: bool = False,
    ):
        super().__init__()
        self.backbone = backbone
        self.decoder_embed = nn.Linear(backbone.features, width).apply(init_weights)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=backbone.patches, embed_dim=width, depth=depth, num_heads=heads
        )
        self.predict = nn.Linear(width, backbone.patch**2 * backbone.channels).apply(init_weights)
        self.normalise = normalise
        self._view = view

    def views(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One view of every image, and the positions kept and hidden, see :meth:`positions`."""
        return self._view(images), *self.positions(len(images), images.device)

    def positions(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Random positions kept [count, k] and hidden [count, L - k].

        Position 0 is the class token, which is always kept; patch i is position i + 1.
        """
        return utils.random_token_mask(
            size=(count, self.backbone.patches + 1), mask_ratio=HIDDEN, device=device
        )

    def forward(self, views: Tensor, kept: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted and true pixels [N, hidden, patch * patch * C] of the hidden patches."""
        visible = self.decoder_embed(self.backbone.encode(views, kept))
        tokens = visible.new_zeros(len(views), self.backbone.patches + 1, visible.shape[2])
        tokens = utils.set_at_index(tokens, kept, visible)
        decoded = self.decoder(tokens, idx_mask=hidden)
        predicted = self.predict(utils.get_at_index(decoded, hidden))
        target = utils.get_at_index(utils.patchify(views, self.backbone.patch), hidden - 1)
        return predicted, utils.normalize_mean_var(target) if self.normalise else target

    def loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Mean squared error over the pixels of the hidden patches alone."""
        return F.mse_loss(predicted, target)


def repainted(network: MAE, views: Tensor, kept: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Images as the encoder sees them, and with the hidden patches as the decoder paints them.

    Hidden patches are 0, the mean colour, in the first. For a network that predicts raw pixels.
    """
    patches = utils.patchify(views, network.backbone.patch)
    predicted, _ = network(views, kept, hidden)
    seen = utils.set_at_index(patches, hidden - 1, torch.zeros_like(predicted))
    painted = utils.set_at_index(patches, hidden - 1, predicted.to(patches.dtype))
    return tuple(
        utils.unpatchify(each, network.backbone.patch, network.backbone.channels)
        for each in (seen, painted)
    )


def build(protocol: str, backbone: MaskedViT, size: int, recipe: Recipe, blur: bool) -> MAE:
    """The method; the encoder's size counts, to which the views are enlarged."""
    small = backbone.features < 512
    return MAE(
        backbone,
        view(protocol, backbone.size),
        width=max(32, backbone.features // 2) if small else 512,
        depth=2 if protocol == "tuned" else 1,
        heads=4 if small else 16,
        normalise=protocol == "tuned",
    )
