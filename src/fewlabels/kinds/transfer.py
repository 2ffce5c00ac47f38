"""Runs of chapter 5 that start from ImageNet: linear probes on a frozen network's features, and
weights for a classifier of the grid to start from.

Features are computed once for all images and kept in the cache, as the weights of a pretraining
are; a probe with a share of the labels takes seconds.
"""

from dataclasses import dataclass
from typing import Any

from lightning.fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from fewlabels import config, data
from fewlabels.errors import UserError
from fewlabels.kinds.measured import classified, probed, size
from fewlabels.kinds.ssl import task
from fewlabels.learn.features import View, extract
from fewlabels.nets.backbones import NAMES
from fewlabels.nets.backbones import backbone as new_backbone
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

        def enlarged(images: Tensor) -> Tensor:
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


@dataclass(frozen=True)
class TransferStart(Experiment, kind="transfer-start", recipe=1):
    """ImageNet's weights in a backbone of the grid, for `fewlabels.kinds.classes.Classification`
    in protocol ``transfer``, which normalises the images as these weights expect."""

    source: Pretrained
    network: str
    images: int = 0
    """At most this many training images, the first ones; 0 takes all. The weights see none."""
    tiny: bool = False
    """The small network of tests, with random weights."""

    def __post_init__(self):
        config.one_of("network", self.network, NAMES)
        if self.network != self.source.architecture:
            raise UserError(
                f"network is {self.network}, the weights are {self.source.architecture}'s"
            )

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"weights": self.source.checksum}

    @property
    def protocol(self) -> str:
        """That of the classifiers."""
        return "transfer"

    @property
    def name(self) -> str:
        """What tables call the start."""
        return "imagenet"

    def cell(self) -> dict[str, str | int]:
        return self.row("", f"weights of {self.source.architecture}", "scratch", self.protocol)

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        seen = task(self.dataset, self.images, fabric.device)
        trunk = new_backbone(self.network, seen.size, seen.channels, self.tiny)
        if not self.tiny:
            trunk.network.load_state_dict(backbone(self.source).body.state_dict())
        return Outcome({}, parameters={"total": size(trunk)}, weights=trunk.state_dict())
