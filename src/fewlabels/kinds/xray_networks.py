"""Runs of chapter 3 that train on the images; see `fewlabels.kinds.chest_xray`."""

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torchvision.transforms import v2

from fewlabels import config, data
from fewlabels.data.augment import affine
from fewlabels.data.views import random_crops
from fewlabels.errors import UserError
from fewlabels.kinds.chest_xray import XrayExperiment, curve_points, layer3, weights_checksum
from fewlabels.kinds.measured import placed
from fewlabels.learn.training import fit, predict
from fewlabels.nets.frozen import keep_statistics
from fewlabels.nets.pretrained import Pretrained, backbone, split
from fewlabels.nets.xray_cnn import SmallXrayNet, TenConvolutions
from fewlabels.runs.records import ADDED, Outcome, Store

NETWORKS = ("ten convolutions", "small", "last block", "all layers")
SMALLEST_CROP = 0.08
"""Share of the image's area, torchvision's default for ``RandomResizedCrop``."""
CURVE_IMAGES = 500
"""Training images behind the training accuracy of networks."""
BACKBONE_FACTOR = 0.1
"""Learning rate of pretrained layers, as a share of the new head's."""


@dataclass(frozen=True)
class NetworkTraining(XrayExperiment, kind="xray-network", recipe=1):
    """A network trained on the images: from scratch, or pretrained layers trained further."""

    network: str = field(kw_only=True)
    """``ten convolutions``: the report's. ``small``: ours. ``last block``, ``all layers``: a
    ResNet with weights from ``source``, its last block or all of it trained."""
    size: int = 64
    source: Pretrained | None = None
    augmented: bool = False
    """Training images slightly turned, moved, zoomed, and changed in contrast."""

    def __post_init__(self):
        super().__post_init__()
        config.one_of("network", self.network, NETWORKS)
        config.whole("size", self.size, 32 if self.network == "ten convolutions" else 16)
        if (self.source is not None) != (self.network in ("last block", "all layers")):
            raise UserError("source goes with the networks last block and all layers")
        if self.augmented and self.network == "last block":
            raise UserError("augmented goes with networks that see images, not with last block")

    def cell(self) -> dict[str, str | int]:
        if self.source is None:
            method, start = f"{self.network} at {self.size} px", "scratch"
        else:
            method = f"{self.source.architecture} at {self.size} px, {self.network}"
            start = "fine-tuned"
        if self.scored_on == "validation":
            method += f", rate {self.training.rate:g}" + (", augmented" * self.augmented)
        return self._cell(method, start)

    def checksums(self) -> dict[str, str]:
        own = weights_checksum(self.source) if self.source is not None else {}
        return super().checksums() | own

    def execute(self, fabric: Fabric, store: Store) -> Outcome:
        torch.manual_seed(self.seed)
        own = self._split(fabric.device)
        network, slower = self._network()
        network = placed(network, fabric)
        images = self._inputs("train", fabric.device)
        positions, objective = self._objective(own)

        def loss(module: nn.Module, index: Tensor) -> Tensor:
            at = positions(index)
            return objective(module(self._view(images[at].float())), at)

        some = own.kept[:: -(-len(own.kept) // CURVE_IMAGES)]

        def evaluate(module: nn.Module) -> dict[str, float]:
            known, held = (
                (predict(module, self._scored(images[at]), 100), own.labels[at])
                for at in (some, own.held)
            )
            return curve_points(known, held)

        curves = fit(
            network, loss, len(own.kept), self.training, fabric, evaluate, str(self), slower
        )
        valid, test = predict(network, self._scored(images[own.held]), 100), None
        if self.scored_on == "test":
            test = predict(network, self._scored(self._inputs("test", fabric.device)), 100)
        return self._outcome(own, valid, test, curves, network, None)

    def _view(self, batch: Tensor) -> Tensor:
        """Training images, float, as the network sees them."""
        return deformed(batch) if self.augmented else batch

    def _scored(self, images: Tensor) -> Tensor:
        """Validation and test images as the network sees them."""
        return images

    def _network(self) -> tuple[nn.Module, tuple[nn.Module, float] | None]:
        if self.network == "ten convolutions":
            return nn.Sequential(Scaled(), TenConvolutions(self.classes, self.size)), None
        if self.network == "small":
            return nn.Sequential(Scaled(), SmallXrayNet(self.classes)), None
        body = backbone(self.source)
        trained: nn.Module = body
        if self.network == "last block":
            trained = LastBlock(split(body, 1)[1])
        network = nn.Sequential(trained, nn.Linear(body.features, self.classes))
        return network, (trained, BACKBONE_FACTOR)

    def _inputs(self, part: str, device: torch.device) -> Tensor:
        if self.network == "last block":
            return layer3(self.dataset, part, self.source, self.size, device)
        return resized(self.dataset, part, self.size, device)


@dataclass(frozen=True)
class ReportFineTuning(NetworkTraining, kind="xray-report-fine-tuning", recipe=1):
    """Protocol ``report``, read otherwise: nothing is frozen.

    All layers are trained at one rate on the report's random crops, and the crops are drawn in
    evaluation as well.
    """

    moving: bool = field(default=False, kw_only=True, metadata=ADDED)
    """Batch norm takes the statistics of each training batch and moves its own, as in PyTorch's own
    training mode. False: it keeps those of ImageNet."""

    def __post_init__(self):
        super().__post_init__()
        config.one_of("network", self.network, ["all layers"])
        config.one_of("protocol", self.protocol, ["report"])

    def cell(self) -> dict[str, str | int]:
        own = super().cell()
        return own | {"method": f"{own['method']}, crops{', moving statistics' * self.moving}"}

    def _network(self) -> tuple[nn.Module, None]:
        network, _ = super()._network()
        network[0].moving = self.moving
        return network, None

    def _view(self, batch: Tensor) -> Tensor:
        return random_crops(batch, self.size, SMALLEST_CROP, flip=0)

    def _scored(self, images: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            crops = [
                random_crops(part.cpu().float(), self.size, SMALLEST_CROP, flip=0)
                for part in images.split(200)
            ]
        return torch.cat(crops).to(images.device)


class Scaled(nn.Module):
    """Pixels 0..255 to 0..1, as torchvision's ``ToTensor`` does."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 255


class LastBlock(nn.Module):
    """The end of a ResNet on stored outputs of its beginning, batch norm in evaluation mode."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def train(self, mode: bool = True) -> "LastBlock":
        super().train(mode)
        keep_statistics(self)
        return self

    def forward(self, outputs: Tensor) -> Tensor:
        return self.layers(outputs.float())


@lru_cache(maxsize=4)
def resized(dataset: str, part: str, size: int, device: torch.device) -> Tensor:
    """The images, uint8 [N, 1, size, size], on the device."""
    images = getattr(data.chest(dataset), part).images
    if images.shape[-1] != size:
        images = torch.cat(
            [v2.functional.resize(each, [size, size], antialias=True) for each in images.split(200)]
        )
    return images.to(device)


def deformed(images: Tensor) -> Tensor:
    """Float images 0..255 as another exposure might show them: turned by up to 7 degrees, moved by
    up to 5%, zoomed by up to 10%, contrast and brightness changed. Never mirrored: the heart lies
    on the left."""
    n = len(images)
    moved = affine(images, degrees=7, shift=0.05 * images.shape[-1], zoom=0.1)
    contrast, brightness = torch.rand(2, n, 1, 1, 1, device=images.device) * 2 - 1
    return (moved * (1 + 0.2 * contrast) + 25 * brightness).clamp(0, 255)
