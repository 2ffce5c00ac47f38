"""The networks of the rotation report, by widths, kernels, strides and activation."""

from itertools import pairwise

from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def _dense(sizes: list[int], outputs: int, activation: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise(sizes):
        layers += [nn.Linear(c_in, c_out), ACTIVATIONS[activation]()]
    return [*layers, nn.Linear(sizes[-1], outputs)]


class AngleMLP(nn.Module):
    """Flattened pixels through the ``hidden`` layers."""

    def __init__(self, hidden: tuple[int, ...], activation: str, outputs: int, pixels: int = 784):
        super().__init__()
        self.head = nn.Sequential(nn.Flatten(), *_dense([pixels, *hidden], outputs, activation))

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 1, H, W] to [N, outputs]."""
        return self.head(images)


class AngleCNN(nn.Module):
    """Convolutions without padding, the last one pooled to 4 x 4, then the ``hidden`` layers.

    As the report's code has it: every convolution but the last is followed by the activation and a
    max pooling by two, the last one by an adaptive max pooling alone.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        kernels: tuple[int, ...],
        strides: tuple[int, ...],
        hidden: tuple[int, ...],
        activation: str,
        outputs: int,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        last = len(channels) - 1
        for i, (c_in, c_out) in enumerate(pairwise([1, *channels])):
            layers.append(nn.Conv2d(c_in, c_out, kernels[i], strides[i]))
            if i < last:
                layers += [ACTIVATIONS[activation](), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.AdaptiveMaxPool2d((4, 4)),
            nn.Flatten(),
            *_dense([16 * channels[-1], *hidden], outputs, activation),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 1, H, W] to [N, outputs]."""
        return self.head(self.features(images))
