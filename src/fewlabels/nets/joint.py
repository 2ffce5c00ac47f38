"""One backbone under two heads, for methods that learn two tasks at once."""

import torch
from torch import Tensor, nn

from fewlabels.nets.compact import CompactNet


class JointNet(nn.Module):
    """A compact backbone with a main head and an auxiliary one."""

    def __init__(self, outputs: int, auxiliary: int):
        super().__init__()
        network = CompactNet(outputs)
        self.backbone, self.head = network.backbone, network.head
        self.auxiliary = nn.Linear(network.features, auxiliary)

    def forward(self, images: Tensor, others: Tensor | None = None):
        """Main logits of ``images``; where ``others`` are given, also their auxiliary logits.

        Both go through the backbone as one batch, so that batch norm sees one mixture.
        """
        if others is None:
            return self.head(self.backbone(images))
        features = self.backbone(torch.cat([images, others]))
        return self.head(features[: len(images)]), self.auxiliary(features[len(images) :])
