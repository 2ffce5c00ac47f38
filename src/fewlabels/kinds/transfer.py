"""Runs of chapter 5 that start from ImageNet: features of a frozen network, and linear probes.

Features are computed once for all images and kept in the cache, as the weights of a pretraining
are; a probe with a share of the labels takes seconds.
"""

from dataclasses import dataclass
from typing import Any

import torch
from lightning.fabric import Fabric
from torch.nn import functional as F

from fewlabels import config, data
from fewlabels.errors import UserError
from fewlabels.kinds.measured import classified, probed, size
from fewlabels.kinds.ssl import task
from fewlabels.learn.features import View, extract
from fewlabels.nets.pretrained import Pretrained, backbone
from fewlabels.runs.records import Experiment, Outcome, Store

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class TransferFeatures(Experiment, kind="transfer-features", recipe=1):
    """What a pretrained network makes of every image; left in the cache, float32 [N, D] by part."""

    source: Pretrained
    size: int
    """Pixels a side that the images are enlarged to, bilinear."""
    images: int = 0
    """At most this many training images, the first ones; 0 takes all."""

    def __post_init__(self):
        config.whole("size", self.size, 1)
        config.whole("images", self.images, 0)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"weights": self.source.checksum}

    @property
    def name(self) -> str:
        """What tables call the network."""
        random = ", random weights" if self.source.weights == "random" else ""
        return f"ImageNet {self.source.architecture}, {self.size} px{random}"

    def cell(self) -> dict[str, str | int]:
        return self.row("", f"features of {self.name}", "frozen", "transfer")

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        seen = task(self.dataset, self.images, fabric.device)
        network = backbone(self.source)

        def enlarged(images: torch.Tensor) -> torch.Tensor:
            return F.interpolate(
                images.float(), size=self.size, mode="bilinear", align_corners=False
            )

        view = View(f"{self.size} px", enlarged)
        found = {
            part: extract(network, getattr(seen, part).images, fabric.device, view)
            for part in PARTS
        }
        parameters = {"total": size(network), "trained": 0, "backbone": size(network)}
        return Outcome({}, parameters=parameters, weights=found)


@dataclass(frozen=True)
class TransferProbe(Experiment, kind="transfer", recipe=1):
    """A linear probe on these features, given the labels of a fraction of the training images."""

    features: TransferFeatures
    fraction: float
    draw: int

    def __post_init__(self):
        config.positive("fraction", self.fraction)
        config.whole("draw", self.draw, 0)
        if self.features.dataset != self.dataset:
            raise UserError(f"dataset is {self.dataset}, its features {self.features.dataset}'s")

    def cell(self) -> dict[str, str | int]:
        return self.features.cell() | {
            "labels": f"{100 * self.fraction:g}%",
            "method": f"{self.features.name}, linear probe",
        }

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        seen = task(self.dataset, self.features.images, fabric.device)
        features = store.weights(self.features, fabric)
        drawn = data.draw_fraction(seen.train.labels, self.fraction, self.draw)
        known = features["train"][drawn], seen.train.labels[drawn]
        scores = probed("linear probe", *known, features["test"], seen.classes)
        truth = seen.test.labels.cpu()
        right = scores.argmax(dim=1) == truth
        recalls = {f"recall_class_{k}": right[truth == k].float().mean() for k in truth.unique()}
        return classified(scores, truth, {name: each.item() for name, each in recalls.items()})
