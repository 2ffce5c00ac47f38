"""How near images come to their originals: MSE, PSNR and SSIM, each of single images.

A mean PSNR has two meanings that differ by Jensen's inequality. ``psnr`` here is the mean over
images of each image's own PSNR; ``psnr_pooled`` is the PSNR of the mean squared error over all
images, which is never higher, because a few badly restored images weigh more in it.
"""

import math

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from fewlabels.errors import UserError

SMALLEST = 1e-10
"""Floor of a squared error: identical images get 100 dB and not infinity."""


def squared_error(images: Tensor, originals: Tensor) -> Tensor:
    """Mean squared error of every image: [N], from [N, C, H, W] in 0..1.

    Raises UserError for shapes that differ and for values that are not finite.
    """
    if images.shape != originals.shape or images.ndim != 4:
        raise UserError(
            f"images are {list(images.shape)} and originals {list(originals.shape)}: pass two "
            "equal shapes [N, C, H, W]."
        )
    error = (images - originals).double().square().flatten(1).mean(dim=1)
    if not error.isfinite().all():
        raise UserError("images hold nan or inf: the network has diverged.")
    return error


def psnr(error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1: -10 log10 of squared errors, any shape."""
    return -10 * error.clamp(min=SMALLEST).log10()


def ssim(images: Tensor, originals: Tensor) -> Tensor:
    """Structural similarity of every image (Wang et al. 2004): [N], -1..1.

    Gaussian window of 11 pixels with standard deviation 1.5, peak 1, as in the paper.
    """
    similarity = structural_similarity_index_measure(
        images.float(), originals.float(), data_range=1.0, reduction="none"
    )
    return similarity.reshape(len(images))


@torch.no_grad()
def quality(images: Tensor, originals: Tensor) -> dict[str, float]:
    """``mse``, ``psnr``, ``psnr_pooled`` (dB) and ``ssim`` over images [N, C, H, W] in 0..1."""
    error = squared_error(images, originals)
    pooled = max(error.mean().item(), SMALLEST)
    return {
        "mse": error.mean().item(),
        "psnr": psnr(error).mean().item(),
        "psnr_pooled": -10 * math.log10(pooled),
        "ssim": ssim(images, originals).mean().item(),
    }


def mean_image_error(train: Tensor, images: Tensor) -> float:
    """Mean squared error of the mean of ``train`` on ``images``, both uint8 [N, C, H, W].

    In the unit of pixels in 0..1: what a decoder can do that knows nothing of its image.
    """
    mean = train.float().mean(dim=0) / 255
    return float((images.float() / 255 - mean).square().mean())
