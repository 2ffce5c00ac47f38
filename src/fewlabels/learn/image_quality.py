"""How near images come to their originals: MSE, PSNR and SSIM, each of single images in 0..1.

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
WINDOW = 11
"""Side of SSIM's window, pixels."""


def squared_error(images: Tensor, originals: Tensor) -> Tensor:
    """Mean squared error over the pixels of every image: [N], from floats [N, C, H, W] in 0..1.

    Convention: the mean over pixels and channels, not their sum. Raises UserError for other types
    and values, no image, and shapes that differ.
    """
    _check(images, originals)
    return (images - originals).cpu().double().square().flatten(1).mean(dim=1)


def psnr(error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1, -10 log10 of mean squared errors [...].

    Convention: one value an image; identical images have 100 dB (`SMALLEST`).
    """
    return -10 * error.clamp(min=SMALLEST).log10()


def ssim(images: Tensor, originals: Tensor) -> Tensor:
    """Structural similarity of every image: [N], -1..1, from floats [N, C, H, W] in 0..1.

    Convention: that of the paper (Wang et al. 2004) and its code. A Gaussian window of 11 pixels
    with standard deviation 1.5 whose weights sum to one, K 0.01 and 0.03, peak 1, and the mean over
    the places where the window lies in the image: nothing is padded. torchmetrics' own mean counts
    the borders of a reflected padding, which are as empty as the margins of MNIST's digits.

    Raises UserError as `squared_error` does, and for sides under 11 pixels.
    """
    _check(images, originals)
    if min(images.shape[2:]) < WINDOW:
        raise UserError(f"images are {list(images.shape)}: SSIM's window needs {WINDOW} pixels.")
    _, places = structural_similarity_index_measure(
        images.float(),
        originals.float(),
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    edge = WINDOW // 2
    return places[..., edge:-edge, edge:-edge].flatten(1).mean(dim=1)


@torch.no_grad()
def quality(images: Tensor, originals: Tensor) -> dict[str, float]:
    """``mse``, ``psnr`` and ``psnr_pooled`` (dB) over images, floats [N, C, H, W] in 0..1.

    Convention: ``psnr`` is the mean of the images' own, ``psnr_pooled`` that of their mean error.
    Raises UserError as `squared_error` does.
    """
    error = squared_error(images, originals)
    pooled = max(error.mean().item(), SMALLEST)
    return {
        "mse": error.mean().item(),
        "psnr": psnr(error).mean().item(),
        "psnr_pooled": -10 * math.log10(pooled),
    }


def mean_image_error(train: Tensor, images: Tensor) -> float:
    """Mean squared error of the mean of ``train`` on ``images``, both uint8 [N, C, H, W].

    What a decoder can do that knows nothing of its image.

    Convention: in the unit of pixels in 0..1; the mean image is not rounded to grey levels. Raises
    UserError for other types, no image, and images of different shapes.
    """
    for each in (train, images):
        if each.dtype != torch.uint8 or each.ndim != 4 or each.shape[1:] != images.shape[1:]:
            raise UserError(f"images are {_called(each)}: pass uint8 [N, C, H, W], all alike.")
        if not len(each):
            raise UserError("images are empty: pass at least one.")
    mean = train.float().mean(dim=0) / 255
    return float((images.float() / 255 - mean).square().mean())


def _check(images: Tensor, originals: Tensor) -> None:
    """Refuse what is not two batches of one shape, at least one image each, floats in 0..1."""
    if images.shape != originals.shape or images.ndim != 4:
        raise UserError(
            f"images are {list(images.shape)} and originals {list(originals.shape)}: pass two "
            "equal shapes [N, C, H, W]."
        )
    for name, each in (("images", images), ("originals", originals)):
        if not each.is_floating_point() or not each.numel():
            raise UserError(f"{name} are {_called(each)}: pass floats in 0..1, at least one image.")
        if not each.isfinite().all():
            raise UserError(f"{name} hold nan or inf: the network has diverged.")
        if each.min() < 0 or each.max() > 1:
            raise UserError(
                f"{name} run from {each.min():.4g} to {each.max():.4g}; allowed: 0 to 1."
            )


def _called(images: Tensor) -> str:
    return f"{images.dtype} {list(images.shape)}".removeprefix("torch.")
