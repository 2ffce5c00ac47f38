"""The auto-encoders of the course sheet and, beside them, a small U-Net and a dense VAE.

Keras pads 'same' on the right and below; PyTorch's pooling and transposed convolutions pad here on
the left and above. One is the other's mirror image, so the networks are the sheet's up to a
reflection. A rectifier follows every pooling instead of preceding it: the maximum of the rectified
values is the rectified maximum, on a quarter of the values.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewlabels.nets.sheet_cnn import keras_start
from fewlabels.nets.variational import reparameterised

SIDE = 7
"""Width and height of the smallest feature map: 28 -> 14 -> 7."""
LATENTS = 2
"""Dimensions of the sheet's latent plane."""


def _down(c_in: int, c_out: int) -> list[nn.Module]:
    convolution = nn.Conv2d(c_in, c_out, 3, padding=1)
    return [convolution, nn.MaxPool2d(3, stride=2, padding=1), nn.ReLU()]


def _up(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(c_in, c_out, 3, 2, padding=1, output_padding=1), nn.ReLU()]


def _image(c_in: int, sigmoid: bool = True) -> list[nn.Module]:
    return [nn.Conv2d(c_in, 1, 3, padding=1), *([nn.Sigmoid()] if sigmoid else [])]


class DenoisingAutoencoder(nn.Module):
    """The sheet's network of section 2.2: 16 and 32 filters down, 32 and 16 up, one image.

    The code is 32 x 7 x 7, twice as many numbers as the image has pixels. The sheet leaves the last
    activation open: a sigmoid, whose images are in 0..1, or none, whose images may leave 0..1.
    """

    def __init__(self, sigmoid: bool = False):
        super().__init__()
        self.encoder = nn.Sequential(*_down(1, 16), *_down(16, 32))
        self.decoder = nn.Sequential(*_up(32, 32), *_up(32, 16), *_image(16, sigmoid))
        keras_start(self)

    def forward(self, images: Tensor) -> Tensor:
        """Noisy images [N, 1, 28, 28] to clean ones."""
        return self.decoder(self.encoder(images))


class SmallUNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) of three scales; it learns what to add to the image."""

    def __init__(self):
        super().__init__()
        w = 8
        self.fine = nn.Sequential(nn.Conv2d(1, w, 3, padding=1), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(w, 3 * w, 3, stride=2, padding=1), nn.ReLU())
        self.coarse = nn.Sequential(
            nn.Conv2d(3 * w, 6 * w, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6 * w, 6 * w, 3, padding=1),
            nn.ReLU(),
        )
        self.up_middle = nn.Sequential(nn.Conv2d(9 * w, 3 * w, 3, padding=1), nn.ReLU())
        self.up_fine = nn.Sequential(nn.Conv2d(4 * w, 2 * w, 3, padding=1), nn.ReLU())
        self.change = nn.Conv2d(2 * w, 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Noisy images [N, 1, 28, 28] to clean ones; they may leave 0..1."""
        fine = self.fine(images)
        middle = self.middle(fine)
        coarse = F.interpolate(self.coarse(middle), scale_factor=2)
        middle = F.interpolate(self.up_middle(torch.cat([coarse, middle], dim=1)), scale_factor=2)
        return images + self.change(self.up_fine(torch.cat([middle, fine], dim=1)))


class VariationalAutoencoder(nn.Module):
    """An ``encoder`` to twice ``latents`` numbers (mean and log variance) and a ``decoder``."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N, 1, 28, 28] to the posterior's mean and log variance, each [N, latents]."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, log_variance

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images to decoded images, from one draw of every posterior; mean; log variance."""
        mean, log_variance = self.encode(images)
        return self.decoder(reparameterised(mean, log_variance)), mean, log_variance


def sheet_vae() -> VariationalAutoencoder:
    """The sheet's networks of sections 3.1 and 3.2; decoded images are in 0..1.

    The sheet names no activation for its two dense layers, so they are linear. Its two last dense
    layers, mu and log_var, are the two halves of one here.
    """
    encoder = nn.Sequential(
        *_down(1, 32),
        *_down(32, 32),
        nn.Flatten(),
        nn.Linear(32 * SIDE * SIDE, 16),
        nn.Linear(16, 2 * LATENTS),
    )
    decoder = nn.Sequential(
        nn.Linear(LATENTS, 32 * SIDE * SIDE),
        nn.Unflatten(1, (32, SIDE, SIDE)),
        *_up(32, 32),
        *_up(32, 16),
        *_image(16),
    )
    network = VariationalAutoencoder(encoder, decoder)
    for part in (encoder[:-1], decoder):
        keras_start(part)
    for half in encoder[-1].weight.data.chunk(2):
        nn.init.xavier_uniform_(half)
    nn.init.zeros_(encoder[-1].bias)
    return network


def dense_vae(latents: int) -> VariationalAutoencoder:
    """Two hidden layers of 200 units each way (Burda et al. 2016, section 5); decodes to logits."""

    def layers(sizes: tuple[int, ...]) -> list[nn.Module]:
        hidden = [[nn.Linear(a, b), nn.ReLU()] for a, b in pairwise(sizes[:-1])]
        return [*(layer for pair in hidden for layer in pair), nn.Linear(sizes[-2], sizes[-1])]

    encoder = nn.Sequential(nn.Flatten(), *layers((784, 200, 200, 2 * latents)))
    decoder = nn.Sequential(*layers((latents, 200, 200, 784)), nn.Unflatten(1, (1, 28, 28)))
    return VariationalAutoencoder(encoder, decoder)
