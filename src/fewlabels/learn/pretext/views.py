"""What methods share that compare two views of every image, and what those on patches share."""

from torch import Tensor, nn

from fewlabels.data.views import View, two_views
from fewlabels.learn.training import Course

LONG = Course(400, 1e-3, 256, "adamw", weight_decay=0.05, schedule="cosine")
"""How protocol ``tuned`` trains transformers. AdamW's second moment keeps its usual 0.999, where
the papers of MAE and AIM take 0.95, and norms, biases and tokens decay like all weights."""


def patch_view(protocol: str, size: int, min_scale: float) -> View:
    """Lightly's view for transformers, bicubic, at ``size`` pixels; ours has no way up."""
    return View(size, min_scale, bicubic=True, vertical_flip=0.0 if protocol == "report" else 0.5)


class TwoViews(nn.Module):
    """Backbone and projection head, the same for both views.

    Args:
        backbone: images to features [N, D].
        head: features to projections [N, width].
        view: drawn twice for every image.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, view: View):
        super().__init__()
        self.backbone = backbone
        self.projection_head = head
        self._view = view

    def views(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, C, H, W] to two float views of every image."""
        return two_views(self._view, images)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Projections [N, width] of both views; batch norm sees one view at a time."""
        return tuple(self.projection_head(self.backbone(view)) for view in (first, second))
