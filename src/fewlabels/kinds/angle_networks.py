"""The networks of chapter 2 as parts of a config: frozen dataclasses that build them."""

import math
from dataclasses import dataclass
from functools import partial

from torch import nn

from fewlabels import config
from fewlabels.errors import UserError
from fewlabels.nets.c4 import C4Net
from fewlabels.nets.compact import CompactNet
from fewlabels.nets.report_angle import ACTIVATIONS, AngleCNN, AngleMLP
from fewlabels.nets.small_resnet import SmallResNet
from fewlabels.nets.stack import DOWNS, PADDINGS, C4Stack, ConvStack, UndirectedStack


@dataclass(frozen=True)
class MLP:
    """The report's multi-layer perceptron."""

    hidden: tuple[int, ...] = (128, 128)
    activation: str = "relu"
    kind: str = "mlp"

    def __post_init__(self):
        _check_layers(self, ("hidden",))

    def build(self, outputs: int, pixels: int) -> nn.Module:
        return AngleMLP(self.hidden, self.activation, outputs, pixels)


@dataclass(frozen=True)
class CNN:
    """The report's convolutional network."""

    channels: tuple[int, ...] = (16, 32, 48)
    kernels: tuple[int, ...] = (3, 3, 3)
    strides: tuple[int, ...] = (1, 1, 1)
    hidden: tuple[int, ...] = (128,)
    activation: str = "relu"
    kind: str = "cnn"

    def __post_init__(self):
        _check_layers(self, ("channels", "kernels", "strides", "hidden"))
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            raise UserError(
                f"channels, kernels and strides have {len(self.channels)}, {len(self.kernels)} and "
                f"{len(self.strides)} entries; allowed: one each per convolution"
            )

    def build(self, outputs: int, pixels: int) -> nn.Module:
        return AngleCNN(
            self.channels, self.kernels, self.strides, self.hidden, self.activation, outputs
        )


@dataclass(frozen=True)
class Compact:
    """Our convolutional network with batch norm, see `fewlabels.nets.compact`."""

    width: int = 12
    kind: str = "cnn"

    def build(self, outputs: int, pixels: int) -> nn.Module:
        return CompactNet(outputs, self.width)


@dataclass(frozen=True)
class ResNet:
    """See `fewlabels.nets.small_resnet`."""

    width: int = 12
    kind: str = "resnet"

    def build(self, outputs: int, pixels: int) -> nn.Module:
        return SmallResNet(self.width, outputs)


@dataclass(frozen=True)
class C4:
    """Equivariant to quarter turns, see `fewlabels.nets.c4`; its output is on the circle."""

    width: int = 4
    kind: str = "c4"

    def build(self, outputs: int, pixels: int) -> nn.Module:
        if outputs != 2:
            raise UserError("network c4 answers with a vector: its output is circle, not number")
        return C4Net(self.width, side=math.isqrt(pixels))


@dataclass(frozen=True)
class Stack:
    """Three convolutions to measure equivariance on, see `fewlabels.nets.stack`."""

    group: str = "plain"
    """``plain``, ``c4``, ``pointwise`` or ``symmetric``; only plain ones go down in resolution."""
    padding: str = "zeros"
    down: str = "none"
    kind: str = "stack"

    def __post_init__(self):
        config.one_of("group", self.group, ("plain", *STACKS))
        config.one_of("padding", self.padding, PADDINGS)
        config.one_of("down", self.down, DOWNS)
        if self.group != "plain" and (self.padding, self.down) != ("zeros", "none"):
            raise UserError(f"group {self.group} goes with padding zeros and down none")
        if "blurred" in self.down and self.padding != "circular":
            raise UserError("blurring goes with padding circular")
        # Names the cell in the tables.
        parts = (self.group, f"padding {self.padding}", f"down {self.down}")
        object.__setattr__(self, "kind", f"stack, {', '.join(parts)}")

    def build(self, outputs: int, pixels: int) -> nn.Module:
        if self.group == "plain":
            return ConvStack(self.padding, self.down, outputs)
        return STACKS[self.group](outputs)


STACKS = {
    "c4": C4Stack,
    "pointwise": partial(UndirectedStack, 1),
    "symmetric": partial(UndirectedStack, 3),
}
Network = MLP | CNN | Compact | ResNet | C4 | Stack


def _check_layers(network, keys: tuple[str, ...]) -> None:
    config.one_of("activation", network.activation, ACTIVATIONS)
    for key in keys:
        sizes = getattr(network, key)
        if not sizes:
            raise UserError(f"{key} is empty; allowed: one whole number per layer")
        for size in sizes:
            config.whole(key, size, 1)
