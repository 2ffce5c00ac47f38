import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from fewlabels.errors import UserError
from fewlabels.learn.image_quality import mean_image_error, psnr, quality, squared_error, ssim


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(4, 1, 28, 28, generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    return (clean + 0.2 * noise).clamp(0, 1), clean


def test_psnr_by_hand_and_as_scikit_image_has_it(pair):
    assert psnr(torch.tensor([1.0, 0.1, 0.01])).tolist() == pytest.approx([0, 10, 20])
    ours = psnr(squared_error(*pair))
    theirs = [
        peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=1.0)
        for a, b in zip(*pair, strict=True)
    ]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-4)


def digits(level: float):
    """Twenty bright bars in wide empty margins, as MNIST's digits are, with clipped noise."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.zeros(20, 1, 28, 28)
    clean[:, :, 8:20, 12:16] = 1
    clean[10:, :, 8:11, 9:20] = 0.8
    return (clean + level * torch.randn(clean.shape, generator=generator)).clamp(0, 1), clean


def by_hand(image: np.ndarray, original: np.ndarray) -> float:
    """SSIM of two images [H, W] as the paper writes it down, place by place."""
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for top in range(len(image) - 10):
        for left in range(image.shape[1] - 10):
            x, y = (each[top : top + 11, left : left + 11] for each in (image, original))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            both = (window * (x - mx) * (y - my)).sum()
            light = (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
            values.append(light * (2 * both + 0.03**2) / (vx + vy + 0.03**2))
    return float(np.mean(values))


@pytest.mark.parametrize("level", [0.2, 0.4])
def test_ssim_is_the_papers_also_where_borders_are_empty(level):
    images, clean = digits(level)
    theirs = [
        structural_similarity(
            a[0].numpy(),
            b[0].numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(images, clean, strict=True)
    ]
    assert ssim(images, clean).tolist() == pytest.approx(theirs, abs=1e-4)
    hand = [by_hand(a[0].numpy(), b[0].numpy()) for a, b in zip(images[:2], clean[:2], strict=True)]
    assert ssim(images, clean)[:2].tolist() == pytest.approx(hand, abs=1e-4)
    # The convention that this book printed before: it cannot be told apart on noise alone.
    padded = structural_similarity_index_measure(images, clean, data_range=1.0).item()
    assert padded < ssim(images, clean).mean() - 0.1


def test_ssim_by_hand_for_constant_images():
    images, clean = torch.full((1, 3, 16, 20), 0.5), torch.full((1, 3, 16, 20), 0.25)
    expected = (2 * 0.125 + 1e-4) / (0.25 + 0.0625 + 1e-4)
    assert ssim(images, clean).item() == pytest.approx(expected, abs=1e-5)
    assert ssim(clean, clean).item() == pytest.approx(1)


def test_the_two_means_of_psnr_differ_as_jensen_says():
    clean = torch.zeros(2, 1, 16, 16)
    images = torch.stack([torch.full((1, 16, 16), 0.1), torch.full((1, 16, 16), 1.0)])
    found = quality(images, clean)
    assert found["psnr"] == pytest.approx((20 + 0) / 2)
    assert found["psnr_pooled"] == pytest.approx(-10 * math.log10((0.01 + 1) / 2))
    assert found["mse"] == pytest.approx(0.505)


def test_equal_images_have_a_finite_psnr(pair):
    assert quality(pair[1], pair[1])["psnr"] == pytest.approx(100)


BYTES = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
FLOATS = torch.zeros(2, 1, 16, 16)


@pytest.mark.parametrize(
    ("images", "originals", "told"),
    [
        (FLOATS, FLOATS[:1], r"equal shapes"),
        (FLOATS[:, 0], FLOATS[:, 0], r"equal shapes \[N, C, H, W\]"),
        (BYTES, BYTES + 1, r"images are uint8 \[2, 1, 16, 16\]: pass floats in 0..1"),
        (FLOATS, BYTES, r"originals are uint8"),
        (FLOATS[:0], FLOATS[:0], r"at least one image"),
        (FLOATS + 255, FLOATS, r"images run from 255 to 255; allowed: 0 to 1"),
        (FLOATS, FLOATS - 0.1, r"originals run from -0.1"),
        (FLOATS * np.nan, FLOATS, r"images hold nan or inf: the network has diverged"),
    ],
)
@pytest.mark.parametrize("measure", [squared_error, ssim, quality])
def test_what_cannot_be_compared_is_refused(measure, images, originals, told):
    with pytest.raises(UserError, match=told):
        measure(images, originals)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(UserError, match="needs 11 pixels"):
        ssim(FLOATS[..., :10], FLOATS[..., :10])


@pytest.mark.parametrize("train", [FLOATS, BYTES[:0], BYTES[:, :, :8], BYTES[0]])
def test_the_mean_image_needs_bytes_of_one_shape(train):
    with pytest.raises(UserError, match="images are"):
        mean_image_error(train, BYTES)


def test_the_mean_image_misses_by_the_variance_where_the_images_are_its_own():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    assert mean_image_error(images, images) == pytest.approx(0.25)
    assert mean_image_error(images[:1], images[1:]) == pytest.approx(1)
