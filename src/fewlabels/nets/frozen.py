"""Parts of a network that stay as they are while the rest is trained."""

import torch
from torch import Tensor, nn


def keep_statistics(module: nn.Module) -> None:
    """Batch norm of ``module`` in evaluation mode, until it is next told to train."""
    for each in module.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            each.eval()


class Frozen(nn.Module):
    """A frozen ``backbone`` under a ``head`` that is trained.

    Frozen means all of it: no gradients, and evaluation mode for good, so that batch-norm
    statistics do not drift with the new data. With ``moving`` they do drift, and only gradients
    are stopped: what happens where a trainer turns the training mode on for the whole network.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, moving: bool = False):
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.head = head
        self.moving = moving

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        if not self.moving:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to the head's outputs."""
        with torch.no_grad():
            features = self.backbone(images)
        return self.head(features)
