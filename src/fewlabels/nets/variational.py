"""Variational auto-encoders (Kingma & Welling 2014): their terms, in nats, and what they tell.

The approximate posterior is a Gaussian with diagonal covariance, the prior a standard normal.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fewlabels.errors import UserError

ACTIVE = 0.01
"""A unit is active where the variance of its posterior mean over images exceeds this (Burda et al.
2016, section 5.2)."""


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q || p) of every image: [N], from [N, D] (Kingma & Welling 2014, appendix B).

    Convention: in nats, summed over the units, and not their mean.
    """
    terms = mean.square() + log_variance.exp() - 1 - log_variance
    return 0.5 * terms.sum(dim=1)


def reparameterised(mean: Tensor, log_variance: Tensor) -> Tensor:
    """One draw from every posterior, differentiable in both arguments: [N, D] (section 2.4)."""
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def log_normal(x: Tensor, mean: Tensor | float = 0.0, log_variance: Tensor | None = None) -> Tensor:
    """Log density of a diagonal Gaussian: [..., D] to [...].

    Convention: in nats, summed over the last dimension, with its constant.
    """
    spread = torch.zeros_like(x) if log_variance is None else log_variance
    square = (x - mean).square() / spread.exp()
    return -0.5 * (math.log(2 * math.pi) + spread + square).sum(dim=-1)


def importance_bound(log_weights: Tensor) -> Tensor:
    """The importance-weighted bound on log p(x) (Burda et al. 2016, equation 8): [k, N] to [N].

    log_weights: log p(x, z) - log q(z | x) for k draws of z. With k = 1 it is the ELBO; its
    expectation never falls as k grows, and never exceeds log p(x).

    Convention: the logarithm of the mean weight, not the mean of logarithms; in nats.
    """
    return log_weights.logsumexp(dim=0) - math.log(len(log_weights))


def active_units(means: Tensor) -> int:
    """Number of latent units whose posterior mean varies over images: means is [N, D].

    Convention: the variance over images with N - 1, above `ACTIVE`.
    """
    return int((means.cpu().double().var(dim=0) > ACTIVE).sum())


def decoder_variance(weight: float, pixels: int) -> float:
    """Variance of the Gaussian decoder that a weighted loss assumes.

    ``mean squared error + weight * KL`` is, up to a factor and a constant, the negative ELBO in
    nats of a decoder that adds Gaussian noise of this variance to every one of ``pixels`` pixels:
    the squared error of an image, pixels * MSE, is divided by twice the variance, and KL has to
    keep the factor 1.
    """
    return weight * pixels / 2


def gaussian_elbo(mse: float, kl: float, variance: float, pixels: int) -> float:
    """ELBO of grey images in nats an image, under a Gaussian decoder of this variance.

    Convention: summed over the pixels, constant included; a density's logarithm may be positive.
    With ``variance = mse``, the largest over all variances.
    """
    return -0.5 * pixels * (math.log(2 * math.pi * variance) + mse / variance) - kl


def knee(rate: Sequence[float], distortion: Sequence[float]) -> int:
    """Position of the knee of a falling curve: the point farthest below the chord of its ends.

    Convention: both axes are scaled to 0..1 first (Satopaa et al. 2011, section III); the first of
    equally far points. Raises UserError for
    fewer than three points or where nothing falls.
    """
    x, y = np.asarray(rate, dtype=float), np.asarray(distortion, dtype=float)
    if x.shape != y.shape or x.size < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise UserError(
            f"rate {x.tolist()} and distortion {y.tolist()}: a knee needs three points or more "
            "that differ on both axes."
        )
    x, y = (x - x.min()) / np.ptp(x), (y - y.min()) / np.ptp(y)
    # The chord of a falling curve runs from (0, 1) to (1, 0).
    return int(np.argmax(1 - x - y))
