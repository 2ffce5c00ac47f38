import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

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


def test_ssim_as_scikit_image_has_it(pair):
    theirs = [
        structural_similarity(
            a[0].numpy(),
            b[0].numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(*pair, strict=True)
    ]
    # scikit-image leaves a border of five pixels out of its mean.
    assert ssim(*pair).tolist() == pytest.approx(theirs, abs=2e-2)
    assert ssim(pair[1], pair[1]).tolist() == pytest.approx([1] * 4)


def test_the_two_means_of_psnr_differ_as_jensen_says():
    clean = torch.zeros(2, 1, 16, 16)
    images = torch.stack([torch.full((1, 16, 16), 0.1), torch.full((1, 16, 16), 1.0)])
    found = quality(images, clean)
    assert found["psnr"] == pytest.approx((20 + 0) / 2)
    assert found["psnr_pooled"] == pytest.approx(-10 * math.log10((0.01 + 1) / 2))
    assert found["mse"] == pytest.approx(0.505)


def test_equal_images_have_a_finite_psnr(pair):
    assert quality(pair[1], pair[1])["psnr"] == pytest.approx(100)


def test_what_cannot_be_compared_is_refused(pair):
    with pytest.raises(UserError, match="equal shapes"):
        squared_error(pair[0], pair[1][:2])
    with pytest.raises(UserError, match="diverged"):
        squared_error(pair[0] * np.nan, pair[1])


def test_the_mean_image_misses_by_the_variance_where_the_images_are_its_own():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    assert mean_image_error(images, images) == pytest.approx(0.25)
    assert mean_image_error(images[:1], images[1:]) == pytest.approx(1)
